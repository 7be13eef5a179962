//! Average precision, one class against the rest: the area under the precision–recall steps, for rare classes.

/// Σ (R_k − R_{k−1}) P_k over distinct thresholds from the highest score down; `None` without positives.
pub fn average_precision(scores: &[f64], positive: &[bool]) -> Option<f64> {
    let mut rows: Vec<usize> = (0..scores.len()).collect();
    rows.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let (mut right, mut taken, mut sum) = (0usize, 0usize, 0.0);
    for level in rows.chunk_by(|&a, &b| scores[a] == scores[b]) {
        let hits = level.iter().filter(|&&row| positive[row]).count();
        right += hits;
        taken += level.len();
        sum += hits as f64 * right as f64 / taken as f64;
    }
    (right > 0).then(|| sum / right as f64)
}

/// [`average_precision`] of each class `[C]`.
pub fn per_class(labels: &[usize], probabilities: &[Vec<f64>]) -> Vec<Option<f64>> {
    let one = |class: usize| {
        let scores: Vec<f64> = probabilities.iter().map(|row| row[class]).collect();
        let positive: Vec<bool> = labels.iter().map(|&label| label == class).collect();
        average_precision(&scores, &positive)
    };
    (0..probabilities.first().map_or(0, Vec::len)).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_ties() {
        assert_eq!(average_precision(&[0.9, 0.8, 0.1], &[true, true, false]), Some(1.0));
        assert_eq!(average_precision(&[0.5, 0.5], &[true, false]), Some(0.5));
        assert_eq!(average_precision(&[0.5], &[false]), None);
    }
}
