//! A slide as a pyramid of powers of two, cut into tiles, as viewers ask for it: level `levels − 1` is the canvas, each level before it half as
//! large, level 0 one pixel. Served from the slide's own levels, whatever their downsamples are.
//!
//! A tile that the slide stores as it is asked for is handed on as it is stored. Others are decoded, at a fraction of their size where the
//! reader can, shrunk and encoded anew.
//!
//! Memory: one tile takes at most one window of 2048² px of a stored level (12 MiB) and what the reader needs for it. Where no
//! stored level is near enough, as on a flat slide seen from afar, a tile is made of four finer ones, one after the other.

use anyhow::{Result, bail, ensure};
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;

use super::{Slide, jpeg};
use crate::ground::units::{Coord, Geometry, Size};

/// Longest side of what is read for a tile at once, pixels of the level that it is read from.
const MOST_SOURCE_PX: u32 = 2048;

/// Sides of stored tiles that are taken over, pixels; others make too many requests, or too long ones.
const SIDES: std::ops::RangeInclusive<u32> = 128..=1024;

/// Where the slide's own tiles are of no use.
const USUAL_SIDE: u32 = 256;

/// METHOD: of 100; structure of 1 px stays, at a tenth of the bytes of the pixels.
pub const JPEG_QUALITY: u8 = 80;

/// METHOD: a stored level that is coarser than asked by less than this share is taken: levels' downsamples are powers of two but for the
/// rounding of the last pixel, which is large on small levels.
const ROUNDING: f64 = 0.02;

/// The levels and tiles of a slide's pyramid of powers of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pyramid {
    /// Level 0 of the slide, pixels.
    pub canvas: Size,
    /// Of a whole tile, pixels; those at the right and lower edge are smaller.
    pub tile: Size,
}

/// A tile's place: its level's number, coarsest 0; column and row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// Of the pyramid.
    pub level: u32,
    /// From the left.
    pub column: u32,
    /// From the top.
    pub row: u32,
}

/// Somebody gave up waiting for the tile.
#[derive(Debug, Clone, Copy)]
pub struct NotWanted;

impl std::fmt::Display for NotWanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "nobody waits for the tile any more")
    }
}

impl std::error::Error for NotWanted {}

/// A rectangle of a level of the pyramid, pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    level: u32,
    left: u32,
    top: u32,
    size: Size,
}

impl Pyramid {
    /// The pyramid of a slide, with the slide's own tiles where they are of a usual size.
    pub fn of(slide: &dyn Slide) -> Self {
        let stored = slide.stored_tile(0).filter(|tile| SIDES.contains(&tile.width) && SIDES.contains(&tile.height));
        Self { canvas: slide.geometry().canvas(), tile: stored.unwrap_or(Size { width: USUAL_SIDE, height: USUAL_SIDE }) }
    }

    /// How many levels there are, from the one pixel to the canvas.
    pub fn levels(&self) -> u32 {
        self.canvas.width.max(self.canvas.height).max(1).next_power_of_two().trailing_zeros() + 1
    }

    /// Width and height of a level, pixels.
    pub fn size(&self, level: u32) -> Size {
        let shrink = self.shrink(level);
        let side = |side: u32| u64::from(side).div_ceil(shrink).max(1) as u32;
        Size { width: side(self.canvas.width), height: side(self.canvas.height) }
    }

    /// Level-0 pixels of the slide per pixel of a level.
    fn shrink(&self, level: u32) -> u64 {
        1 << (self.levels() - 1).saturating_sub(level)
    }

    /// The pixels of a tile; `None` for a place that is not in the pyramid.
    fn window(&self, place: Place) -> Option<Window> {
        if place.level >= self.levels() {
            return None;
        }
        let Size { width, height } = self.size(place.level);
        let (left, top) = (place.column.checked_mul(self.tile.width)?, place.row.checked_mul(self.tile.height)?);
        if left >= width || top >= height {
            return None;
        }
        let size = Size { width: self.tile.width.min(width - left), height: self.tile.height.min(height - top) };
        Some(Window { level: place.level, left, top, size })
    }

    /// Whether there is such a tile.
    pub fn has(&self, place: Place) -> bool {
        self.window(place).is_some()
    }

