//! From decoded pixels to a network's input: the one place where channel order, scale and normalisation are decided.

use anyhow::Result;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::preprocess::Levels;
use crate::ground::units::Size;
use crate::torch::numbers;

/// Mean and standard deviation of each colour channel (red, green, blue) of images in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalisation {
    /// Subtracted.
    pub mean: [f64; 3],
    /// Divided by.
    pub std: [f64; 3],
}

impl Normalisation {
    /// ImageNet's, as torchvision's models use it.
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

    /// CIFAR-100's training images, as the NCMI code uses it.
    pub const CIFAR100: Self = Self {
        mean: [0.507_075_159_237_132_3, 0.486_548_873_314_950_95, 0.440_917_843_367_034_3],
        std: [0.267_334_285_879_240_1, 0.256_438_462_917_088_3, 0.276_150_471_325_684_04],
    };

    /// CIFAR-10's training images: mean and deviation of all their pixels, by channel.
    pub const CIFAR10: Self = Self { mean: [0.491_399_68, 0.482_158_41, 0.446_530_91], std: [0.247_032_23, 0.243_485_13, 0.261_587_84] };

    /// MNIST's training digits; their one channel stands in all three.
    pub const MNIST: Self = Self { mean: [0.1307; 3], std: [0.3081; 3] };
}

/// Interleaved RGB bytes `[count, side, side, 3]` → `(x/255 − mean)/std` as `[count,3,side,side]`, f32, on `device`.
///
/// The result is a channels-last tensor: convolutions take it as it is, and nothing is copied to reorder it.
///
/// # Panics
/// `pixels` is not `count · side · side · 3` bytes long; libtorch has no memory left.
pub fn prepare(pixels: &[u8], count: usize, side: u32, normalisation: &Normalisation, device: Device) -> Tensor {
    assert_eq!(pixels.len(), count * side as usize * side as usize * 3, "bytes of {count} tiles of {side} px");
    let images = Levels::new(normalisation).apply(pixels, count, Size { width: side, height: side }, device, Kind::Float);
    images.unwrap_or_else(|error| panic!("{count} images of {side} px: {error}"))
}

/// [`prepare`] on the processor, of images that `image` makes: rayon's threads take one after the other, so that beside the result there are
/// no more of them in memory than threads.
///
/// # Errors
/// The first of those that `image` gives; no memory left.
///
/// # Panics
/// An image that is not `side · side · 3` bytes long.
pub fn prepare_each(
    count: usize,
    side: u32,
    normalisation: &Normalisation,
    image: impl Fn(usize) -> Result<Vec<u8>> + Sync,
) -> Result<Tensor> {
    let (levels, length) = (Levels::new(normalisation), side as usize * side as usize * 3);
    let shape = [count as i64, i64::from(side), i64::from(side), 3];
    let images = numbers::written(&shape, |numbers| {
        numbers.par_chunks_exact_mut(length).enumerate().try_for_each(|(index, numbers)| {
            levels.write(&image(index)?, numbers);
            Ok(())
        })
    })?;
    Ok(images.f_permute([0, 3, 1, 2])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_and_each_pixel_finds_its_place() {
        let (count, side) = (2usize, 3usize);
        let pixels: Vec<u8> = (0..count * side * side * 3).map(|byte| (byte * 4) as u8).collect();
        let normalisation = Normalisation::IMAGENET;
        let images = prepare(&pixels, count, side as u32, &normalisation, Device::Cpu);
        assert_eq!(images.size(), [2, 3, 3, 3]);
        for (place, &byte) in pixels.iter().enumerate() {
            let (channel, x, y, image) = (place % 3, place / 3 % side, place / 9 % side, place / 27);
            let expected = (f64::from(byte) / 255.0 - normalisation.mean[channel]) / normalisation.std[channel];
            let found = images.double_value(&[image, channel, y, x].map(|index| index as i64));
            assert!((found - expected).abs() < 2e-6, "{found} instead of {expected}");
        }
        let each = prepare_each(count, side as u32, &normalisation, |index| Ok(pixels[index * 27..][..27].to_vec())).unwrap();
        assert_eq!(each, images);
        assert!(prepare_each(1, side as u32, &normalisation, |_| anyhow::bail!("unreadable")).is_err());
    }
}
