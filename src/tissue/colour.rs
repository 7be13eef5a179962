//! Hue, saturation and value: stains differ from glass by saturation, inks from stains by hue.

use image::{RgbImage, imageops};

/// One pixel in HSV.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hsv {
    /// Degrees, 0 ≤ hue < 360: red 0, green 120, blue 240, the magenta of eosin about 330.
    pub(super) hue: f32,
    /// 0–1.
    pub(super) saturation: f32,
    /// 0–1.
    pub(super) value: f32,
}

impl Hsv {
    pub(super) fn of([red, green, blue]: [u8; 3]) -> Self {
        let (r, g, b) = (f32::from(red), f32::from(green), f32::from(blue));
        let (high, low) = (r.max(g).max(b), r.min(g).min(b));
        let spread = high - low;
        let sextant = if spread == 0.0 {
            0.0
        } else if high == r {
            ((g - b) / spread).rem_euclid(6.0)
        } else if high == g {
            (b - r) / spread + 2.0
        } else {
            (r - g) / spread + 4.0
        };
        Self { hue: 60.0 * sextant, saturation: if high == 0.0 { 0.0 } else { spread / high }, value: high / 255.0 }
    }
}

/// HSV of every pixel, row by row, after a light blur that takes JPEG noise off bare glass.
pub(super) fn blurred_hsv(image: &RgbImage) -> Vec<Hsv> {
    imageops::blur(image, 1.0).pixels().map(|pixel| Hsv::of(pixel.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primary_colours() {
        for (rgb, hue) in [([255, 0, 0], 0.0), ([0, 255, 0], 120.0), ([0, 0, 255], 240.0), ([255, 0, 255], 300.0)] {
            let hsv = Hsv::of(rgb);
            assert_eq!((hsv.hue, hsv.saturation, hsv.value), (hue, 1.0, 1.0));
        }
        assert_eq!(Hsv::of([0, 0, 0]).saturation, 0.0);
    }
}