    /// The tile as JPEG bytes. Between two reads `wanted` is asked whether anybody still waits.
    ///
    /// # Errors
    /// A place that is not in the pyramid; [`NotWanted`]; as [`Slide::read`].
    pub fn jpeg(&self, slide: &dyn Slide, place: Place, wanted: &dyn Fn() -> bool) -> Result<Vec<u8>> {
        let Some(window) = self.window(place) else {
            bail!("there is no tile in column {}, row {} of level {}", place.column, place.row, place.level);
        };
        ensure!(wanted(), NotWanted);
        if let Some(level) = self.stored(slide.geometry(), window)
            && slide.stored_tile(level) == Some(self.tile)
            && let Some(stored) = slide.stored_jpeg(level, place.column, place.row)?
        {
            return Ok(stored);
        }
        jpeg::encode(&self.pixels(slide, window, wanted)?, JPEG_QUALITY)
    }

    /// The slide's level whose pixels are a whole tile's: their grids agree there to less than half a pixel.
    fn stored(&self, geometry: &Geometry, window: Window) -> Option<usize> {
        if window.size != self.tile {
            return None;
        }
        let shrink = self.shrink(window.level) as f64;
        geometry.levels.iter().position(|level| {
            let agrees = |at: u32| (f64::from(at) * shrink / level.downsample - f64::from(at)).abs() < 0.5;
            let (right, bottom) = (window.left + self.tile.width, window.top + self.tile.height);
            right <= level.size.width && bottom <= level.size.height && agrees(right) && agrees(bottom)
        })
    }

    /// A window's pixels, from the coarsest level, decoded as small as the reader can, that is fine enough.
    fn pixels(&self, slide: &dyn Slide, window: Window, wanted: &dyn Fn() -> bool) -> Result<RgbImage> {
        ensure!(wanted(), NotWanted);
        let geometry = slide.geometry();
        let shrink = self.shrink(window.level) as f64;
        let all = geometry.levels.iter().enumerate();
        let sources = all.flat_map(|(number, level)| geometry.decode_scales.iter().map(move |&scale| (number, scale, level)));
        let coarseness = |(_, scale, level): &(usize, u32, &crate::ground::units::LevelGeometry)| level.downsample * f64::from(*scale);
        let fine_enough = sources.filter(|source| coarseness(source) <= shrink * (1.0 + ROUNDING));
        // Of two that are equally coarse the smaller level, which is read faster, comes last.
        let Some(source) = fine_enough.max_by(|a, b| coarseness(a).total_cmp(&coarseness(b))) else {
            bail!("the slide's finest level is coarser than its canvas; export the slide again");
        };
        let downsample = coarseness(&source);
        let (number, scale, level) = source;
        let ratio = shrink / downsample;
        let side = |length: u32| (f64::from(length) * ratio).round().max(1.0) as u32;
        if side(window.size.width).max(side(window.size.height)) > MOST_SOURCE_PX && window.level + 1 < self.levels() {
            return self.of_quarters(slide, window, wanted);
        }
        // A level's last pixel may be rounded away.
        let span = |at: u32, length: u32, whole: u32| {
            let start = ((f64::from(at) * ratio).round() as u32).min(whole.saturating_sub(1));
            (f64::from(start) * downsample, side(length).min(whole.saturating_sub(start)).max(1))
        };
        let (left, width) = span(window.left, window.size.width, level.size.width / scale);
        let (top, height) = span(window.top, window.size.height, level.size.height / scale);
        let at = Coord { x: left.round() as i64, y: top.round() as i64 };
        shrunk(slide.read_scaled(at, Size { width, height }, number, scale)?, window.size)
    }

    /// The window from those of the next finer level, each half of it.
    fn of_quarters(&self, slide: &dyn Slide, window: Window, wanted: &dyn Fn() -> bool) -> Result<RgbImage> {
        let finer = self.size(window.level + 1);
        let whole = Size {
            width: (2 * window.size.width).min(finer.width - 2 * window.left),
            height: (2 * window.size.height).min(finer.height - 2 * window.top),
        };
        let halves = |length: u32, half: u32| [(0, half.min(length)), (half.min(length), length.saturating_sub(half))];
        let mut image = RgbImage::new(whole.width, whole.height);
        for (top, height) in halves(whole.height, window.size.height) {
            for (left, width) in halves(whole.width, window.size.width) {
                if width == 0 || height == 0 {
                    continue;
                }
                let quarter = Window {
                    level: window.level + 1,
                    left: 2 * window.left + left,
                    top: 2 * window.top + top,
                    size: Size { width, height },
                };
                let pixels = self.pixels(slide, quarter, wanted)?;
                image::imageops::replace(&mut image, &pixels, left.into(), top.into());
            }
        }
        shrunk(image, window.size)
    }
}

