//! From a tissue mask to tiles: a pure grid in true micrometres, then a bounded stream of pixels.

use serde::{Deserialize, Serialize};

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
    /// Pixel size of level 0 in µm/px for slides that do not state one; 0 means none is given.
    pub slide_mpp: f64,
    /// Largest tolerated relative difference between the requested and the true pixel size of the tiles.
    pub mpp_tolerance: f64,
}

impl Default for TileSettings {
    fn default() -> Self {
        Self { mpp: 0.5, tile_px: 224, step_px: 0, min_tissue: 0.5, tissue: TissueSettings::default(), slide_mpp: 0.0, mpp_tolerance: 0.01 }
    }
}
