//! Correlation of two columns, with an interval.

use crate::ground::interval::Interval;

/// Pearson's r: how close the points lie to a line, −1 to 1; NaN where a column does not vary.
// METHOD: Fisher's z with variance 1/(n − 3); needs four points.
pub fn pearson(x: &[f64], y: &[f64]) -> Interval {
    bounded(product_moment(x, y), x.len(), |_| 1.0)
}

/// Spearman's ρ: how close the ranks lie to a line, equal values sharing their mean rank.
// METHOD: Fisher's z with variance (1 + ρ²/2)/(n − 3) (Bonett and Wright 2000); needs four points.
pub fn spearman(x: &[f64], y: &[f64]) -> Interval {
    bounded(product_moment(&ranks(x), &ranks(y)), x.len(), |rho| 1.0 + rho * rho / 2.0)
}

fn product_moment(x: &[f64], y: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let sum = |of: &dyn Fn(f64, f64) -> f64| x.iter().zip(y).map(|(x, y)| of(x - mean_x, y - mean_y)).sum::<f64>();
    sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
}

fn bounded(r: f64, count: usize, factor: impl Fn(f64) -> f64) -> Interval {
    if !r.is_finite() || count < 4 || r.abs() >= 1.0 {
        return Interval::point(r);
    }
    let half = 1.959_964 * (factor(r) / (count as f64 - 3.0)).sqrt();
    Interval { low: (r.atanh() - half).tanh(), high: (r.atanh() + half).tanh(), ..Interval::point(r) }
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let below = |value: f64| values.iter().filter(|other| **other < value).count() as f64;
    let equal = |value: f64| values.iter().filter(|other| **other == value).count() as f64;
    values.iter().map(|&value| below(value) + (equal(value) + 1.0) / 2.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_examples() {
        let (x, y) = ([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 4.0, 3.0, 5.0]);
        let found = pearson(&x, &y);
        // r = 8/10; z = 1.0986 ± 1.95996/√2.
        assert!((found.value - 0.8).abs() < 1e-12, "{found:?}");
        assert!(
            (found.low - (1.098_612f64 - 1.385_904).tanh()).abs() < 1e-5 && (found.high - (2.484_516f64).tanh()).abs() < 1e-5,
            "{found:?}"
        );
        assert_eq!(spearman(&x, &y.map(|y| y * y * y)).value, found.value, "ranks do not feel a monotone map");
        assert_eq!(ranks(&[3.0, 1.0, 3.0]), [2.5, 1.0, 2.5]);
        assert!(pearson(&[1.0, 1.0], &[1.0, 2.0]).value.is_nan() && !pearson(&x[..3], &y[..3]).is_bounded());
    }
}
