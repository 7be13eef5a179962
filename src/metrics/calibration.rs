//! Whether probabilities mean what they say: log loss, Brier score, expected calibration error.

use super::classification::{argmax, mean};

/// Mean −ln of the label's probability, floored at `floor` (0: an impossible label costs infinity).
pub fn log_loss(labels: &[usize], probabilities: &[Vec<f64>], floor: f64) -> f64 {
    mean(labels.iter().zip(probabilities).map(|(&label, row)| -row[label].max(floor).ln()))
}

/// Mean over samples of Σ_c (p_c − 1[c = label])², 0 to 2.
pub fn brier(labels: &[usize], probabilities: &[Vec<f64>]) -> f64 {
    let one = |(&label, row): (&usize, &Vec<f64>)| {
        row.iter().enumerate().map(|(class, p)| (p - f64::from(u8::from(class == label))).powi(2)).sum::<f64>()
    };
    mean(labels.iter().zip(probabilities).map(one))
}

/// Samples of similar confidence; confidence is the largest probability.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bin {
    /// Samples in it.
    pub count: usize,
    /// Their mean confidence; 0 if empty.
    pub confidence: f64,
    /// Their share of right decisions; 0 if empty.
    pub accuracy: f64,
}

/// Bins (k/n, (k+1)/n] of confidence, k = 0 … n−1.
pub fn equal_width_bins(labels: &[usize], probabilities: &[Vec<f64>], bins: usize) -> Vec<Bin> {
    let samples = samples(labels, probabilities);
    equal_width_bins_of(&samples, &vec![1; samples.len()], bins)
}

/// [`equal_width_bins`] of the table in which sample i stands `times[i]` times; `samples [N]`: confidence, and whether the decision was
/// right.
pub fn equal_width_bins_of(samples: &[(f64, bool)], times: &[u32], bins: usize) -> Vec<Bin> {
    let mut sums = vec![(0, 0.0, 0); bins];
    for (&(confidence, right), &times) in samples.iter().zip(times) {
        let bin = (bins as f64 * confidence).ceil() as usize;
        let sum = &mut sums[bin.saturating_sub(1).min(bins - 1)];
        sum.0 += times as usize;
        sum.1 += confidence * f64::from(times);
        sum.2 += times as usize * usize::from(right);
    }
    let bin = |(count, confidence, right): (usize, f64, usize)| match count {
        0 => Bin::default(),
        _ => Bin { count, confidence: confidence / count as f64, accuracy: right as f64 / count as f64 },
    };
    sums.into_iter().map(bin).collect()
}

/// Bins of equal size by ascending confidence; the first N mod n are one larger.
pub fn equal_mass_bins(labels: &[usize], probabilities: &[Vec<f64>], bins: usize) -> Vec<Bin> {
    let mut sorted = samples(labels, probabilities);
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (each, larger) = (sorted.len() / bins, sorted.len() % bins);
    let mut rest = sorted.as_slice();
    let next = |bin: usize| {
        let (members, tail) = rest.split_at(each + usize::from(bin < larger));
        rest = tail;
        summarise(members)
    };
    (0..bins).map(next).collect()
}

/// Expected calibration error: mean |confidence − accuracy| over samples. NaN without samples.
pub fn expected_error(bins: &[Bin]) -> f64 {
    let total: usize = bins.iter().map(|bin| bin.count).sum();
    bins.iter().map(|bin| bin.count as f64 * gap(bin)).sum::<f64>() / total as f64
}

/// Largest |confidence − accuracy| of a bin that is not empty; 0 without samples.
pub fn largest_error(bins: &[Bin]) -> f64 {
    bins.iter().filter(|bin| bin.count > 0).map(gap).fold(0.0, f64::max)
}

fn gap(bin: &Bin) -> f64 {
    (bin.confidence - bin.accuracy).abs()
}

/// Confidence (the largest probability) and whether the decision was right, of each row `[N]`.
pub fn samples(labels: &[usize], probabilities: &[Vec<f64>]) -> Vec<(f64, bool)> {
    let one = |(&label, row): (&usize, &Vec<f64>)| {
        let predicted = argmax(row);
        (row[predicted], predicted == label)
    };
    labels.iter().zip(probabilities).map(one).collect()
}

fn summarise(members: &[(f64, bool)]) -> Bin {
    if members.is_empty() {
        return Bin::default();
    }
    Bin {
        count: members.len(),
        confidence: mean(members.iter().map(|(confidence, _)| *confidence)),
        accuracy: mean(members.iter().map(|(_, right)| f64::from(u8::from(*right)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sure_and_right_model_has_no_error() {
        let (labels, probabilities) = ([0, 1], [vec![1.0, 0.0], vec![0.0, 1.0]]);
        assert_eq!((log_loss(&labels, &probabilities, 0.0), brier(&labels, &probabilities)), (0.0, 0.0));
        assert_eq!(expected_error(&equal_width_bins(&labels, &probabilities, 15)), 0.0);
    }

    #[test]
    fn a_sure_and_wrong_model_has_all_of_it() {
        let (labels, probabilities) = ([1, 0, 1], vec![vec![0.9, 0.1], vec![0.1, 0.9], vec![0.9, 0.1]]);
        assert!((expected_error(&equal_mass_bins(&labels, &probabilities, 2)) - 0.9).abs() < 1e-12);
        assert!((largest_error(&equal_width_bins(&labels, &probabilities, 10)) - 0.9).abs() < 1e-12);
    }
}
