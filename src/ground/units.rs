//! Positions, sizes and scales, each with its unit in the name: a pixel of which level, a micrometre of what.

use serde::{Deserialize, Serialize};

use super::reader::Reader;

/// Top-left corner of a tile in level-0 pixels of the full OpenSlide canvas, x right, y down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Coord {
    /// Pixels from the left edge, level 0.
    pub x: i64,
    /// Pixels from the top edge, level 0.
    pub y: i64,
}

/// Width and height in pixels; of which level is said by the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// Physical pixel size of level 0 in micrometres per pixel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mpp {
    /// µm per level-0 pixel, horizontally.
    pub x: f64,
    /// µm per level-0 pixel, vertically.
    pub y: f64,
}

impl Mpp {
    /// The same value in both directions.
    pub fn square(mpp: f64) -> Self {
        Self { x: mpp, y: mpp }
    }

    /// Mean of both directions, µm/px.
    pub fn mean(self) -> f64 {
        (self.x + self.y) / 2.0
    }

    /// Relative difference of the two directions.
    pub fn anisotropy(self) -> f64 {
        (self.x - self.y).abs() / self.mean()
    }
}

/// One level of a slide's pyramid.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LevelGeometry {
    /// Size in pixels of this level.
    pub size: Size,
    /// Level-0 pixels per pixel of this level (1 for level 0).
    pub downsample: f64,
}

/// What a slide says of its own shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Geometry {
    /// Pyramid levels, finest first; never empty.
    pub levels: Vec<LevelGeometry>,
    /// Physical pixel size, if the slide states one.
    pub mpp: Option<Mpp>,
    /// Where the scanned area sits on the canvas (MIRAX and others), level-0 pixels: corner and size.
    pub bounds: Option<(Coord, Size)>,
    /// The format's vendor as OpenSlide names it.
    pub vendor: String,
    /// Who reads the pixels.
    pub reader: Reader,
    /// At which fractions of a level's size (1 over 1, 2, 4 or 8) its reader can decode; 1 is always among them, rising.
    pub decode_scales: Vec<u32>,
}

impl Geometry {
    /// Size of level 0 in pixels.
    pub fn canvas(&self) -> Size {
        self.levels[0].size
    }
}
