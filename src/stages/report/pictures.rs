//! Pictures that a page can hold: small JPEG, within a budget.

use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::DynamicImage;
use image::codecs::jpeg::JpegEncoder;

/// How small.
pub(super) struct Limit {
    /// Longer side, pixels.
    pub side_px: u32,
    /// Bytes of the JPEG.
    pub bytes: usize,
}

/// Tissue stays recognisable.
pub(super) const JPEG: Limit = Limit { side_px: 320, bytes: 25_000 };
/// Of 100, the first that is small enough; the last one at half the side where none is.
const QUALITIES: [u8; 4] = [80, 65, 50, 35];

/// The picture as JPEG within `limit`, base64.
///
/// # Errors
/// No readable picture.
pub(super) fn shrunk(path: &Path, limit: &Limit) -> Result<String> {
    let picture = image::open(path).context("it is no readable picture")?;
    let within = |side: u32| {
        let small = if picture.width().max(picture.height()) > side { picture.thumbnail(side, side) } else { picture.clone() };
        DynamicImage::ImageRgb8(small.to_rgb8())
    };
    let encoded = |small: &DynamicImage, quality: u8| {
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(Cursor::new(&mut bytes), quality).encode_image(small).map(|()| bytes)
    };
    let small = within(limit.side_px);
    for quality in QUALITIES {
        let bytes = encoded(&small, quality)?;
        if bytes.len() <= limit.bytes {
            return Ok(STANDARD.encode(bytes));
        }
    }
    Ok(STANDARD.encode(encoded(&within(limit.side_px / 2), QUALITIES[QUALITIES.len() - 1])?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_keeps_to_its_budget() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("noise.png");
        // Noise is what JPEG can do least with.
        let noise = |x: u32, y: u32| image::Rgb([x * 7919 % 251, y * 104_729 % 241, (x * y) * 31 % 239].map(|v| v as u8));
        image::RgbImage::from_fn(900, 700, noise).save(&path).unwrap();
        let jpeg = STANDARD.decode(shrunk(&path, &JPEG).unwrap()).unwrap();
        let read = image::load_from_memory(&jpeg).unwrap();
        assert!(jpeg.len() <= JPEG.bytes && read.width() <= JPEG.side_px && read.width() > read.height(), "{} bytes", jpeg.len());
        assert!(shrunk(&folder.path().join("absent.png"), &JPEG).is_err());
    }
}
