//! The whole slide as one small picture, for tissue masks and thumbnails, in bounded memory whatever the pyramid looks like.

use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};
use image::{Rgb, RgbImage};
use rayon::prelude::*;

use super::Slide;
use crate::ground::units::{Coord, Size};

/// Side of the squares that are read one at a time, pixels of the level read.
const BLOCK_PX: u32 = 2048;

/// Side of the smallest square that is tried where the file is damaged.
const SMALLEST_BLOCK_PX: u32 = 256;

/// What unreadable places are painted with: grey, which is neither glass nor stain.
const UNREADABLE: Rgb<u8> = Rgb([128; 3]);

/// A slide's canvas, shrunk.
pub struct Overview {
    /// The picture; unreadable places are grey.
    pub image: RgbImage,
    /// Rectangles of the picture that could not be read: left, top, right, bottom in its pixels.
    pub unreadable: Vec<[u32; 4]>,
    /// The reader's reason for the first of them.
    pub reason: Option<String>,
    /// Level-0 pixels per pixel of the picture, horizontally and vertically the same.
    pub downsample: f64,
}

/// Reads the canvas at about `downsample` level-0 pixels per pixel, never coarser: the coarsest level that is fine
/// enough, averaged by a whole factor. A damaged block is read again in squares of 256 px, so that what is lost is known
/// closely; at the other end, a slide of which nothing can be read is an error. Blocks are read in parallel on the current rayon pool; a thread holds one block
/// of 2048² px (12 MiB), so that a flat file of many gigapixels needs no more memory than a pyramid.
///
/// # Errors
/// As [`Slide::read`], where not one block can be read.
pub fn overview(slide: &dyn Slide, downsample: f64) -> Result<Overview> {
    let levels = &slide.geometry().levels;
    let level = levels.iter().rposition(|level| level.downsample <= downsample).unwrap_or(0);
    let Size { width, height } = levels[level].size;
    let shrink = ((downsample / levels[level].downsample).floor() as u32).max(1);
    let block_px = BLOCK_PX.div_ceil(shrink) * shrink;

    let whole = Block { slide, level, downsample: levels[level].downsample, shrink };
    let corners: Vec<(u32, u32)> = (0..height.div_ceil(block_px))
        .flat_map(|row| (0..width.div_ceil(block_px)).map(move |column| (column * block_px, row * block_px)))
        .collect();
    let overview = Mutex::new(Overview {
        image: RgbImage::from_pixel(width.div_ceil(shrink), height.div_ceil(shrink), UNREADABLE),
        unreadable: Vec::new(),
        reason: None,
        downsample: levels[level].downsample * f64::from(shrink),
    });
    let failures: Vec<Vec<([u32; 4], String)>> = corners
        .par_iter()
        .map(|&(x, y)| {
            let parts = whole.read((x, y), Size { width: block_px.min(width - x), height: block_px.min(height - y) });
            let mut failures = Vec::new();
            for Part { at: (x, y), size, pixels } in parts {
                let (left, top) = (x / shrink, y / shrink);
                match pixels {
                    Ok(pixels) => {
                        let mut overview = overview.lock().unwrap_or_else(PoisonError::into_inner);
                        lay(&mut overview.image, &pixels, left, top);
                    }
                    Err(error) => {
                        let edges = [left, top, left + size.width.div_ceil(shrink), top + size.height.div_ceil(shrink)];
                        failures.push((edges, format!("{error:#}")));
                    }
                }
            }
            failures
        })
        .collect();

    let mut overview = overview.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (edges, reason) in failures.into_iter().flatten() {
        overview.unreadable.push(edges);
        overview.reason.get_or_insert(reason);
    }
    let lost: u64 = overview.unreadable.iter().map(|[left, top, right, bottom]| u64::from(right - left) * u64::from(bottom - top)).sum();
    match overview.reason {
        Some(reason) if lost >= u64::from(overview.image.width()) * u64::from(overview.image.height()) => bail!(reason),
        reason => Ok(Overview { reason, ..overview }),
    }
}

/// Copies a block, which lies inside the picture, row by row.
fn lay(picture: &mut RgbImage, block: &RgbImage, left: u32, top: u32) {
    let (picture_row, block_row) = (3 * picture.width() as usize, 3 * block.width() as usize);
    let bytes: &mut [u8] = picture.as_mut();
    for (row, pixels) in block.as_raw().chunks_exact(block_row).enumerate() {
        let start = (top as usize + row) * picture_row + 3 * left as usize;
        bytes[start..start + block_row].copy_from_slice(pixels);
    }
}

/// How blocks of one level are read.
struct Block<'a> {
    slide: &'a dyn Slide,
    level: usize,
    downsample: f64,
    shrink: u32,
}

/// A block's place on its level and its shrunk pixels, or why there are none.
struct Part {
    at: (u32, u32),
    size: Size,
    pixels: Result<RgbImage>,
}

impl Block<'_> {
    /// One part, or its squares where some of it cannot be read.
    fn read(&self, at: (u32, u32), size: Size) -> Vec<Part> {
        let whole = self.part(at, size);
        let side = SMALLEST_BLOCK_PX.div_ceil(self.shrink) * self.shrink;
        if whole.pixels.is_ok() || size.width.max(size.height) <= side {
            return vec![whole];
        }
        let (rows, columns) = (size.height.div_ceil(side), size.width.div_ceil(side));
        let corners = (0..rows).flat_map(|row| (0..columns).map(move |column| (column * side, row * side)));
        corners
            .map(|(x, y)| {
                let size = Size { width: side.min(size.width - x), height: side.min(size.height - y) };
                self.part((at.0 + x, at.1 + y), size)
            })
            .collect()
    }

    fn part(&self, at: (u32, u32), size: Size) -> Part {
        let level0 = |pixel: u32| (f64::from(pixel) * self.downsample).round() as i64;
        let pixels = self.slide.read(Coord { x: level0(at.0), y: level0(at.1) }, size, self.level);
        Part { at, size, pixels: pixels.map(|pixels| average(pixels, self.shrink)) }
    }
}

/// Means of `factor`×`factor` squares; the last row and column average what is there.
fn average(image: RgbImage, factor: u32) -> RgbImage {
    if factor == 1 {
        return image;
    }
    let (width, height) = image.dimensions();
    RgbImage::from_fn(width.div_ceil(factor), height.div_ceil(factor), |column, row| {
        let (mut sum, mut count) = ([0_u32; 3], 0);
        for y in row * factor..((row + 1) * factor).min(height) {
            for x in column * factor..((column + 1) * factor).min(width) {
                for (total, &value) in sum.iter_mut().zip(&image.get_pixel(x, y).0) {
                    *total += u32::from(value);
                }
                count += 1;
            }
        }
        Rgb(sum.map(|total| ((total + count / 2) / count) as u8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_column_averages_what_is_there() {
        let image = RgbImage::from_fn(3, 2, |x, _| image::Rgb([(x * 10) as u8; 3]));
        let small = average(image, 2);
        assert_eq!(small.dimensions(), (2, 1));
        assert_eq!((small.get_pixel(0, 0).0[0], small.get_pixel(1, 0).0[0]), (5, 20));
    }
}
