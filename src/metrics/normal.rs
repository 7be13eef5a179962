//! The standard normal distribution, for intervals and p values.

use std::f64::consts::TAU;

/// From here on the continued fraction is used: the series would lose digits of a small tail.
const TAIL: f64 = 2.5;
/// Terms of the continued fraction; enough for f64 from [`TAIL`] on.
const TERMS: u32 = 100;

/// Φ(x), to about 13 digits also where it is tiny.
pub fn cdf(x: f64) -> f64 {
    if x < 0.0 { upper_tail(-x) } else { 1.0 - upper_tail(x) }
}

/// 1 − Φ(x), to about 13 digits also where it is tiny.
///
/// Series and continued fraction of Mills' ratio: Abramowitz & Stegun 26.2.11 and 26.2.14.
pub fn upper_tail(x: f64) -> f64 {
    if x < 0.0 {
        return 1.0 - upper_tail(-x);
    }
    let density = (-x * x / 2.0).exp() / TAU.sqrt();
    if x < TAIL {
        let (mut term, mut sum, mut odd) = (x, x, 1.0);
        while term > sum * f64::EPSILON / 4.0 {
            odd += 2.0;
            term *= x * x / odd;
            sum += term;
        }
        0.5 - density * sum
    } else {
        density / (1..=TERMS).rev().fold(x, |below, k| x + f64::from(k) / below)
    }
}

/// The x with Φ(x) = `share`; infinite at 0 and 1, NaN outside.
pub fn quantile(share: f64) -> f64 {
    if share > 0.5 {
        return -quantile(1.0 - share);
    }
    if share == 0.0 {
        return f64::NEG_INFINITY;
    }
    if share.is_nan() || share < 0.0 {
        return f64::NAN;
    }
    // Halving is slow and cannot go wrong; an interval needs a few calls.
    let (mut low, mut high) = (-40.0, 0.0);
    loop {
        let middle = (low + high) / 2.0;
        if middle <= low || middle >= high {
            return high;
        }
        if cdf(middle) < share { low = middle } else { high = middle }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_values() {
        // Abramowitz & Stegun, table 26.1, and the tail at 6 from table 26.2.
        for (x, expected) in [(0.0, 0.5), (1.0, 0.841_344_746_068_543), (2.0, 0.977_249_868_051_821), (3.0, 0.998_650_101_968_370)] {
            assert!((cdf(x) - expected).abs() < 1e-14, "{x}: {}", cdf(x));
            assert!((cdf(-x) - (1.0 - expected)).abs() < 1e-14);
        }
        assert!((upper_tail(6.0) / 9.865_876_450_376_98e-10 - 1.0).abs() < 1e-12, "{}", upper_tail(6.0));
    }

    #[test]
    fn both_formulas_meet() {
        let (below, above) = (upper_tail(TAIL - 1e-9), upper_tail(TAIL));
        let slope = (-TAIL * TAIL / 2.0).exp() / TAU.sqrt();
        assert!((below - above - 1e-9 * slope).abs() < 1e-14);
    }

    #[test]
    fn the_quantile_undoes_the_distribution() {
        assert!((quantile(0.975) - 1.959_963_984_540_054).abs() < 1e-12);
        for share in [1e-9, 0.025, 0.3, 0.5, 0.8] {
            assert!((cdf(quantile(share)) / share - 1.0).abs() < 1e-12, "{share}");
        }
        assert!(quantile(0.0) == f64::NEG_INFINITY && quantile(1.0) == f64::INFINITY && quantile(1.5).is_nan());
    }
}
