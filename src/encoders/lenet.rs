//! The digit network of Ilse et al. 2018: two convolutions 5×5 with 20 and 50 maps, each with a ReLU and a 2×2 maximum, and a layer
//! of 500 units with a ReLU. Names as the released code of the paper.

use serde::{Deserialize, Serialize};
use tch::{Tensor, nn};

use super::Encoder;
use crate::ground::linear::Linear;

/// Side of the images that the last layer fits, pixels.
pub const SIDE: i64 = 28;

const WIDTH: i64 = 500;
const MAPS: [i64; 2] = [20, 50];
const KERNEL: i64 = 5;

/// Settings of the digit network: none, its name says everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LeNetSettings {}

/// Two convolutions and a layer; `[B,3,28,28]` to `[B,500]`.
pub struct LeNet {
    convolutions: [Convolution; 2],
    last: Linear,
}

struct Convolution {
    weight: Tensor,
    bias: Tensor,
}

impl Convolution {
    /// Weight and bias are drawn from U(−1/√n, 1/√n), n the numbers that a unit sees: the framework's default.
    fn new(path: &nn::Path, maps_in: i64, maps_out: i64) -> Self {
        let bound = 1.0 / ((maps_in * KERNEL * KERNEL) as f64).sqrt();
        Self {
            weight: path.uniform("weight", &[maps_out, maps_in, KERNEL, KERNEL], -bound, bound),
            bias: path.uniform("bias", &[maps_out], -bound, bound),
        }
    }

    /// Convolution without a border, ReLU, the largest of each 2×2.
    fn forward(&self, maps: &Tensor) -> Tensor {
        maps.conv2d(&self.weight, Some(&self.bias), [1, 1], [0, 0], [1, 1], 1).relu().max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false)
    }
}

impl LeNet {
    /// Creates the variables under `path`.
    pub fn new(path: &nn::Path) -> Self {
        let first = path / "feature_extractor_part1";
        let side = MAPS.iter().fold(SIDE, |side, _| (side - KERNEL + 1) / 2);
        Self {
            convolutions: [Convolution::new(&(&first / "0"), 1, MAPS[0]), Convolution::new(&(&first / "3"), MAPS[0], MAPS[1])],
            last: Linear::new(&(path / "feature_extractor_part2" / "0"), MAPS[1] * side * side, WIDTH, true),
        }
    }
}

impl Encoder for LeNet {
    /// Digits are grey: of an image's channels it sees the mean.
    fn embed(&self, images: &Tensor, _train: bool) -> Tensor {
        let grey = images.mean_dim(&[1i64][..], true, images.kind());
        let maps = self.convolutions.iter().fold(grey, |maps, convolution| convolution.forward(&maps));
        self.last.forward(&maps.flatten(1, -1)).relu()
    }

    fn width(&self) -> i64 {
        WIDTH
    }

    fn freeze(&mut self) {}
}
