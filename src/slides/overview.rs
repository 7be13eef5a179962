//! The whole slide as one small picture, for tissue masks and thumbnails, in bounded memory whatever the pyramid looks like.

use anyhow::{Result, bail};
use image::{Rgb, RgbImage, imageops};
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
    let blocks: Vec<Vec<Part>> = corners
        .par_iter()
        .map(|&(x, y)| whole.read((x, y), Size { width: block_px.min(width - x), height: block_px.min(height - y) }))
        .collect();

    let mut overview = Overview {
        image: RgbImage::from_pixel(width.div_ceil(shrink), height.div_ceil(shrink), UNREADABLE),
        unreadable: Vec::new(),
        reason: None,
        downsample: levels[level].downsample * f64::from(shrink),
    };
    let mut readable = false;
    for Part { at: (x, y), size, pixels } in blocks.into_iter().flatten() {
        let (left, top) = (x / shrink, y / shrink);
        match pixels {
            Ok(pixels) => {
                readable = true;
                imageops::replace(&mut overview.image, &pixels, left.into(), top.into());
            }
            Err(error) => {
                overview.unreadable.push([left, top, left + size.width.div_ceil(shrink), top + size.height.div_ceil(shrink)]);
                if overview.reason.is_none() {
                    overview.reason = Some(format!("{error:#}"));
                }
            }
        }
    }
    match overview.reason {
        Some(reason) if !readable => bail!(reason),
        reason => Ok(Overview { reason, ..overview }),
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
