//! Which tiles of a bag are trained on, by what was seen of them when their features were made.

use half::f16;
use serde::{Deserialize, Serialize};

/// Bounds of the quality columns, each from 0 to 1; the defaults keep every tile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TileFilter {
    /// Smallest share of tissue.
    pub min_tissue: f32,
    /// Largest blur.
    pub max_blur: f32,
    /// Largest share in the colour of a pen.
    pub max_pen: f32,
    /// Largest share of glass and fat.
    pub max_whiteness: f32,
    /// Largest share of black.
    pub max_darkness: f32,
}

impl Default for TileFilter {
    fn default() -> Self {
        Self { min_tissue: 0.0, max_blur: 1.0, max_pen: 1.0, max_whiteness: 1.0, max_darkness: 1.0 }
    }
}

impl TileFilter {
    /// Whether it keeps every tile there is.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a tile with these columns (tissue, blur, pen, whiteness, darkness) is kept.
    pub fn keeps(&self, columns: [f16; 5]) -> bool {
        let [tissue, blur, pen, whiteness, darkness] = columns.map(f16::to_f32);
        tissue >= self.min_tissue
            && blur <= self.max_blur
            && pen <= self.max_pen
            && whiteness <= self.max_whiteness
            && darkness <= self.max_darkness
    }
}
