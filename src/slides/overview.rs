//! The whole slide as one small picture, for tissue masks and thumbnails, in bounded memory whatever the pyramid looks like.

use anyhow::Result;
use image::{RgbImage, imageops};
use rayon::prelude::*;

use super::Slide;
use crate::ground::units::{Coord, Size};

/// Side of the squares that are read one at a time, pixels of the level read.
const BLOCK_PX: u32 = 2048;

/// A slide's canvas, shrunk.
pub struct Overview {
    /// The picture.
    pub image: RgbImage,
    /// Level-0 pixels per pixel of the picture, horizontally and vertically the same.
    pub downsample: f64,
}

/// Reads the canvas at about `downsample` level-0 pixels per pixel, never coarser: the coarsest level that is fine
/// enough, averaged by a whole factor. Blocks are read in parallel on the current rayon pool; a thread holds one block
/// of 2048² px (12 MiB), so that a flat file of many gigapixels needs no more memory than a pyramid.
///
/// # Errors
/// As [`Slide::read`].
pub fn overview(slide: &dyn Slide, downsample: f64) -> Result<Overview> {
    let levels = &slide.geometry().levels;
    let level = levels.iter().rposition(|level| level.downsample <= downsample).unwrap_or(0);
    let Size { width, height } = levels[level].size;
    let shrink = ((downsample / levels[level].downsample).floor() as u32).max(1);
    let block_px = BLOCK_PX.div_ceil(shrink) * shrink;

    let corners: Vec<(u32, u32)> = (0..height.div_ceil(block_px))
        .flat_map(|row| (0..width.div_ceil(block_px)).map(move |column| (column * block_px, row * block_px)))
        .collect();
    let blocks: Vec<RgbImage> = corners
        .par_iter()
        .map(|&(x, y)| {
            let at = Coord {
                x: (f64::from(x) * levels[level].downsample).round() as i64,
                y: (f64::from(y) * levels[level].downsample).round() as i64,
            };
            let size = Size { width: block_px.min(width - x), height: block_px.min(height - y) };
            Ok(average(slide.read(at, size, level)?, shrink))
        })
        .collect::<Result<_>>()?;

    let mut image = RgbImage::new(width.div_ceil(shrink), height.div_ceil(shrink));
    for (&(x, y), block) in corners.iter().zip(&blocks) {
        imageops::replace(&mut image, block, i64::from(x / shrink), i64::from(y / shrink));
    }
    Ok(Overview { image, downsample: levels[level].downsample * f64::from(shrink) })
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
        image::Rgb(sum.map(|total| ((total + count / 2) / count) as u8))
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
