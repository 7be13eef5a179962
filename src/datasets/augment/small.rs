//! Small images (CIFAR): crop after padding, mirror, rotation. Source: the released NCMI code (methods §7.1).

use rand::Rng;
use rand_chacha::ChaCha8Rng;

const PADDING: i64 = 4;
const LARGEST_ANGLE_DEGREES: f64 = 15.0;

/// Crop of a zero-padded image, mirror with probability ½, rotation by up to ±15° (nearest neighbour, zeros outside).
///
/// `image`: 3 planes of `side`² bytes.
pub(in crate::datasets) fn crop_flip_rotate(image: &[u8], side: usize, mut random: ChaCha8Rng) -> Vec<u8> {
    let shift_x = random.random_range(-PADDING..=PADDING);
    let shift_y = random.random_range(-PADDING..=PADDING);
    let mirror = random.random::<bool>();
    let angle = random.random_range(-LARGEST_ANGLE_DEGREES..=LARGEST_ANGLE_DEGREES).to_radians();
    let (sin, cos) = angle.sin_cos();

    let n = side as i64;
    let centre = (n as f64 - 1.0) / 2.0;
    let mut changed = vec![0; image.len()];
    for y in 0..n {
        for x in 0..n {
            // From the result back to the source: undo the rotation, then the mirror, then the crop.
            let (dx, dy) = (x as f64 - centre, y as f64 - centre);
            let rotated_x = (cos * dx - sin * dy + centre).round() as i64;
            let rotated_y = (sin * dx + cos * dy + centre).round() as i64;
            if !(0..n).contains(&rotated_x) || !(0..n).contains(&rotated_y) {
                continue;
            }
            let mirrored_x = if mirror { n - 1 - rotated_x } else { rotated_x };
            let (source_x, source_y) = (mirrored_x + shift_x, rotated_y + shift_y);
            if !(0..n).contains(&source_x) || !(0..n).contains(&source_y) {
                continue;
            }
            for channel in 0..3 {
                let plane = channel * side * side;
                changed[plane + (y * n + x) as usize] = image[plane + (source_y * n + source_x) as usize];
            }
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::Augment;

    #[test]
    fn changes_depend_on_seed_epoch_view_and_row_only() {
        let image: Vec<u8> = (0..3 * 32 * 32).map(|i| (i % 256) as u8).collect();
        let of = |seed, epoch, place, row| crop_flip_rotate(&image, 32, Augment { seed, epoch, views: 2 }.stream(place, 4, row));
        assert_eq!(of(1, 1, 0, 1), of(1, 1, 1, 1));
        assert_ne!(of(1, 1, 0, 1), of(1, 1, 2, 1), "the second view is another one");
        assert_ne!(of(1, 1, 0, 1), of(1, 2, 0, 1));
        assert_ne!(of(1, 1, 0, 1), of(1, 1, 0, 2));
    }
}
