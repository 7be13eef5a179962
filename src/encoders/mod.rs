//! Networks that turn images into feature vectors; frozen (weights loaded, `wsi extract`) or trained (CIFAR), by the same code.
//!
//! A network creates its variables under a `tch::nn::Path` with exactly the names of the reference's state dict, so
//! that a published checkpoint loads by name.

mod blocks;
pub mod cifar_resnet;
pub mod efficientnet_lite;
pub mod lenet;
pub mod pixels;
mod residual;
pub mod resnet;

use tch::{Tensor, nn};

pub use pixels::{Normalisation, prepare};

/// A network from images to vectors.
pub trait Encoder: Send {
    /// Normalised images `[B,3,H,W]`, f32, to vectors `[B,E]`; `train` uses and updates the batch's statistics.
    fn embed(&self, images: &Tensor, train: bool) -> Tensor;

    /// E, the width of a vector.
    fn width(&self) -> i64;

    /// Prepares for evaluation alone, once the weights are loaded: faster, and equal up to rounding. `train` is ignored from now on.
    fn freeze(&mut self);
}

crate::registry! {
    /// Encoders, by the `name` in `[extract.encoder]`.
    pub enum EncoderSettings {
        "efficientnet-lite0" => EfficientNetLite0(efficientnet_lite::EfficientNetLite0Settings),
        "resnet18" => ResNet18(resnet::ResNetSettings),
        "resnet34" => ResNet34(resnet::ResNetSettings),
        "resnet50" => ResNet50(resnet::ResNetSettings),
        "resnet50-trunc" => ResNet50Trunc(resnet::ResNetSettings),
        "resnet101" => ResNet101(resnet::ResNetSettings),
        "cifar-resnet18" => CifarResNet18(cifar_resnet::CifarResNetSettings),
        "cifar-resnet34" => CifarResNet34(cifar_resnet::CifarResNetSettings),
        "cifar-resnet50" => CifarResNet50(cifar_resnet::CifarResNetSettings),
        "cifar-resnet101" => CifarResNet101(cifar_resnet::CifarResNetSettings),
        "lenet" => LeNet(lenet::LeNetSettings),
    } default "efficientnet-lite0"
}

impl EncoderSettings {
    /// Creates the network's variables, at their random start, under `path`.
    pub fn build(&self, path: &nn::Path) -> Box<dyn Encoder> {
        use cifar_resnet::CifarResNet;
        use resnet::{RESNET18, RESNET34, RESNET50, RESNET50_TRUNC, RESNET101, ResNet};
        match self {
            Self::EfficientNetLite0(_) => Box::new(efficientnet_lite::EfficientNetLite0::new(path)),
            Self::ResNet18(_) => Box::new(ResNet::new(path, RESNET18)),
            Self::ResNet34(_) => Box::new(ResNet::new(path, RESNET34)),
            Self::ResNet50(_) => Box::new(ResNet::new(path, RESNET50)),
            Self::ResNet50Trunc(_) => Box::new(ResNet::new(path, RESNET50_TRUNC)),
            Self::ResNet101(_) => Box::new(ResNet::new(path, RESNET101)),
            Self::CifarResNet18(_) => Box::new(CifarResNet::new(path, RESNET18)),
            Self::CifarResNet34(_) => Box::new(CifarResNet::new(path, RESNET34)),
            Self::CifarResNet50(_) => Box::new(CifarResNet::new(path, RESNET50)),
            Self::CifarResNet101(_) => Box::new(CifarResNet::new(path, RESNET101)),
            Self::LeNet(_) => Box::new(lenet::LeNet::new(path)),
        }
    }

    /// Beginnings of names in a full published checkpoint that this network has no use for: its classifier and cut stages.
    pub fn unused(&self) -> &'static [&'static str] {
        match self {
            Self::EfficientNetLite0(_) => &["_fc."],
            Self::ResNet50Trunc(_) => &["layer4.", "fc."],
            Self::LeNet(_) => &["attention.", "attention_", "classifier."],
            _ => &["fc."],
        }
    }

    /// Mean and standard deviation of the images that the network was, or is to be, trained on.
    pub fn normalisation(&self) -> Normalisation {
        match self {
            Self::LeNet(_) => Normalisation::MNIST,
            _ if self.is_cifar() => Normalisation::CIFAR100,
            _ => Normalisation::IMAGENET,
        }
    }

    /// Side of the images that the network expects, pixels.
    pub fn input_px(&self) -> u32 {
        match self {
            Self::LeNet(_) => lenet::SIDE as u32,
            _ if self.is_cifar() => 32,
            _ => 224,
        }
    }

    fn is_cifar(&self) -> bool {
        matches!(self, Self::CifarResNet18(_) | Self::CifarResNet34(_) | Self::CifarResNet50(_) | Self::CifarResNet101(_))
    }
}

/// `[B,E,h,w]` → `[B,E]`.
fn global_average(map: &Tensor) -> Tensor {
    map.mean_dim(&[2i64, 3][..], false, map.kind())
}

/// The same `[A,B,h,w]` with B varying fastest in memory.
fn channels_last(tensor: &Tensor) -> Tensor {
    tensor.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}
