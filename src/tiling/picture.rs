//! Pictures for people: the slide's thumbnail, and the same with its mask and the tiles that were kept.

use std::borrow::Cow;

use anyhow::Result;
use image::{Rgb, RgbImage};

use super::shrink::{scaled, shrink};
use super::survey::Survey;
use crate::ground::units::Size;
use crate::tissue::Mask;

/// Longest side of a thumbnail, pixels.
pub const THUMBNAIL_PX: u32 = 1024;
const JPEG_QUALITY: u8 = 85;

const TISSUE: Rgb<u8> = Rgb([0, 150, 60]);
const TILE: Rgb<u8> = Rgb([20, 60, 160]);
const DRAWN: Rgb<u8> = Rgb([220, 0, 200]);
/// Frames of smaller tiles would hide the tissue.
const SMALLEST_FRAME_PX: f64 = 6.0;

/// The whole slide, at most 1024 px wide and high.
///
/// # Errors
/// None in practice: an overview has pixels.
pub fn thumbnail(survey: &Survey) -> Result<RgbImage> {
    let (width, height) = survey.overview.dimensions();
    let factor = (f64::from(THUMBNAIL_PX) / f64::from(width.max(height))).min(1.0);
    Ok(shrink(Cow::Borrowed(&survey.overview), scaled((width, height), factor))?.into_owned())
}

/// The thumbnail with the background paled, a green line around tissue, a magenta one around what people drew, and a blue frame around
/// every tile kept (a blue tint where tiles are too small for one); on `thumbnail`.
pub fn visualization(survey: &Survey, thumbnail: &RgbImage) -> RgbImage {
    let mut image = thumbnail.clone();
    outline_tissue(&mut image, &survey.mask);
    let plan = &survey.plan;
    let scale = f64::from(image.width()) / f64::from(plan.canvas.width);
    let side = f64::from(plan.window.side_level0_px) * scale;
    for coord in &plan.coords {
        mark_tile(&mut image, coord.x as f64 * scale, coord.y as f64 * scale, side);
    }
    for polygon in survey.roi.iter().flat_map(|(roi, _)| roi.borders()) {
        for ring in std::iter::once(&polygon).chain(polygon.holes()) {
            ring.ring().windows(2).for_each(|edge| draw_line(&mut image, edge[0].map(|at| at * scale), edge[1].map(|at| at * scale)));
        }
    }
    image
}

/// Background paled, and a line two pixels wide along the mask's border.
fn outline_tissue(image: &mut RgbImage, mask: &Mask) {
    let (width, height) = image.dimensions();
    let cell = |at: u32, length: u32, cells: u32| (u64::from(at) * u64::from(cells) / u64::from(length)) as u32;
    let columns: Vec<u32> = (0..width).map(|x| cell(x, width, mask.size().width)).collect();
    let row = |y: u32| -> Vec<bool> {
        let y = cell(y, height, mask.size().height);
        columns.iter().map(|&x| mask.at(x, y)).collect()
    };
    let (mut above, mut here) = (row(0), row(0));
    for (y, pixels) in image.rows_mut().enumerate() {
        let below = row((y as u32 + 1).min(height - 1));
        for (x, pixel) in pixels.enumerate() {
            let beside = [here[x.saturating_sub(1)], here[(x + 1).min(here.len() - 1)], above[x], below[x]];
            if beside.iter().any(|&near| near != here[x]) {
                *pixel = TISSUE;
            } else if !here[x] {
                pixel.0 = pixel.0.map(|value| value / 2 + 96);
            }
        }
        (above, here) = (here, below);
    }
}

/// A frame that lets the tissue show through, or a tint.
fn mark_tile(image: &mut RgbImage, left: f64, top: f64, side: f64) {
    let edge = |at: f64, length: u32| (at as u32).min(length - 1);
    let (left, right) = (edge(left, image.width()), edge(left + side, image.width()));
    let (top, bottom) = (edge(top, image.height()), edge(top + side, image.height()));
    let mix = |image: &mut RgbImage, x: u32, y: u32, parts: u16| {
        let pixel = &mut image.get_pixel_mut(x, y).0;
        for (value, tile) in pixel.iter_mut().zip(TILE.0) {
            *value = ((u16::from(*value) * (4 - parts) + u16::from(tile) * parts) / 4) as u8;
        }
    };
    if side < SMALLEST_FRAME_PX {
        (top..bottom.max(top + 1)).for_each(|y| (left..right.max(left + 1)).for_each(|x| mix(image, x, y, 1)));
        return;
    }
    for x in left..=right {
        mix(image, x, top, 3);
        mix(image, x, bottom, 3);
    }
    for y in top + 1..bottom {
        mix(image, left, y, 3);
        mix(image, right, y, 3);
    }
}

/// A line two pixels wide; what lies beside the picture is cut off first, so that no line takes more steps than the picture is long.
fn draw_line(image: &mut RgbImage, [x0, y0]: [f64; 2], [x1, y1]: [f64; 2]) {
    let (width, height) = (f64::from(image.width()), f64::from(image.height()));
    let (mut from, mut to) = (0.0_f64, 1.0_f64);
    for (start, step, length) in [(x0, x1 - x0, width), (y0, y1 - y0, height)] {
        if step == 0.0 {
            if !(0.0..length).contains(&start) {
                return;
            }
            continue;
        }
        let (enters, leaves) = (-start / step, (length - start) / step);
        from = from.max(enters.min(leaves));
        to = to.min(enters.max(leaves));
    }
    if from > to {
        return;
    }
    let steps = ((x1 - x0).abs().max((y1 - y0).abs()) * (to - from)).ceil().max(1.0) as u32;
    for step in 0..=steps {
        let part = from + (to - from) * f64::from(step) / f64::from(steps);
        let (x, y) = ((x0 + (x1 - x0) * part) as u32, (y0 + (y1 - y0) * part) as u32);
        for (x, y) in [(x, y), (x + 1, y), (x, y + 1)] {
            if x < image.width() && y < image.height() {
                image.put_pixel(x, y, DRAWN);
            }
        }
    }
}

/// The picture at another size.
///
/// # Errors
/// An empty picture or size.
pub fn resized(image: &RgbImage, size: Size) -> Result<RgbImage> {
    Ok(shrink(Cow::Borrowed(image), size)?.into_owned())
}

/// The picture as JPEG bytes.
///
/// # Errors
/// A picture of more than 65,535 px, which neither of the above makes.
pub fn jpeg(image: &RgbImage) -> Result<Vec<u8>> {
    crate::slides::jpeg::encode(image, JPEG_QUALITY)
}
