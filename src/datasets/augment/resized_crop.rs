//! Which part of a photograph training sees.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::ground::units::Size;

/// Smallest and largest share of the area, and of width to height, of a random part. Source: Szegedy et al. 2015; torchvision's defaults.
const AREA: (f64, f64) = (0.08, 1.0);
const ASPECT: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);
const TRIES: usize = 10;

/// A rectangle of a picture, pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::datasets) struct Crop {
    pub(in crate::datasets) left: f64,
    pub(in crate::datasets) top: f64,
    pub(in crate::datasets) width: f64,
    pub(in crate::datasets) height: f64,
}

/// A random rectangle: its share of the area uniform, its proportions uniform in their logarithm, then its place; whole pixels.
/// Where ten tries do not fit, the largest one in the middle of allowed proportions.
pub(in crate::datasets) fn random_resized(size: Size, random: &mut ChaCha8Rng) -> Crop {
    let (width, height) = (f64::from(size.width), f64::from(size.height));
    for _ in 0..TRIES {
        let area = width * height * random.random_range(AREA.0..AREA.1);
        let aspect = random.random_range(ASPECT.0.ln()..ASPECT.1.ln()).exp();
        let (wide, high) = ((area * aspect).sqrt().round_ties_even(), (area / aspect).sqrt().round_ties_even());
        if (1.0..=width).contains(&wide) && (1.0..=height).contains(&high) {
            let left = random.random_range(0..=(width - wide) as u32);
            let top = random.random_range(0..=(height - high) as u32);
            return Crop { left: left.into(), top: top.into(), width: wide, height: high };
        }
    }
    let aspect = (width / height).clamp(ASPECT.0, ASPECT.1);
    let (wide, high) = if width / height > aspect { ((height * aspect).round(), height) } else { (width, (width / aspect).round()) };
    Crop { left: ((width - wide) / 2.0).floor(), top: ((height - high) / 2.0).floor(), width: wide, height: high }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::seed;

    #[test]
    fn random_parts_lie_inside_and_have_the_stated_shares() {
        let size = Size { width: 500, height: 375 };
        let mut shares = Vec::new();
        for index in 0..4000 {
            let part = random_resized(size, &mut seed::stream(1, &format!("{index}")));
            assert!(part.left >= 0.0 && part.top >= 0.0 && part.left + part.width <= 500.0 && part.top + part.height <= 375.0);
            assert!((0.74..=1.36).contains(&(part.width / part.height)), "{part:?}");
            shares.push(part.width * part.height / (500.0 * 375.0));
        }
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        // Uniform on 0.08–1 has mean 0.54; parts that do not fit are drawn again. The mean of those that fit, by integration: 0.4319.
        assert!((mean - 0.4319).abs() < 0.012, "{mean}");
        assert!(shares.iter().all(|share| (0.07..=1.0).contains(share)));
    }

    #[test]
    fn a_strip_gives_its_middle() {
        let part = random_resized(Size { width: 1000, height: 10 }, &mut seed::stream(1, "strip"));
        assert_eq!(part, Crop { left: 493.0, top: 0.0, width: 13.0, height: 10.0 });
    }
}
