//! Networks that turn images into feature vectors; frozen (weights loaded, `wsi extract`) or trained (CIFAR), by the same code.
//!
//! A network creates its variables under a `tch::nn::Path` with exactly the names of the reference's state dict, so
//! that a published checkpoint loads by name.

mod blocks;
pub mod cifar_resnet;
pub mod efficientnet_lite;
pub mod exported;
pub mod lenet;
pub mod pixels;
mod precision;
pub mod preprocess;
mod residual;
pub mod resnet;
mod spec;
pub mod vit;

use std::sync::Arc;

use anyhow::{Result, bail};
use tch::{Tensor, nn};

use crate::torch::c10d::Gloo;

pub use pixels::{Normalisation, prepare, prepare_each};
pub use precision::Precision;
pub use spec::{EncoderSpec, GpuPrecision, Published};

/// A network from images to vectors.
pub trait Encoder: Send {
    /// Normalised images `[B,3,H,W]`, f32, to vectors `[B,E]`; `train` uses and updates the batch's statistics.
    fn embed(&self, images: &Tensor, train: bool) -> Tensor;

    /// E, the width of a vector.
    fn width(&self) -> i64;

    /// Images that a processor thread, alone with libtorch's own threads off, had best embed in one call: as many as pay for the way
    /// into each layer, as few as keep the maps in the cache. On two cores of a Zen 5 at once: EfficientNet-Lite0 embeds 150 tiles/s a core
    /// of 1, 176 of 2, 197 of 4, 184 of 6, 85 of 8; ResNet-50 without its last stage 35 of 2, 36.5 of 4, 34.7 of 6, 16 of 16.
    fn tiles_at_once(&self) -> usize {
        4
    }

    /// Prepares for evaluation alone, once the weights are loaded: faster, and equal up to rounding. `train` is ignored from now on.
    fn freeze(&mut self);

    /// From now on `embed` with `train` uses the statistics of all ranks' images. Without effect on a network without batch normalisation.
    fn synchronise(&mut self, _ranks: &Arc<Gloo>) {}
}

crate::registry! {
    /// Networks, by the `name` in `[extract.encoder.architecture]` and `[train.model.encoder]`.
    pub enum EncoderSettings {
        "efficientnet-lite0" => EfficientNetLite0(efficientnet_lite::EfficientNetLite0Settings),
        "resnet18" => ResNet18(resnet::ResNetSettings),
        "resnet34" => ResNet34(resnet::ResNetSettings),
        "resnet50" => ResNet50(resnet::ResNetSettings),
        "resnet50-trunc" => ResNet50Trunc(resnet::ResNetSettings),
        "resnet101" => ResNet101(resnet::ResNetSettings),
        "resnet152" => ResNet152(resnet::ResNetSettings),
        "cifar-resnet18" => CifarResNet18(cifar_resnet::CifarResNetSettings),
        "cifar-resnet34" => CifarResNet34(cifar_resnet::CifarResNetSettings),
        "cifar-resnet50" => CifarResNet50(cifar_resnet::CifarResNetSettings),
        "cifar-resnet101" => CifarResNet101(cifar_resnet::CifarResNetSettings),
        "cifar-resnet152" => CifarResNet152(cifar_resnet::CifarResNetSettings),
        "lenet" => LeNet(lenet::LeNetSettings),
        "vit" => Vit(vit::VitSettings),
        "exported" => Exported(exported::ExportedSettings),
    } default "efficientnet-lite0"
}

impl EncoderSettings {
    /// Creates the network's variables, at their random start, under `path`.
    ///
    /// # Errors
    /// Settings that make no network.
    pub fn build(&self, path: &nn::Path) -> Result<Box<dyn Encoder>> {
        use cifar_resnet::CifarResNet;
        use resnet::{RESNET18, RESNET34, RESNET50, RESNET50_TRUNC, RESNET101, RESNET152, ResNet};
        Ok(match self {
            Self::EfficientNetLite0(_) => Box::new(efficientnet_lite::EfficientNetLite0::new(path)),
            Self::ResNet18(_) => Box::new(ResNet::new(path, RESNET18)),
            Self::ResNet34(_) => Box::new(ResNet::new(path, RESNET34)),
            Self::ResNet50(_) => Box::new(ResNet::new(path, RESNET50)),
            Self::ResNet50Trunc(_) => Box::new(ResNet::new(path, RESNET50_TRUNC)),
            Self::ResNet101(_) => Box::new(ResNet::new(path, RESNET101)),
            Self::ResNet152(_) => Box::new(ResNet::new(path, RESNET152)),
            Self::CifarResNet18(of) => Box::new(CifarResNet::new(path, RESNET18, of.width)),
            Self::CifarResNet34(of) => Box::new(CifarResNet::new(path, RESNET34, of.width)),
            Self::CifarResNet50(of) => Box::new(CifarResNet::new(path, RESNET50, of.width)),
            Self::CifarResNet101(of) => Box::new(CifarResNet::new(path, RESNET101, of.width)),
            Self::CifarResNet152(of) => Box::new(CifarResNet::new(path, RESNET152, of.width)),
            Self::LeNet(_) => Box::new(lenet::LeNet::new(path)),
            Self::Vit(settings) => {
                settings.check(settings.image_px)?;
                Box::new(vit::VisionTransformer::new(path, settings))
            }
            Self::Exported(_) => bail!(exported::NO_FILE),
        })
    }

    /// Whether the network takes images of `input_px` × `input_px`.
    ///
    /// # Errors
    /// Names the numbers that do not fit together.
    pub fn check(&self, input_px: u32) -> Result<()> {
        match self {
            Self::Vit(settings) => settings.check(input_px),
            Self::CifarResNet18(settings)
            | Self::CifarResNet34(settings)
            | Self::CifarResNet50(settings)
            | Self::CifarResNet101(settings)
            | Self::CifarResNet152(settings) => settings.check(),
            _ => Ok(()),
        }
    }

    /// Beginnings of names in a full published checkpoint that this network has no use for: its classifier and cut stages.
    pub fn unused(&self) -> &'static [&'static str] {
        match self {
            Self::EfficientNetLite0(_) => &["_fc."],
            Self::ResNet50Trunc(_) => &["layer4.", "fc."],
            Self::LeNet(_) => &["attention.", "attention_", "classifier."],
            Self::Vit(_) => &["head."],
            _ => &["fc."],
        }
    }

    /// D without building the network, which may need gigabytes; `None` where only a file can tell.
    pub fn width(&self) -> Option<i64> {
        use resnet::{RESNET18, RESNET50};
        match self {
            Self::EfficientNetLite0(_) => Some(efficientnet_lite::HEAD),
            Self::ResNet18(_) | Self::ResNet34(_) => Some(512),
            Self::CifarResNet18(of) | Self::CifarResNet34(of) => Some(RESNET18.width(of.width)),
            Self::CifarResNet50(of) | Self::CifarResNet101(of) | Self::CifarResNet152(of) => Some(RESNET50.width(of.width)),
            Self::ResNet50Trunc(_) => Some(1024),
            Self::Vit(settings) => Some(settings.width()),
            Self::LeNet(_) | Self::Exported(_) => None,
            _ => Some(2048),
        }
    }
}

/// `[B,E,h,w]` → `[B,E]`.
fn global_average(map: &Tensor) -> Tensor {
    map.mean_dim(&[2i64, 3][..], false, map.kind())
}

/// The same `[A,B,h,w]` with B varying fastest in memory; itself where that is so already.
fn channels_last(tensor: &Tensor) -> Tensor {
    if tensor.stride()[1] == 1 {
        return tensor.shallow_clone();
    }
    tensor.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}
