//! How much a score depends on the seed. That is another question than how much it depends on the patients at hand: the
//! bootstrap answers the latter, and the two are never added.

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
}
