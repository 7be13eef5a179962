//! Resampling as torchvision's v2 transforms do it: libtorch's own operators, on bytes or on numbers in [0, 1].

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::kernel::Interpolation;
use super::{Resize, Window, window};
use crate::ground::units::Size;

/// Tiles `[count, height, width, 3]` as numbers in [0, 1], resampled: `[count,3,H,W]` with H and W of `to`.
///
/// # Errors
/// A failure of libtorch.
pub(super) fn resized(pixels: &[u8], count: usize, tile: Size, to: Size, resize: &Resize, device: Device) -> Result<Tensor> {
    let images = picture(pixels, count, tile)?.f_to_device(device)?.f_to_kind(Kind::Float)?.f_divide_scalar_(255.0)?;
    resampled(&images, tile, to, resize)
}

/// One tile `[height, width, 3]` resampled to `to`, bytes to bytes.
///
/// # Errors
/// A failure of libtorch.
pub(super) fn resized_bytes(pixels: &[u8], tile: Size, to: Size, resize: &Resize) -> Result<Vec<u8>> {
    let resampled = resampled(&picture(pixels, 1, tile)?, tile, to, resize)?;
    Ok(Vec::try_from(resampled.f_permute([0, 2, 3, 1])?.f_flatten(0, -1)?)?)
}

/// The centre crop to `seen` of `[N,3,H,W]`; zeros surround what is smaller.
///
/// # Errors
/// A failure of libtorch.
pub(super) fn cropped(images: &Tensor, seen: Size) -> Result<Tensor> {
    let (height, width) = (images.size()[2] as u32, images.size()[3] as u32);
    let Window { left, top, size } = window(Size { width, height }, seen);
    let shown = images.f_narrow(2, i64::from(top), i64::from(size.height))?.f_narrow(3, i64::from(left), i64::from(size.width))?;
    let (across, down) = (i64::from(seen.width - size.width), i64::from(seen.height - size.height));
    Ok(if across + down == 0 { shown } else { shown.f_constant_pad_nd([across / 2, across - across / 2, down / 2, down - down / 2])? })
}

/// `[count,3,height,width]`, channels last in memory.
fn picture(pixels: &[u8], count: usize, Size { width, height }: Size) -> Result<Tensor> {
    let shape = [count as i64, i64::from(height), i64::from(width), 3];
    Ok(Tensor::f_from_data_size(pixels, &shape, Kind::Uint8)?.f_permute([0, 3, 1, 2])?)
}

fn resampled(images: &Tensor, from: Size, to: Size, resize: &Resize) -> Result<Tensor> {
    if from == to {
        return Ok(images.shallow_clone());
    }
    let size = [i64::from(to.height), i64::from(to.width)];
    Ok(match (resize.interpolation, resize.antialias) {
        (Interpolation::Bilinear, true) => images.f_internal_upsample_bilinear2d_aa(size, false, None, None)?,
        (Interpolation::Bicubic, true) => images.f_internal_upsample_bicubic2d_aa(size, false, None, None)?,
        (Interpolation::Bilinear, false) => images.f_upsample_bilinear2d(size, false, None, None)?,
        (Interpolation::Bicubic, false) => images.f_upsample_bicubic2d(size, false, None, None)?,
    })
}
