//! Tissue by a fixed saturation threshold: stain is coloured, glass is not. The default, because it needs no contrast
//! within the slide and so says "nothing" of a blank one.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::Mask;
use super::cleaning::Cleaning;
use super::colour::blurred_hsv;
use super::median::median;

/// Settings of the saturation mask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct HsvSettings {
    /// Smallest saturation of tissue, 0–1.
    pub saturation: f32,
    /// Side of the square over which the median of saturation is taken first, µm; 0 takes none.
    pub median_um: f64,
    /// What becomes of the mask's edges and specks.
    pub cleaning: Cleaning,
}

impl Default for HsvSettings {
    fn default() -> Self {
        // METHOD: 99 % of bare glass stays below 0.035 on the scanners seen at 8 µm/px; pale eosin starts at about 0.07.
        // Fat alone (0.03) cannot be told from glass by colour; its texture tells.
        Self { saturation: 0.05, median_um: 0.0, cleaning: Cleaning::default() }
    }
}

impl HsvSettings {
    pub(super) fn mask(&self, image: &RgbImage, mpp: f64) -> Mask {
        let mut pixels = blurred_hsv(image);
        let radius = (self.median_um / mpp / 2.0).floor() as usize;
        if radius > 0 {
            let saturation: Vec<u8> = pixels.iter().map(|pixel| (pixel.saturation * 255.0).round() as u8).collect();
            for (pixel, median) in pixels.iter_mut().zip(median(&saturation, image.width() as usize, radius)) {
                pixel.saturation = f32::from(median) / 255.0;
            }
        }
        self.cleaning.apply(image, &pixels, mpp, self.saturation)
    }
}
