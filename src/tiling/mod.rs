//! From a tissue mask to tiles: a pure grid in true micrometres, then a bounded stream of pixels.

pub mod fingerprint;
pub mod grid;
pub mod picture;
pub mod roi;
mod shrink;
pub mod stream;
pub mod survey;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use self::roi::RoiSettings;
use crate::slides::ReaderChoice;
use crate::tissue::TissueSettings;

/// Settings of `wsi tile`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TileSettings {
    /// Pixel size of the tiles, µm/px.
    pub mpp: f64,
    /// Side of a tile in pixels at that size.
    pub tile_px: u32,
    /// Distance of neighbouring tiles in the same pixels; 0 means `tile-px`, no overlap.
    pub step_px: u32,
    /// Smallest share of tissue in a tile, 0–1.
    pub min_tissue: f64,
    /// How tissue is told from background.
    pub tissue: TissueSettings,
    /// Which part of what people drew is tiled.
    pub roi: RoiSettings,
    /// Pixel size of level 0 in µm/px for slides that do not state one; 0 means none is given.
    pub slide_mpp: f64,
    /// Largest tolerated relative difference between the requested and the true pixel size of the tiles.
    pub mpp_tolerance: f64,
    /// Largest share of a slide's tiles that may lie where the overview could not be read, 0–1; a slide with more fails.
    pub max_bad_tiles: f64,
    /// Who reads the pixels: `auto`, the fastest that can, `openslide` or `jpeg-tiles`.
    pub reader: ReaderChoice,
}

impl Default for TileSettings {
    fn default() -> Self {
        Self {
            mpp: 0.5,
            tile_px: 224,
            step_px: 0,
            min_tissue: 0.5,
            tissue: TissueSettings::default(),
            roi: RoiSettings::default(),
            slide_mpp: 0.0,
            mpp_tolerance: 0.01,
            max_bad_tiles: 0.01,
            reader: ReaderChoice::Auto,
        }
    }
}

impl TileSettings {
    /// # Errors
    /// A setting that makes no grid; names the key and what it wants.
    pub fn validate(&self) -> Result<()> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        if !positive(self.mpp) {
            bail!("tile.mpp is {}; it wants the tiles' pixel size in micrometres, for example 0.5", self.mpp);
        }
        if !(1..=16_384).contains(&self.tile_px) {
            bail!("tile.tile-px is {}; it wants 1 to 16384 pixels", self.tile_px);
        }
        if self.step_px > 16_384 {
            bail!("tile.step-px is {}; it wants 1 to 16384 pixels, or 0 for no overlap", self.step_px);
        }
        if !(0.0..=1.0).contains(&self.min_tissue) {
            bail!("tile.min-tissue is {}; it wants a share from 0 to 1", self.min_tissue);
        }
        if !(0.0..=1.0).contains(&self.max_bad_tiles) {
            bail!("tile.max-bad-tiles is {}; it wants a share from 0 to 1", self.max_bad_tiles);
        }
        if self.slide_mpp != 0.0 && !positive(self.slide_mpp) {
            bail!("tile.slide-mpp is {}; it wants micrometres per level-0 pixel, or 0 for none", self.slide_mpp);
        }
        if !(self.mpp_tolerance.is_finite() && self.mpp_tolerance >= 0.0) {
            bail!("tile.mpp-tolerance is {}; it wants a relative difference such as 0.01", self.mpp_tolerance);
        }
        self.roi.validate()
    }
}
