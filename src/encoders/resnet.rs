//! ResNet for 224-px images, with torchvision's names: 18, 34, 50, 101, 152, and 50 cut after its third stage.
//!
//! The cut one is the usual feature extractor of slide pipelines without a foundation model (CLAM, TRIDENT): 1024-d.
//! He et al. 2016; layer order, names and start values as torchvision's `resnet`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tch::nn::init::{FanInOut, NonLinearity, NormalOrUniform};
use tch::{Tensor, nn};

use super::Encoder;
use super::blocks::{ConvNorm, Follows, Norm, Shape};
use super::residual::{Depth, Naming, Stages};
use crate::torch::c10d::Gloo;

/// Settings of a ResNet: none, its name says everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ResNetSettings {}

/// `resnet18`
pub const RESNET18: Depth = Depth { blocks: &[2, 2, 2, 2], bottleneck: false };
/// `resnet34`
pub const RESNET34: Depth = Depth { blocks: &[3, 4, 6, 3], bottleneck: false };
/// `resnet50`
pub const RESNET50: Depth = Depth { blocks: &[3, 4, 6, 3], bottleneck: true };
/// `resnet50-trunc`: without the last stage.
pub const RESNET50_TRUNC: Depth = Depth { blocks: &[3, 4, 6], bottleneck: true };
/// `resnet101`
pub const RESNET101: Depth = Depth { blocks: &[3, 4, 23, 3], bottleneck: true };
/// `resnet152`
pub const RESNET152: Depth = Depth { blocks: &[3, 8, 36, 3], bottleneck: true };

/// Channels of the stem.
const STEM: i64 = 64;

/// 7×7 stem at stride 2, max-pooling, residual stages.
pub struct ResNet {
    stem: ConvNorm,
    stages: Stages,
}

impl ResNet {
    /// Creates the variables under `path`.
    pub fn new(path: &nn::Path, depth: Depth) -> Self {
        let init = nn::Init::Kaiming { dist: NormalOrUniform::Normal, fan: FanInOut::FanOut, non_linearity: NonLinearity::ReLU };
        let stem = ConvNorm::new(&path.sub("conv1"), &path.sub("bn1"), Shape::dense(3, STEM, 7, 2), Norm::DEFAULT, init);
        Self { stem, stages: Stages::new::<Torchvision>(path, depth, STEM, init) }
    }

    /// The last feature map, `[B,3,H,W]` → `[B,E,h,w]`.
    pub fn map(&self, images: &Tensor, train: bool) -> Tensor {
        let map = self.stem.forward(images, Follows::Relu, train).max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false);
        self.stages.forward(map, train)
    }
}

impl Encoder for ResNet {
    fn embed(&self, images: &Tensor, train: bool) -> Tensor {
        super::global_average(&self.map(images, train))
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

struct Torchvision;

impl Naming for Torchvision {
    fn stage<'a>(root: &nn::Path<'a>, stage: usize) -> nn::Path<'a> {
        root.sub(format!("layer{}", stage + 1))
    }

    fn layer<'a>(block: &nn::Path<'a>, index: usize) -> [nn::Path<'a>; 2] {
        [block.sub(format!("conv{}", index + 1)), block.sub(format!("bn{}", index + 1))]
    }

    fn shortcut<'a>(block: &nn::Path<'a>) -> [nn::Path<'a>; 2] {
        [block.sub("downsample").sub(0), block.sub("downsample").sub(1)]
    }
}
