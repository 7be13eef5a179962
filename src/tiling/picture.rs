//! Pictures for people: the slide's thumbnail, and the same with its mask and the tiles that were kept.

use anyhow::Result;
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};

use super::shrink::{scaled, shrink};
use super::survey::Survey;

/// Longest side, pixels.
const SIDE_PX: u32 = 1024;
const JPEG_QUALITY: u8 = 85;

const TISSUE: Rgb<u8> = Rgb([0, 150, 60]);
const TILE: Rgb<u8> = Rgb([20, 60, 160]);

/// The whole slide, at most 1024 px wide and high.
///
/// # Errors
/// None in practice: an overview has pixels.
pub fn thumbnail(survey: &Survey) -> Result<RgbImage> {
    let (width, height) = survey.overview.dimensions();
    let factor = (f64::from(SIDE_PX) / f64::from(width.max(height))).min(1.0);
    shrink(survey.overview.clone(), scaled((width, height), factor))
}

/// The thumbnail with the background paled, a green line around tissue, and a blue frame around every tile kept; on `thumbnail`.
pub fn visualization(survey: &Survey, thumbnail: &RgbImage) -> RgbImage {
    let mut image = thumbnail.clone();
    let (width, height) = image.dimensions();
    let mask = survey.mask.size();
    let tissue = |x: u32, y: u32| {
        survey.mask.at(
            (x as u64 * u64::from(mask.width) / u64::from(width)) as u32,
            (y as u64 * u64::from(mask.height) / u64::from(height)) as u32,
        )
    };
    for (x, y, pixel) in image.enumerate_pixels_mut() {
        let here = tissue(x, y);
        let edge = here != tissue(x.saturating_sub(1), y) || here != tissue(x, y.saturating_sub(1));
        if edge {
            *pixel = TISSUE;
        } else if !here {
            pixel.0 = pixel.0.map(|value| value / 2 + 96);
        }
    }
    let plan = &survey.plan;
    let scale = f64::from(width) / f64::from(plan.canvas.width);
    let side = f64::from(plan.window.side_level0_px);
    for coord in &plan.coords {
        let edge = |at: i64, end: f64, length: u32| (((at as f64 + end) * scale) as u32).min(length - 1);
        let (left, right) = (edge(coord.x, 0.0, width), edge(coord.x, side, width));
        let (top, bottom) = (edge(coord.y, 0.0, height), edge(coord.y, side, height));
        for x in left..=right {
            image.put_pixel(x, top, TILE);
            image.put_pixel(x, bottom, TILE);
        }
        for y in top..=bottom {
            image.put_pixel(left, y, TILE);
            image.put_pixel(right, y, TILE);
        }
    }
    image
}

/// The picture as JPEG bytes.
///
/// # Errors
/// A picture of more than 65,535 px, which neither of the above makes.
pub fn jpeg(image: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).encode_image(image)?;
    Ok(bytes)
}
