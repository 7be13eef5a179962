//! Whole slides as a pyramid of pixels with a true physical size; one reader a file.
//!
//! Everything above this room sees [`Slide`] alone, so that a faster reader for one format is one more file here.
//! Label and macro images are never opened: they may carry a patient's name.

mod list;
mod openslide;
mod overview;
mod privacy;

use std::path::Path;

use anyhow::Result;
use image::RgbImage;

use crate::ground::units::{Coord, Geometry, Size};

pub use list::{SlideFile, list, list_pseudonymous};
pub use overview::{Overview, overview};
pub use privacy::{Risk, name_risk};

/// An open slide; shared by reference between decoding threads.
pub trait Slide: Send + Sync {
    /// Pyramid, pixel size and bounds.
    fn geometry(&self) -> &Geometry;

    /// The pixels of a rectangle: `at` in level-0 pixels, `size` in pixels of `level`. What was never scanned has the
    /// slide's background colour (white if it states none).
    ///
    /// # Errors
    /// Names the slide, the place and the reader's reason; other places can still be read.
    fn read(&self, at: Coord, size: Size, level: usize) -> Result<RgbImage>;
}

/// Opens a slide of any format that a reader here knows.
///
/// # Errors
/// One line with the file's name, what is wrong with it and what to do.
pub fn open(path: &Path) -> Result<Box<dyn Slide>> {
    Ok(Box::new(openslide::OpenSlideReader::open(path)?))
}

/// Where in a slide file a name, a number or a date may stand. Reads tag names and lengths alone; opens no picture.
///
/// # Errors
/// As [`open`].
pub fn privacy_risks(path: &Path) -> Result<Vec<Risk>> {
    Ok(privacy::risks(&openslide::inventory(path)?))
}

/// How a slide is called in messages: its file name, never its path, which may name a person or a machine.
fn display_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
