//! Interpolation kernels, and which pixels with which weights make a pixel of another size.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Kernels of resizing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolation {
    /// Triangle.
    #[default]
    Bilinear,
    /// Keys' cubic; a = −0.5 wherever there is antialiasing, −0.75 in PyTorch without.
    Bicubic,
}

impl Interpolation {
    /// Half the kernel's width, pixels of the coarser of the two pictures.
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, distance: f64) -> f64 {
        const A: f64 = -0.5;
        let x = distance.abs();
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            _ => 0.0,
        }
    }
}

/// What one pixel of the new picture is made of, along one direction.
#[derive(Debug)]
pub(super) struct Taps {
    /// The first pixel of the old picture.
    pub(super) first: usize,
    /// Weights from there on; their sum is 1.
    pub(super) weights: Vec<f64>,
}

/// The taps of the pixels `wanted` out of `to`, made from `from` pixels. A kernel widens with the step between new pixels, which is what antialiasing means.
///
/// The order of the floating-point operations is Pillow's: the last bit decides which way a weight is rounded later.
pub(super) fn taps(from: u32, to: u32, wanted: Range<u32>, interpolation: Interpolation) -> Vec<Taps> {
    let step = f64::from(from) / f64::from(to);
    let stretch = step.max(1.0);
    let support = interpolation.support() * stretch;
    let per_stretch = 1.0 / stretch;
    let edge = |position: f64| (position + 0.5).clamp(0.0, f64::from(from)) as usize;
    let tap = |place: u32| {
        let centre = (f64::from(place) + 0.5) * step;
        let (first, end) = (edge(centre - support), edge(centre + support));
        let distance = |pixel: usize| (pixel as f64 - centre + 0.5) * per_stretch;
        let mut weights: Vec<f64> = (first..end).map(|pixel| interpolation.weight(distance(pixel))).collect();
        let sum: f64 = weights.iter().sum();
        if sum != 0.0 {
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        Taps { first, weights }
    };
    wanted.map(tap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_averages_and_weights_add_up_to_one() {
        let halved = taps(8, 4, 1..2, Interpolation::Bilinear);
        assert_eq!((halved[0].first, &halved[0].weights[..]), (1, &[0.125, 0.375, 0.375, 0.125][..]));
        for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
            for (from, to) in [(256, 224), (224, 448), (1, 7), (7, 1)] {
                let all = taps(from, to, 0..to, interpolation);
                assert!(all.iter().all(|tap| (tap.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12));
                assert!(all.iter().all(|tap| tap.first + tap.weights.len() <= from as usize && !tap.weights.is_empty()));
            }
        }
    }
}
