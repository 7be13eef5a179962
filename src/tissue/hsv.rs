//! Tissue by a fixed saturation threshold: stain is coloured, glass is not. The default, because it needs no contrast
//! within the slide and so says "nothing" of a blank one.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::Mask;
use super::cleaning::Cleaning;
use super::colour::blurred_hsv;

/// Settings of the saturation mask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct HsvSettings {
    /// Smallest saturation of tissue, 0–1.
    pub saturation: f32,
    /// What becomes of the mask's edges and specks.
    pub cleaning: Cleaning,
}

impl Default for HsvSettings {
    fn default() -> Self {
        // METHOD: 99 % of bare glass stays below 0.035 on the scanners seen at 8 µm/px; pale eosin starts at about 0.07.
        // Fat alone (0.03) cannot be told from glass by colour and comes in by closing, beside other tissue.
        Self { saturation: 0.05, cleaning: Cleaning::default() }
    }
}

impl HsvSettings {
    pub(super) fn mask(&self, image: &RgbImage, mpp: f64) -> Mask {
        self.cleaning.apply(&blurred_hsv(image), image.dimensions(), mpp, self.saturation)
    }
}
