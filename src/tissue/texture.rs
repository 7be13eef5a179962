//! Texture: what tells fat from glass, which have the same colour. Membranes make a net of fine lines; glass is smooth.

use image::RgbImage;

use super::Mask;
use crate::ground::units::Size;

/// METHOD: three quarters of the pixels within 50 µm must be rough: a net of membranes is, a hair, a pen stroke's edge or a grain of
/// dust is not.
const REACH_UM: f64 = 50.0;
const LEAST_SHARE: f32 = 0.75;

/// METHOD: in coarser pixels a fat cell, 50 to 100 µm wide, is no net of lines any more.
const COARSEST_UM: f64 = 16.0;

/// Pixels in rough surroundings: those where the standard deviation of grey over 3 × 3 pixels is mostly at least `least` grey levels.
/// None in pictures of pixels coarser than 16 µm.
pub(super) fn textured(image: &RgbImage, mpp: f64, least: f32) -> Vec<bool> {
    let (width, height) = image.dimensions();
    if mpp > COARSEST_UM {
        return vec![false; (width * height) as usize];
    }
    let grey: Vec<u32> =
        image.pixels().map(|pixel| (77 * u32::from(pixel.0[0]) + 150 * u32::from(pixel.0[1]) + 29 * u32::from(pixel.0[2])) >> 8).collect();
    // 81 times the variance is 9 Σ g² − (Σ g)²: whole numbers, the same on every machine.
    let least = (81.0 * f64::from(least).powi(2)).ceil() as u32;
    let around = |at: u32, length: u32| [at.saturating_sub(1), at, (at + 1).min(length - 1)];
    let is_rough = |x: u32, y: u32| {
        let (mut sum, mut squares) = (0, 0);
        for row in around(y, height) {
            for column in around(x, width) {
                let value = grey[(row * width + column) as usize];
                sum += value;
                squares += value * value;
            }
        }
        9 * squares - sum * sum >= least
    };
    let places = || (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let rough = Mask::new(Size { width, height }, places().map(|(x, y)| is_rough(x, y)).collect());
    let reach = (REACH_UM / mpp).round() as u32;
    let window = |at: u32, length: u32| (f64::from(at.saturating_sub(reach)), f64::from((at + reach + 1).min(length)));
    let mostly_rough = |(x, y): (u32, u32)| {
        let ((left, right), (top, bottom)) = (window(x, width), window(y, height));
        rough.share(left, top, right, bottom) >= LEAST_SHARE
    };
    places().map(mostly_rough).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    fn share(paint: impl Fn(u32, u32) -> bool) -> f64 {
        let image = RgbImage::from_fn(64, 64, |x, y| Rgb(if paint(x, y) { [215, 205, 212] } else { [242, 240, 241] }));
        let textured = textured(&image, 8.0, 3.0);
        textured.iter().filter(|&&textured| textured).count() as f64 / textured.len() as f64
    }

    #[test]
    fn a_net_is_textured_and_a_line_is_not() {
        assert!(share(|x, y| x % 4 == 0 || y % 4 == 0) > 0.99);
        assert_eq!(share(|_, _| false), 0.0);
        assert_eq!(share(|x, _| x == 30), 0.0);
        assert_eq!(share(|x, y| x.abs_diff(30) + y.abs_diff(30) < 3), 0.0);
        assert_eq!(share(|x, _| x < 30), 0.0, "the edge of something smooth");
    }
}
