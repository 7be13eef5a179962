//! The one way pixels are shrunk, for tiles, masks and thumbnails alike.

use std::borrow::Cow;

use anyhow::Result;
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;

use crate::ground::units::Size;

/// `image` at `size`; returned as it is where that is its size.
///
/// METHOD: bicubic (a = −0.5) with its support widened by the shrink factor, the filter of Pillow's BICUBIC: the same
/// frequencies are left from slides of any pixel size, without aliasing. Whole-number arithmetic: the same bytes on
/// every processor.
///
/// # Errors
/// An empty image or size.
pub(super) fn shrink(image: Cow<'_, RgbImage>, size: Size) -> Result<Cow<'_, RgbImage>> {
    let (width, height) = image.dimensions();
    if (width, height) == (size.width, size.height) {
        return Ok(image);
    }
    let source = ImageRef::new(width, height, image.as_raw(), PixelType::U8x3)?;
    let mut pixels = RgbImage::new(size.width, size.height);
    let mut target = Image::from_slice_u8(size.width, size.height, pixels.as_mut(), PixelType::U8x3)?;
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom)).use_alpha(false);
    Resizer::new().resize(&source, &mut target, &options)?;
    Ok(Cow::Owned(pixels))
}

/// `size` times `factor`, at least one pixel.
pub(super) fn scaled((width, height): (u32, u32), factor: f64) -> Size {
    let length = |length: u32| ((f64::from(length) * factor).round() as u32).max(1);
    Size { width: length(width), height: length(height) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn flat_colour_stays_and_fine_stripes_average() {
        let half = Size { width: 16, height: 16 };
        let flat = shrink(Cow::Owned(RgbImage::from_pixel(32, 32, Rgb([200, 100, 50]))), half).unwrap();
        assert!(flat.pixels().all(|pixel| pixel.0 == [200, 100, 50]));
        let stripes = RgbImage::from_fn(32, 32, |x, _| Rgb([if x % 2 == 0 { 255 } else { 0 }; 3]));
        let inner = shrink(Cow::Owned(stripes), half).unwrap();
        assert!((2..14).all(|x| (120..=135).contains(&inner.get_pixel(x, 8).0[0])), "no aliasing");
    }
}
