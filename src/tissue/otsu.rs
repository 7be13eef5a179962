//! Tissue by Otsu's threshold on saturation, chosen per slide: follows weak and strong stains.
//!
//! Otsu, A threshold selection method from gray-level histograms, IEEE Trans. SMC 1979.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::Mask;
use super::cleaning::Cleaning;
use super::colour::{Hsv, blurred_hsv};
use super::ink::is_ink;

/// Settings of Otsu's mask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct OtsuSettings {
    /// The threshold is never below this saturation, 0–1.
    pub least_saturation: f32,
    /// What becomes of the mask's edges and specks.
    pub cleaning: Cleaning,
}

impl Default for OtsuSettings {
    fn default() -> Self {
        // METHOD: Otsu splits any histogram, a blank slide's noise too; the floor keeps glass out.
        Self { least_saturation: 0.05, cleaning: Cleaning::default() }
    }
}

impl OtsuSettings {
    pub(super) fn mask(&self, image: &RgbImage, mpp: f64) -> Mask {
        let pixels = blurred_hsv(image);
        let threshold = otsu(&histogram(&pixels, self.cleaning.reject_ink)).max(self.least_saturation);
        self.cleaning.apply(image, &pixels, mpp, threshold)
    }
}

const BINS: usize = 256;

/// Counts of saturation, 0–1; ink is left out, for it would pull the threshold above the tissue.
fn histogram(pixels: &[Hsv], reject_ink: bool) -> [u64; BINS] {
    let mut counts = [0; BINS];
    for pixel in pixels.iter().filter(|pixel| !(reject_ink && is_ink(**pixel))) {
        counts[((pixel.saturation * BINS as f32) as usize).min(BINS - 1)] += 1;
    }
    counts
}

/// The saturation that parts the counts into two classes with the largest variance between them.
fn otsu(counts: &[u64; BINS]) -> f32 {
    let total: u64 = counts.iter().sum();
    let moment: f64 = counts.iter().enumerate().map(|(bin, &count)| bin as f64 * count as f64).sum();
    let (mut below, mut moment_below) = (0_u64, 0.0);
    let (mut best, mut best_variance) = (0, 0.0);
    for (bin, &count) in counts.iter().enumerate() {
        below += count;
        moment_below += bin as f64 * count as f64;
        let above = total - below;
        if below == 0 || above == 0 {
            continue;
        }
        let gap = moment_below / below as f64 - (moment - moment_below) / above as f64;
        let variance = below as f64 * above as f64 * gap * gap;
        if variance > best_variance {
            (best, best_variance) = (bin + 1, variance);
        }
    }
    best as f32 / BINS as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_peaks_are_parted() {
        let mut counts = [0; BINS];
        (counts[8], counts[10], counts[90], counts[100]) = (500, 400, 80, 60);
        let threshold = otsu(&counts) * BINS as f32;
        assert!(threshold > 10.0 && threshold <= 90.0, "{threshold}");
        assert_eq!(otsu(&[0; BINS]), 0.0);
    }
}
