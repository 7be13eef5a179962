//! Agreement beyond chance: Matthews' correlation and Cohen's kappa, from the confusion matrix.

use super::classification::Confusion;

/// How much a disagreement between classes i and j counts in [`kappa`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disagreement {
    /// 1 if i ≠ j.
    Unweighted,
    /// |i − j|, for ordered classes.
    Linear,
    /// (i − j)², for ordered classes such as grades.
    Quadratic,
}

/// Matthews' correlation for any number of classes (Gorodkin 2004), −1 to 1; 0 where labels or predictions are constant.
pub fn matthews(confusion: &Confusion) -> f64 {
    let total = confusion.total() as f64;
    let (truth, predicted) = (real(&confusion.true_counts()), real(&confusion.predicted_counts()));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let covariance = confusion.correct() as f64 * total - dot(&truth, &predicted);
    let spread = (total * total - dot(&truth, &truth)) * (total * total - dot(&predicted, &predicted));
    if spread > 0.0 { covariance / spread.sqrt() } else { 0.0 }
}

/// Cohen's kappa: 1 − observed / expected disagreement. NaN where no disagreement is possible.
pub fn kappa(confusion: &Confusion, weights: Disagreement) -> f64 {
    let (truth, predicted) = (real(&confusion.true_counts()), real(&confusion.predicted_counts()));
    let total = confusion.total() as f64;
    let (mut observed, mut expected) = (0.0, 0.0);
    for (i, row) in confusion.counts.iter().enumerate() {
        for (j, &count) in row.iter().enumerate() {
            let weight = match weights {
                Disagreement::Unweighted => f64::from(u8::from(i != j)),
                Disagreement::Linear => i.abs_diff(j) as f64,
                Disagreement::Quadratic => (i.abs_diff(j) as f64).powi(2),
            };
            observed += weight * count as f64;
            expected += weight * truth[i] * predicted[j] / total;
        }
    }
    if expected > 0.0 { 1.0 - observed / expected } else { f64::NAN }
}

fn real(counts: &[u64]) -> Vec<f64> {
    counts.iter().map(|&count| count as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perfect_and_constant_predictions() {
        let perfect = Confusion::new(&[0, 1, 2], &[0, 1, 2], 3);
        assert_eq!((matthews(&perfect), kappa(&perfect, Disagreement::Quadratic)), (1.0, 1.0));
        let constant = Confusion::new(&[0, 1, 2], &[1, 1, 1], 3);
        assert_eq!((matthews(&constant), kappa(&constant, Disagreement::Unweighted)), (0.0, 0.0));
    }
}
