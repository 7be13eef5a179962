//! The plan of a tiled slide: which squares of true micrometres will be read, from which level, and how far off they are.
//!
//! Made by `tiling::grid`, stored by `store::coords`, read by `extract`: a tile is fully described by it.

use serde::{Deserialize, Serialize};

use super::fingerprint::Fingerprint;
use super::reader::Reader;
use super::units::{Coord, Mpp, Size};

/// How one tile is read and resized; the same for every tile of a slide.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Pyramid level that is read.
    pub level: usize,
    /// Level-0 pixels per pixel of that level.
    pub level_downsample: f64,
    /// The level is decoded at one over this of its size: 1, 2, 4 or 8; files of before this was offered name none.
    #[serde(default = "full_size")]
    pub decode_scale: u32,
    /// Side of the square read, in pixels of that level as it is decoded.
    pub read_px: u32,
    /// Side of the tile handed on, in pixels, after the resize.
    pub tile_px: u32,
    /// Side of the tile's footprint in level-0 pixels, nearest integer.
    pub side_level0_px: u32,
    /// Distance of neighbouring tiles in level-0 pixels.
    pub step_level0_px: u32,
    /// Pixel size asked for, µm/px.
    pub mpp_requested: f64,
    /// Pixel size that the whole-pixel window truly has, µm/px.
    pub mpp_true: f64,
    /// `mpp_true / mpp_requested − 1`.
    pub residual: f64,
    /// Who reads the pixels; files of before there was a choice were read by OpenSlide.
    #[serde(default)]
    pub reader: Reader,
}

impl Window {
    /// Level-0 pixels per pixel that is read.
    pub fn downsample(&self) -> f64 {
        self.level_downsample * f64::from(self.decode_scale)
    }
}

fn full_size() -> u32 {
    1
}

/// A slide's tiles in row-major order of one global grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// File name without its last extension.
    pub slide_id: String,
    /// File name inside the slide folder, with `/` separators; never an absolute path.
    pub slide_file: String,
    /// Fast digest of the slide's bytes (`store::digest`).
    pub slide_digest: String,
    /// Canvas of level 0, pixels.
    pub canvas: Size,
    /// Where the scanned area sits on the canvas, if the slide says so (MIRAX and others): corner and size, level-0 pixels. Coordinates
    /// are of the full canvas all the same; QuPath counts from this corner.
    pub bounds: Option<(Coord, Size)>,
    /// Pixel size of level 0 that was used, µm/px.
    pub mpp: Mpp,
    /// Where that pixel size came from: `slide`, `table` or `argument`.
    pub mpp_source: String,
    /// How tiles are read.
    pub window: Window,
    /// What the slide looks like from afar; `None` where it shows no pattern, and in files of before fingerprints were taken.
    pub fingerprint: Option<Fingerprint>,
    /// Top-left corners, row by row.
    pub coords: Vec<Coord>,
    /// Share of tissue in each tile, 0–1, in the order of `coords`.
    pub tissue: Vec<f32>,
}
