//! ResNet for 32-px images: 18, 34, 50, 101, 152 with a 3×3 stem and no pooling before the stages.
//!
//! The networks of the NCMI paper's CIFAR-100 experiments; names and start values as its released code.

use std::sync::Arc;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Tensor, nn};

use super::Encoder;
use super::blocks::{self, ConvNorm, Follows, Norm, Shape};
use super::residual::{Depth, Naming, Stages};
use crate::torch::c10d::Gloo;

/// Settings of a CIFAR ResNet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CifarResNetSettings {
    /// Channels of the stem; every other layer is as wide in proportion. 64 is the published network.
    pub width: i64,
}

impl Default for CifarResNetSettings {
    fn default() -> Self {
        Self { width: 64 }
    }
}

impl CifarResNetSettings {
    /// # Errors
    /// A width that makes no network, or one that no machine holds.
    pub(super) fn check(&self) -> Result<()> {
        ensure!((1..=1024).contains(&self.width), "the width of a CIFAR ResNet is {}; it must lie from 1 to 1024", self.width);
        Ok(())
    }
}

/// 3×3 stem at stride 1, residual stages.
pub struct CifarResNet {
    stem: ConvNorm,
    stages: Stages,
}

impl CifarResNet {
    /// Creates the variables under `path`, for a stem of `width` channels.
    pub fn new(path: &nn::Path, depth: Depth, width: i64) -> Self {
        let init = blocks::framework_default();
        let stem = path.sub("conv1");
        let stem = ConvNorm::new(&stem.sub(0), &stem.sub(1), Shape::dense(3, width, 3, 1), Norm::DEFAULT, init);
        Self { stem, stages: Stages::new::<Released>(path, depth, width, init) }
    }
}

impl Encoder for CifarResNet {
    fn embed(&self, images: &Tensor, train: bool) -> Tensor {
        let map = self.stem.forward(images, Follows::Relu, train);
        super::global_average(&self.stages.forward(map, train))
    }

    fn width(&self) -> i64 {
        self.stages.width
    }

    fn freeze(&mut self) {
        self.stem.freeze();
        self.stages.layers().for_each(ConvNorm::freeze);
    }

    fn synchronise(&mut self, ranks: &Arc<Gloo>) {
        self.stem.synchronise(ranks);
        self.stages.layers().for_each(|layer| layer.synchronise(ranks));
    }
}

struct Released;

impl Naming for Released {
    fn stage<'a>(root: &nn::Path<'a>, stage: usize) -> nn::Path<'a> {
        root.sub(format!("conv{}_x", stage + 2))
    }

    /// Positions in a sequence of convolution, normalisation, ReLU.
    fn layer<'a>(block: &nn::Path<'a>, index: usize) -> [nn::Path<'a>; 2] {
        let sequence = block.sub("residual_function");
        [sequence.sub(3 * index), sequence.sub(3 * index + 1)]
    }

    fn shortcut<'a>(block: &nn::Path<'a>) -> [nn::Path<'a>; 2] {
        [block.sub("shortcut").sub(0), block.sub("shortcut").sub(1)]
    }
}

#[cfg(test)]
mod tests {
    use tch::nn::VarStore;
    use tch::{Device, Kind};

    use super::super::EncoderSettings;
    use super::super::resnet::{RESNET18, RESNET50};
    use super::*;

    #[test]
    fn a_narrow_network_is_narrow_throughout() {
        let images = Tensor::zeros([2, 3, 32, 32], (Kind::Float, Device::Cpu));
        let width = CifarResNetSettings { width: 16 };
        let named = [EncoderSettings::CifarResNet18(width.clone()), EncoderSettings::CifarResNet50(width)];
        for (depth, settings, expected) in [(RESNET18, &named[0], 128), (RESNET50, &named[1], 512)] {
            let store = VarStore::new(Device::Cpu);
            let network = CifarResNet::new(&store.root(), depth, 16);
            assert_eq!(network.embed(&images, false).size(), [2, expected]);
            assert_eq!((network.width(), settings.width()), (expected, Some(expected)));
        }
        let said = CifarResNetSettings { width: 0 }.check().unwrap_err().to_string();
        assert!(said.contains("is 0; it must lie from 1"), "{said}");
    }
}
