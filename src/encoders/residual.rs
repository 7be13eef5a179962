//! Residual stages, shared by the ImageNet and the CIFAR ResNets: same blocks, other stems and other names.
//!
//! He et al. 2016, in the form that everybody runs ("v1.5"): a bottleneck strides on its 3×3 convolution.

use tch::{Tensor, nn};

use super::blocks::{ConvNorm, Follows, Norm, Shape};

/// How deep a network is.
#[derive(Debug, Clone, Copy)]
pub struct Depth {
    /// Blocks of each stage; fewer than four stages cut the network short.
    pub blocks: &'static [usize],
    /// Bottlenecks (1×1, 3×3, 1×1, four times as wide at the end) instead of two 3×3.
    pub bottleneck: bool,
}

impl Depth {
    /// Channels of the last of four stages after a stem of `stem` channels.
    pub(super) const fn width(self, stem: i64) -> i64 {
        8 * stem * if self.bottleneck { 4 } else { 1 }
    }
}

/// Names that a reference gives to the parts of its blocks.
pub(super) trait Naming {
    /// Path of a stage, counted from 0.
    fn stage<'a>(root: &nn::Path<'a>, stage: usize) -> nn::Path<'a>;
    /// Paths of the convolution and the normalisation number `index` of a block.
    fn layer<'a>(block: &nn::Path<'a>, index: usize) -> [nn::Path<'a>; 2];
    /// Paths of the projecting shortcut.
    fn shortcut<'a>(block: &nn::Path<'a>) -> [nn::Path<'a>; 2];
}

/// All residual stages of a network.
pub(super) struct Stages {
    blocks: Vec<Residual>,
    /// Channels of the last map.
    pub(super) width: i64,
}

impl Stages {
    /// Widths `stem`, 2, 4 and 8 times that (times four for bottlenecks), strides 1, 2, 2, 2, after a stem of so many channels.
    pub(super) fn new<N: Naming>(root: &nn::Path, depth: Depth, stem: i64, init: nn::Init) -> Self {
        let mut width = stem;
        let mut blocks = Vec::new();
        for (stage, &count) in depth.blocks.iter().enumerate() {
            let path = N::stage(root, stage);
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let block = Residual::new::<N>(&path.sub(block), width, stem << stage, stride, depth.bottleneck, init);
                width = block.width;
                blocks.push(block);
            }
        }
        Self { blocks, width }
    }

    pub(super) fn forward(&self, images: Tensor, train: bool) -> Tensor {
        self.blocks.iter().fold(images, |map, block| block.forward(map, train))
    }

    pub(super) fn layers(&mut self) -> impl Iterator<Item = &mut ConvNorm> {
        self.blocks.iter_mut().flat_map(|block| block.layers.iter_mut().chain(&mut block.shortcut))
    }
}

struct Residual {
    layers: Vec<ConvNorm>,
    /// Where the block changes the shape, a 1×1 convolution follows with the sum.
    shortcut: Option<ConvNorm>,
    width: i64,
}

impl Residual {
    fn new<N: Naming>(path: &nn::Path, inputs: i64, channels: i64, stride: i64, bottleneck: bool, init: nn::Init) -> Self {
        let width = if bottleneck { 4 * channels } else { channels };
        let shapes = if bottleneck {
            vec![Shape::dense(inputs, channels, 1, 1), Shape::dense(channels, channels, 3, stride), Shape::dense(channels, width, 1, 1)]
        } else {
            vec![Shape::dense(inputs, channels, 3, stride), Shape::dense(channels, width, 3, 1)]
        };
        let new =
            |[convolution, normalisation]: [nn::Path; 2], shape| ConvNorm::new(&convolution, &normalisation, shape, Norm::DEFAULT, init);
        let layers = shapes.into_iter().enumerate().map(|(index, shape)| new(N::layer(path, index), shape)).collect();
        let changes = stride != 1 || inputs != width;
        let shortcut = changes.then(|| new(N::shortcut(path), Shape::dense(inputs, width, 1, stride)));
        Self { layers, shortcut, width }
    }

    fn forward(&self, input: Tensor, train: bool) -> Tensor {
        let (last, first) = self.layers.split_last().expect("a block has two or three layers");
        let map = first.iter().fold(input.shallow_clone(), |map, layer| layer.forward(&map, Follows::Relu, train));
        let shortcut = match &self.shortcut {
            Some(shortcut) => shortcut.forward(&input, Follows::Nothing, train),
            None => input,
        };
        last.add_to(shortcut, &map, true, train)
    }
}
