//! How much a score depends on the seed. That is another question than how much it depends on the patients at hand: the
//! bootstrap answers the latter, and the two are never added.

use super::student;
use crate::ground::interval::Interval;

/// Mean and standard deviation over repeats of one training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Of the defined values; NaN if there is none.
    pub mean: f64,
    /// Divisor n − 1; NaN with fewer than two defined values.
    pub sd: f64,
}

/// Over the finite `values`, one for each seed.
pub fn over_seeds(values: &[f64]) -> Spread {
    let defined: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let count = defined.len() as f64;
    let mean = defined.iter().sum::<f64>() / count;
    if defined.len() < 2 {
        return Spread { mean, sd: f64::NAN };
    }
    let squares: f64 = defined.iter().map(|value| (value - mean).powi(2)).sum();
    Spread { mean, sd: (squares / (count - 1.0)).sqrt() }
}

/// The mean of the finite `values`, one for each seed, with Student's 95 % interval; without bounds for fewer than two of them.
// METHOD: the interval is about the seed alone: what another training of the same recipe on the same images would give. Test images are
// not resampled.
pub fn mean_over_seeds(values: &[f64]) -> Interval {
    let count = values.iter().filter(|value| value.is_finite()).count();
    let Spread { mean, sd } = over_seeds(values);
    if count < 2 {
        return Interval::point(mean);
    }
    let half = student::two_sided_95(count - 1) * sd / (count as f64).sqrt();
    Interval { low: mean - half, high: mean + half, ..Interval::point(mean) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_has_no_spread() {
        assert_eq!(over_seeds(&[1.0, 3.0, f64::NAN]), Spread { mean: 2.0, sd: 2f64.sqrt() });
        let one = over_seeds(&[0.7]);
        assert!(one.mean == 0.7 && one.sd.is_nan());
        assert!(over_seeds(&[]).mean.is_nan());
    }

    #[test]
    fn the_interval_of_three_seeds() {
        // sd 1, t(2) = 4.303: 4.303 / √3.
        let found = mean_over_seeds(&[1.0, f64::NAN, 2.0, 3.0]);
        assert!((found.value - 2.0).abs() < 1e-12 && (found.high - 2.0 - 2.484_138).abs() < 1e-5, "{found:?}");
        assert!(!mean_over_seeds(&[0.5]).is_bounded());
    }
}
