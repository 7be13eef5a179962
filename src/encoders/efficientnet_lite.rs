//! EfficientNet-Lite0: the default encoder, because real ImageNet weights of it are free to use and small (1280-d, 4.7 M parameters).
//!
//! Tan & Le 2019 in the Lite form for small devices: inverted residuals with ReLU6, without squeeze-and-excitation.
//! Names, padding and normalisation as `efficientnet-lite-pytorch` 0.1.0, whose weights it loads.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tch::{Tensor, nn};

use super::Encoder;
use super::blocks::{self, ConvNorm, Follows, Norm, Padding, Shape};
use crate::torch::c10d::Gloo;

/// Settings of EfficientNet-Lite0: none, its name says everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct EfficientNetLite0Settings {}

const NORM: Norm = Norm { epsilon: 1e-3, momentum: 0.01 };
const STEM: i64 = 32;
pub(super) const HEAD: i64 = 1280;

/// A stage: blocks, kernel side, stride of its first block, expansion inside a block, output channels.
struct Stage(usize, i64, i64, i64, i64);

const STAGES: [Stage; 7] = [
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
];

/// Stem, sixteen inverted residuals, 1×1 head.
pub struct EfficientNetLite0 {
    stem: ConvNorm,
    blocks: Vec<InvertedResidual>,
    head: ConvNorm,
}

impl EfficientNetLite0 {
    /// Creates the variables under `path`.
    pub fn new(path: &nn::Path) -> Self {
        let stem = layer(path, "_conv_stem", "_bn0", Shape { inputs: 3, outputs: STEM, kernel: 3, stride: 2, ..SAME });
        let mut channels = STEM;
        let mut blocks = Vec::new();
        for Stage(count, kernel, stride, expansion, outputs) in STAGES {
            for index in 0..count {
                let path = path.sub("_blocks").sub(blocks.len());
                let stride = if index == 0 { stride } else { 1 };
                blocks.push(InvertedResidual::new(&path, channels, outputs, kernel, stride, expansion));
                channels = outputs;
            }
        }
        let head = layer(path, "_conv_head", "_bn1", Shape { inputs: channels, outputs: HEAD, ..SAME });
        Self { stem, blocks, head }
    }

    /// The last feature map, `[B,3,H,W]` → `[B,1280,h,w]`.
    pub fn map(&self, images: &Tensor, train: bool) -> Tensor {
        let stem = self.stem.forward(images, Follows::Relu6, train);
        let map = self.blocks.iter().fold(stem, |map, block| block.forward(map, train));
        self.head.forward(&map, Follows::Relu6, train)
    }
}

impl EfficientNetLite0 {
    fn layers(&mut self) -> impl Iterator<Item = &mut ConvNorm> {
        let blocks = self.blocks.iter_mut().flat_map(|block| block.expand.iter_mut().chain([&mut block.depthwise, &mut block.project]));
        [&mut self.stem, &mut self.head].into_iter().chain(blocks)
    }
}

impl Encoder for EfficientNetLite0 {
    fn embed(&self, images: &Tensor, train: bool) -> Tensor {
        super::global_average(&self.map(images, train))
    }

    fn width(&self) -> i64 {
        HEAD
    }

    fn freeze(&mut self) {
        self.layers().for_each(ConvNorm::freeze);
    }

    fn synchronise(&mut self, ranks: &Arc<Gloo>) {
        self.layers().for_each(|layer| layer.synchronise(ranks));
    }
}

/// 1×1 to many channels, one spatial kernel for each of them, 1×1 back to few.
struct InvertedResidual {
    expand: Option<ConvNorm>,
    depthwise: ConvNorm,
    project: ConvNorm,
    skip: bool,
}

impl InvertedResidual {
    fn new(path: &nn::Path, inputs: i64, outputs: i64, kernel: i64, stride: i64, expansion: i64) -> Self {
        let inner = inputs * expansion;
        let depthwise = Shape { inputs: inner, outputs: inner, kernel, stride, groups: inner, ..SAME };
        Self {
            expand: (expansion != 1).then(|| layer(path, "_expand_conv", "_bn0", Shape { inputs, outputs: inner, ..SAME })),
            depthwise: layer(path, "_depthwise_conv", "_bn1", depthwise),
            project: layer(path, "_project_conv", "_bn2", Shape { inputs: inner, outputs, ..SAME }),
            skip: stride == 1 && inputs == outputs,
        }
    }

    fn forward(&self, input: Tensor, train: bool) -> Tensor {
        let wide = match &self.expand {
            Some(expand) => expand.forward(&input, Follows::Relu6, train),
            None => input.shallow_clone(),
        };
        let spread = self.depthwise.forward(&wide, Follows::Relu6, train);
        if self.skip { self.project.add_to(input, &spread, false, train) } else { self.project.forward(&spread, Follows::Nothing, train) }
    }
}

// METHOD: the reference computes TensorFlow's padding once, for 224 px; for every even map the result is the same, so
// computing it from the map at hand agrees with it at 224 px and stays TensorFlow's own rule at other sizes.
const SAME: Shape = Shape { inputs: 0, outputs: 0, kernel: 1, stride: 1, padding: Padding::Same, groups: 1 };

fn layer(path: &nn::Path, convolution: &str, normalisation: &str, shape: Shape) -> ConvNorm {
    ConvNorm::new(&path.sub(convolution), &path.sub(normalisation), shape, NORM, blocks::framework_default())
}