/// METHOD: each pixel the mean of those that it covers.
fn shrunk(image: RgbImage, size: Size) -> Result<RgbImage> {
    let (width, height) = image.dimensions();
    if (width, height) == (size.width, size.height) {
        return Ok(image);
    }
    let source = ImageRef::new(width, height, image.as_raw(), PixelType::U8x3)?;
    let mut pixels = RgbImage::new(size.width, size.height);
    let mut target = Image::from_slice_u8(size.width, size.height, pixels.as_mut(), PixelType::U8x3)?;
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Box)).use_alpha(false);
    Resizer::new().resize(&source, &mut target, &options)?;
    Ok(pixels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::reader::Reader;
    use crate::ground::units::LevelGeometry;
    use image::Rgb;
    use std::sync::Mutex;

    /// A slide of levels with the given downsamples whose pixels tell where they are; it remembers the largest window asked of it.
    struct Painted {
        geometry: Geometry,
        largest: Mutex<u32>,
    }

    impl Painted {
        fn new((width, height): (u32, u32), downsamples: &[f64]) -> Self {
            let level = |&downsample: &f64| LevelGeometry {
                size: Size { width: (f64::from(width) / downsample) as u32, height: (f64::from(height) / downsample) as u32 },
                downsample,
            };
            let levels = downsamples.iter().map(level).collect();
            let geometry =
                Geometry { levels, mpp: None, bounds: None, vendor: "test".into(), reader: Reader::OpenSlide, decode_scales: vec![1] };
            Self { geometry, largest: Mutex::new(0) }
        }
    }

    /// A slow change over the canvas.
    fn colour(x: f64, y: f64, canvas: Size) -> Rgb<u8> {
        Rgb([(x / f64::from(canvas.width) * 250.0) as u8, (y / f64::from(canvas.height) * 250.0) as u8, 99])
    }

    impl Slide for Painted {
        fn geometry(&self) -> &Geometry {
            &self.geometry
        }

        fn read(&self, at: Coord, size: Size, level: usize) -> Result<RgbImage> {
            let mut largest = self.largest.lock().unwrap();
            *largest = (*largest).max(size.width).max(size.height);
            let described = self.geometry.levels[level];
            let (left, top) = (at.x as f64 / described.downsample, at.y as f64 / described.downsample);
            assert!(left + f64::from(size.width) <= f64::from(described.size.width) + 0.5, "{at:?} {size:?} of {described:?}");
            assert!(top + f64::from(size.height) <= f64::from(described.size.height) + 0.5, "{at:?} {size:?} of {described:?}");
            let place = |start: f64, step: u32| (start + f64::from(step) + 0.5) * described.downsample;
            Ok(RgbImage::from_fn(size.width, size.height, |x, y| colour(place(left, x), place(top, y), self.geometry.canvas())))
        }
    }

    fn of(width: u32, height: u32) -> Pyramid {
        Pyramid { canvas: Size { width, height }, tile: Size { width: 256, height: 256 } }
    }

    #[test]
    fn levels_are_powers_of_two_down_to_one_pixel() {
        assert_eq!((of(1, 1).levels(), of(2, 1).levels(), of(256, 3).levels(), of(257, 3).levels()), (1, 2, 9, 10));
        let pyramid = of(1000, 300);
        assert_eq!((pyramid.levels(), pyramid.size(0)), (11, Size { width: 1, height: 1 }));
        assert_eq!(pyramid.size(10), pyramid.canvas);
        assert_eq!(pyramid.size(9), Size { width: 500, height: 150 });
        assert_eq!(pyramid.size(7), Size { width: 125, height: 38 });
        let place = |level, column, row| Place { level, column, row };
        assert_eq!(pyramid.window(place(10, 3, 1)).unwrap().size, Size { width: 232, height: 44 });
        for outside in [place(10, 4, 0), place(10, 0, 2), place(11, 0, 0), place(0, 1, 0), place(10, u32::MAX, u32::MAX)] {
            assert!(!pyramid.has(outside), "{outside:?}");
        }
    }

    #[test]
    fn every_tile_shows_its_own_place_whatever_the_levels_are() {
        for downsamples in [&[1.0][..], &[1.0, 2.0, 4.0], &[1.0, 4.000_13, 16.01], &[1.0, 3.0, 9.2, 30.0]] {
            let slide = Painted::new((5003, 3001), downsamples);
            let pyramid = Pyramid::of(&slide);
            assert_eq!(pyramid.tile, Size { width: 256, height: 256 }, "it stores no tiles");
            for level in 0..pyramid.levels() {
                let Size { width, height } = pyramid.size(level);
                for (column, row) in [(0, 0), (width / 2 / 256, height / 2 / 256), ((width - 1) / 256, (height - 1) / 256)] {
                    let window = pyramid.window(Place { level, column, row }).unwrap();
                    let pixels = pyramid.pixels(&slide, window, &|| true).unwrap();
                    assert_eq!(pixels.dimensions(), (window.size.width, window.size.height));
                    let shrink = pyramid.shrink(level) as f64;
                    for (x, y) in [(0, 0), (pixels.width() / 2, pixels.height() / 2), (pixels.width() - 1, pixels.height() - 1)] {
                        let centre = |start: u32, step: u32, whole: u32| {
                            // The last pixel stands for what is left of the canvas.
                            let from = f64::from(start + step) * shrink;
                            (from + (from + shrink).min(f64::from(whole))) / 2.0
                        };
                        let at = (centre(window.left, x, 5003), centre(window.top, y, 3001));
                        let (found, wanted) = (pixels.get_pixel(x, y), colour(at.0, at.1, pyramid.canvas));
                        let close = found.0.iter().zip(wanted.0).all(|(a, b)| f64::from(a.abs_diff(b)) <= 3.0 + shrink * 250.0 / 3001.0);
                        assert!(close, "level {level} {window:?} at {x},{y}: {found:?} for {wanted:?}, levels {downsamples:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_flat_slide_is_read_in_small_windows() {
        let slide = Painted::new((9000, 9000), &[1.0]);
        let pyramid = Pyramid::of(&slide);
        let top = pyramid.window(Place { level: 8, column: 0, row: 0 }).unwrap();
        pyramid.pixels(&slide, top, &|| true).unwrap();
        assert!(*slide.largest.lock().unwrap() <= MOST_SOURCE_PX);
        let asked = std::cell::Cell::new(0);
        let error = pyramid.pixels(&slide, top, &|| asked.replace(asked.get() + 1) < 5).unwrap_err();
        assert!(error.is::<NotWanted>());
    }

    #[test]
    fn stored_tiles_are_taken_where_the_grids_agree() {
        let slide = Painted::new((40_000, 40_000), &[1.0, 4.000_2]);
        let pyramid = Pyramid::of(&slide);
        let stored = |level: u32, column: u32, row: u32| {
            pyramid.stored(&slide.geometry, pyramid.window(Place { level, column, row }).expect("inside"))
        };
        let finest = pyramid.levels() - 1;
        assert_eq!((stored(finest, 3, 100), stored(finest - 1, 3, 3), stored(finest - 2, 3, 3)), (Some(0), None, Some(1)));
        assert_eq!(stored(finest - 2, 38, 3), Some(1), "0.4998 px away");
        let far = Painted::new((80_000, 80_000), &[1.0, 4.000_2]);
        let pyramid = Pyramid::of(&far);
        let window = pyramid.window(Place { level: pyramid.levels() - 3, column: 70, row: 3 }).unwrap();
        assert_eq!(pyramid.stored(&far.geometry, window), None, "almost a pixel away");
        let edge = pyramid.window(Place { level: pyramid.levels() - 1, column: 312, row: 0 }).unwrap();
        assert_eq!(pyramid.stored(&far.geometry, edge), None, "tiles at the edge reach past the picture");
    }
}
