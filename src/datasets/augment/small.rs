//! Small images (CIFAR): crop after padding, mirror, rotation. Source: the released NCMI code (methods §7.1).

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Crop of an image with zeros around it, mirrored with probability ½, rotated (nearest neighbour, zeros outside).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CropFlipRotate {
    /// Zeros on each side, pixels; the largest shift.
    pub padding: u8,
    /// Largest angle, degrees, either way.
    pub degrees: f64,
}

impl Default for CropFlipRotate {
    fn default() -> Self {
        Self { padding: 4, degrees: 15.0 }
    }
}

impl CropFlipRotate {
    /// A changed copy of `image`: 3 planes of `side`² bytes.
    pub(super) fn apply(&self, image: &[u8], side: usize, mut random: ChaCha8Rng) -> Vec<u8> {
        let padding = i64::from(self.padding);
        let shift_x = random.random_range(-padding..=padding);
        let shift_y = random.random_range(-padding..=padding);
        let mirror = random.random::<bool>();
        let angle = random.random_range(-self.degrees..=self.degrees).to_radians();
        let (sin, cos) = angle.sin_cos();

        let n = side as i64;
        let centre = (n as f64 - 1.0) / 2.0;
        let from_centre = |factor: f64| (0..n).map(|x| factor * (x as f64 - centre)).collect::<Vec<_>>();
        let (cos, sin) = (from_centre(cos), from_centre(sin));
        let plane = side * side;
        let mut changed = vec![0; image.len()];
        for y in 0..side {
            for x in 0..side {
                // From the result back to the source: undo the rotation, then the mirror, then the crop.
                let rotated_x = rounded(cos[x] - sin[y] + centre);
                let rotated_y = rounded(sin[x] + cos[y] + centre);
                if !(0..n).contains(&rotated_x) || !(0..n).contains(&rotated_y) {
                    continue;
                }
                let mirrored_x = if mirror { n - 1 - rotated_x } else { rotated_x };
                let (source_x, source_y) = (mirrored_x + shift_x, rotated_y + shift_y);
                if !(0..n).contains(&source_x) || !(0..n).contains(&source_y) {
                    continue;
                }
                let (to, from) = (y * side + x, (source_y * n + source_x) as usize);
                changed[to] = image[from];
                changed[plane + to] = image[plane + from];
                changed[2 * plane + to] = image[2 * plane + from];
            }
        }
        changed
    }
}

/// `value.round()`, which processors before SSE 4.1 have no instruction for.
fn rounded(value: f64) -> i64 {
    let whole = value as i64;
    let rest = value - whole as f64;
    whole + i64::from(rest >= 0.5) - i64::from(rest <= -0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_rounded_away_from_zero() {
        for tenths in -400..400 {
            let value = f64::from(tenths) / 10.0;
            assert_eq!(rounded(value), value.round() as i64, "{value}");
        }
        assert_eq!(rounded(0.499_999_999_999_999_94), 0);
    }

    #[test]
    fn what_comes_from_outside_is_zero() {
        let image = vec![200; 3 * 8 * 8];
        let settings = CropFlipRotate { padding: 4, degrees: 0.0 };
        for index in 0..20 {
            let random = || crate::ground::seed::stream(index, "small");
            let (mut draws, changed) = (random(), settings.apply(&image, 8, random()));
            let (x, y): (i64, i64) = (draws.random_range(-4..=4), draws.random_range(-4..=4));
            let kept = (8 - x.unsigned_abs()) * (8 - y.unsigned_abs());
            assert_eq!(changed.iter().filter(|value| **value == 200).count() as u64, 3 * kept);
        }
    }
}
