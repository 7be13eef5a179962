//! From coloured pixels to regions of tissue: without ink, gaps and specks. Shared by the members that threshold saturation.

use serde::{Deserialize, Serialize};

use super::Mask;
use super::colour::Hsv;
use super::ink::is_ink;
use super::morphology::Binary;
use crate::ground::units::Size;

/// What becomes of coloured pixels on their way to a mask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cleaning {
    /// Leave out pen marks and black.
    pub reject_ink: bool,
    /// Margin around ink that is left out too, µm: ink bleeds.
    pub ink_margin_um: f64,
    /// Gaps up to twice this are filled, µm: fat, lumina and alveoli are tissue.
    pub closing_um: f64,
    /// Regions smaller than a square of this side are specks, µm.
    pub speck_um: f64,
}

impl Default for Cleaning {
    fn default() -> Self {
        Self { reject_ink: true, ink_margin_um: 24.0, closing_um: 40.0, speck_um: 100.0 }
    }
}

impl Cleaning {
    /// Pixels at least as saturated as `threshold`, closed, without ink and specks.
    pub(super) fn apply(&self, pixels: &[Hsv], (width, height): (u32, u32), mpp: f64, threshold: f32) -> Mask {
        let binary = |cells| Binary { width: width as usize, height: height as usize, cells };
        let radius = |um: f64| (um / mpp).round() as usize;
        let ink_radius = (self.ink_margin_um / mpp).ceil() as usize; // at least one pixel: ink's edge is paler than ink
        let ink = binary(pixels.iter().map(|&pixel| self.reject_ink && is_ink(pixel)).collect());
        let stained = pixels.iter().zip(&ink.cells).map(|(pixel, &ink)| !ink && pixel.saturation >= threshold);
        let mut tissue = binary(stained.collect()).close(radius(self.closing_um));
        for (tissue, ink) in tissue.cells.iter_mut().zip(ink.dilate(ink_radius).cells) {
            *tissue &= !ink;
        }
        let smallest = (self.speck_um / mpp).powi(2).ceil() as usize;
        Mask::new(Size { width, height }, tissue.without_specks(smallest).cells)
    }
}
