//! A region painted as a picture: what is not black is inside.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use image::{DynamicImage, ImageDecoder, ImageReader};

use crate::ground::units::Size;

/// METHOD: a canvas of 100,000 px at 12 px per pixel of the picture; finer borders than that are drawn as outlines.
const MOST_PIXELS: u64 = 1 << 26;

/// Which pixels of a picture are painted.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// In pixels of the picture.
    pub size: Size,
    /// Row by row.
    pub inside: Vec<bool>,
}

/// Reads a PNG or JPEG. A pixel is inside if any of its colour channels is not 0 and it is not fully transparent.
///
/// Memory: at most 64 Mpx, of up to 9 bytes each while it is read.
///
/// # Errors
/// Names the file: no picture, one of too many pixels.
pub fn read(path: &Path) -> Result<Picture> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let context = || format!("cannot read the mask '{name}'");
    let decoder =
        ImageReader::open(path).with_context(context)?.with_guessed_format().with_context(context)?.into_decoder().with_context(context)?;
    let (width, height) = decoder.dimensions();
    ensure!(
        u64::from(width) * u64::from(height) <= MOST_PIXELS,
        "the mask '{name}' is {width}x{height} px; at most {} Mpx are read: make it coarser, or draw outlines",
        MOST_PIXELS >> 20
    );
    let image = DynamicImage::from_decoder(decoder).with_context(context)?;
    let colour = image.color();
    let channel = usize::from(colour.bytes_per_pixel() / colour.channel_count());
    let painted = |pixel: &[u8]| {
        let (colours, alpha) = pixel.split_at(if colour.has_alpha() { pixel.len() - channel } else { pixel.len() });
        colours.iter().any(|&byte| byte != 0) && (alpha.is_empty() || alpha.iter().any(|&byte| byte != 0))
    };
    let inside = image.as_bytes().chunks_exact(colour.bytes_per_pixel().into()).map(painted).collect();
    Ok(Picture { size: Size { width, height }, inside })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage};

    #[test]
    fn anything_but_black_and_transparent_is_inside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.png");
        let inside = || read(&path).unwrap().inside;
        GrayImage::from_fn(3, 1, |x, _| Luma([x as u8])).save(&path).unwrap();
        assert_eq!(inside(), [false, true, true]);
        RgbImage::from_fn(2, 2, |x, y| Rgb([0, 0, (x * y) as u8])).save(&path).unwrap();
        assert_eq!((inside(), read(&path).unwrap().size), (vec![false, false, false, true], Size { width: 2, height: 2 }));
        RgbaImage::from_fn(2, 1, |x, _| Rgba([255, 0, 0, x as u8])).save(&path).unwrap();
        assert_eq!(inside(), [false, true]);
        image::ImageBuffer::<Luma<u16>, _>::from_fn(2, 1, |x, _| Luma([x as u16 * 256])).save(&path).unwrap();
        assert_eq!(inside(), [false, true]);
    }

    #[test]
    fn what_is_no_picture_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.png");
        std::fs::write(&path, b"no picture").unwrap();
        let error = format!("{:#}", read(&path).unwrap_err());
        assert!(error.contains("mask.png") && !error.contains(folder.path().to_str().unwrap()), "{error}");
    }
}
