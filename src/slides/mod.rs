//! Whole slides as a pyramid of pixels with a true physical size; one reader a file.
//!
//! Everything above this room sees [`Slide`] alone, so that a faster reader for one format is one more file here.
//! Label and macro images are never opened: they may carry a patient's name.

pub mod deepzoom;
pub mod jpeg;
mod jpeg_tiles;
mod list;
mod ome;
mod openslide;
mod overview;
mod privacy;
mod tiff;

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use self::jpeg_tiles::JpegTilesReader;
use self::openslide::OpenSlideReader;
use crate::ground::reader::Reader;
use crate::ground::units::{Coord, Geometry, Size};

pub use list::{SlideFile, list, list_pseudonymous};
pub use overview::{Overview, overview};
pub use privacy::{Risk, name_risk};

/// Decoded tiles that an open slide keeps, in either reader, where nobody asks for less.
///
/// A plan is read row by row, so a stored tile is decoded once as long as the rows of stored tiles under one row of squares
/// fit: `3 · width · (read_px + 2 · tile_height)` bytes, with OpenSlide 4 instead of 3. Squares of 448 px over tiles of
/// 256 px: slides up to 93,000 px wide, 372,000 px where they are decoded at half size; squares of 224 px: 121,000 px. On wider
/// slides some tiles are decoded again. Small slides never fill it.
const CACHE_BYTES: usize = 256 << 20;

/// An open slide; shared by reference between decoding threads.
pub trait Slide: Send + Sync {
    /// Pyramid, pixel size and bounds.
    fn geometry(&self) -> &Geometry;

    /// The pixels of a rectangle: `at` in level-0 pixels, `size` in pixels of `level`. What was never scanned has the
    /// slide's background colour (white if it states none).
    ///
    /// # Errors
    /// Names the slide, the place and the reader's reason. Other places can be read as if nothing had happened.
    fn read(&self, at: Coord, size: Size, level: usize) -> Result<RgbImage>;

    /// As [`Slide::read`] of a level that is `scale` times as coarse, decoded at that size; `size` is in its pixels.
    ///
    /// # Errors
    /// As [`Slide::read`]; a scale that is not among the geometry's `decode_scales`.
    fn read_scaled(&self, at: Coord, size: Size, level: usize, scale: u32) -> Result<RgbImage> {
        if scale != 1 {
            bail!("the reader {} decodes at full size only; tile the slide again", self.geometry().reader);
        }
        self.read(at, size, level)
    }

    /// Width and height of a level's stored tiles, pixels; `None` where there are none, or the format does not tell.
    fn stored_tile(&self, _level: usize) -> Option<Size> {
        None
    }

    /// A stored tile of a level as a JPEG stream that any browser shows, with the pixels that [`Slide::read`] gives; `None` where the reader
    /// has none to give: another format, a tile that was never scanned, a kind of JPEG that browsers do not know.
    ///
    /// # Errors
    /// As [`Slide::read`].
    fn stored_jpeg(&self, _level: usize, _column: u32, _row: u32) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    /// Why a slide that was free to take any reader is read by the slow one.
    fn why_openslide(&self) -> Option<&str> {
        None
    }
}

/// Who may read a slide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReaderChoice {
    /// The fastest that can.
    #[default]
    Auto,
    /// OpenSlide and no other.
    #[serde(rename = "openslide")]
    OpenSlide,
    /// The reader of stored JPEG tiles and no other.
    JpegTiles,
}

impl From<Reader> for ReaderChoice {
    fn from(reader: Reader) -> Self {
        match reader {
            Reader::OpenSlide => Self::OpenSlide,
            Reader::JpegTiles => Self::JpegTiles,
        }
    }
}

/// Opens a slide of any format that a reader here knows, by the fastest that can.
///
/// # Errors
/// One line with the file's name, what is wrong with it and what to do.
pub fn open(path: &Path) -> Result<Box<dyn Slide>> {
    open_with(path, ReaderChoice::Auto)
}

/// Opens a slide by the reader of one's choice.
///
/// # Errors
/// As [`open`]; the reader cannot read this slide, with its reason.
pub fn open_with(path: &Path, choice: ReaderChoice) -> Result<Box<dyn Slide>> {
    open_keeping(path, choice, CACHE_BYTES)
}

/// Opens a slide that keeps at most `cache_bytes` of decoded tiles: less memory where many slides are open at once.
///
/// # Errors
/// As [`open_with`].
pub fn open_keeping(path: &Path, choice: ReaderChoice, cache_bytes: usize) -> Result<Box<dyn Slide>> {
    let opened = OpenSlideReader::open(path, cache_bytes)?;
    if choice == ReaderChoice::OpenSlide {
        return Ok(Box::new(opened));
    }
    match JpegTilesReader::open(path, &opened, cache_bytes) {
        Ok(slide) => Ok(Box::new(slide)),
        Err(why) if choice == ReaderChoice::JpegTiles => Err(anyhow!(
            "'{}' cannot be read by the reader {}: {why:#}; tile it with --reader auto or openslide",
            display_name(path),
            Reader::JpegTiles
        )),
        Err(why) => {
            tracing::debug!("{}: read by OpenSlide: {why:#}", display_name(path));
            Ok(Box::new(opened.because(format!("{why:#}"))))
        }
    }
}

/// Where in a slide file a name, a number or a date may stand. Reads tag names and lengths alone; opens no picture.
///
/// # Errors
/// As [`open`].
pub fn privacy_risks(path: &Path) -> Result<Vec<Risk>> {
    Ok(privacy::risks(&openslide::inventory(path)?))
}

/// Version of the OpenSlide library that is loaded; `None` where it does not tell.
pub fn openslide_version() -> Option<String> {
    openslide::version()
}

/// How a slide is called in messages: its file name, never its path, which may name a person or a machine.
fn display_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
