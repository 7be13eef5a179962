//! From coloured pixels to regions of tissue: without ink, gaps and specks. Shared by the members that threshold saturation.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::Mask;
use super::colour::Hsv;
use super::ink::is_ink;
use super::morphology::Binary;
use super::texture::textured;
use crate::ground::units::Size;

/// What becomes of coloured pixels on their way to a mask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cleaning {
    /// Leave out pen marks and black.
    pub reject_ink: bool,
    /// Margin around ink that is left out too, µm: ink bleeds.
    pub ink_margin_um: f64,
    /// Roughness from which colourless pixels are tissue too, grey levels: fat. 0 asks for colour alone.
    pub texture: f32,
    /// Gaps up to twice this are filled, µm: fat, lumina and alveoli are tissue.
    pub closing_um: f64,
    /// Regions smaller than a square of this side are specks, µm.
    pub speck_um: f64,
    /// Holes smaller than a square of this side are filled, µm; 0 fills none.
    pub hole_um: f64,
}

impl Default for Cleaning {
    fn default() -> Self {
        // METHOD: on the pictures seen, glass has a roughness below 1.3 and fat one of 3.4 to 14.
        Self { reject_ink: true, ink_margin_um: 24.0, texture: 3.0, closing_um: 40.0, speck_um: 100.0, hole_um: 0.0 }
    }
}

impl Cleaning {
    /// Pixels at least as saturated as `threshold` and rough ones, closed, without ink, specks and small holes; `pixels` are those of
    /// `image`, without noise.
    pub(super) fn apply(&self, image: &RgbImage, pixels: &[Hsv], mpp: f64, threshold: f32) -> Mask {
        let (width, height) = image.dimensions();
        let binary = |cells| Binary { width: width as usize, height: height as usize, cells };
        let radius = |um: f64| (um / mpp).round() as usize;
        let area = |um: f64| (um / mpp).powi(2).ceil() as usize;
        let ink_radius = (self.ink_margin_um / mpp).ceil() as usize; // at least one pixel: ink's edge is paler than ink
        let ink = binary(pixels.iter().map(|&pixel| self.reject_ink && is_ink(pixel)).collect()).dilate(ink_radius);
        let mut stained: Vec<bool> = pixels.iter().map(|pixel| pixel.saturation >= threshold).collect();
        if self.texture > 0.0 {
            stained.iter_mut().zip(textured(image, mpp, self.texture)).for_each(|(stained, rough)| *stained |= rough);
        }
        let without_ink = |cells: Vec<bool>| binary(cells.into_iter().zip(&ink.cells).map(|(cell, &ink)| cell && !ink).collect());
        let tissue = without_ink(stained).close(radius(self.closing_um));
        let tissue = without_ink(tissue.cells).without_specks(area(self.speck_um)).without_holes(area(self.hole_um));
        Mask::new(Size { width, height }, without_ink(tissue.cells).cells)
    }
}
