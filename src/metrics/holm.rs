//! Several questions to one data set: Holm's step-down correction of p values.

/// Adjusted p values `[n]`, in the order given: with p₍₁₎ ≤ … ≤ p₍ₘ₎, the k-th is the largest of (m − j + 1) · p₍ⱼ₎ for
/// j ≤ k, at most 1. Rejecting where the adjusted value is at most α keeps the chance of any false rejection at α, however
/// the tests depend on each other. An undefined (NaN) value stays NaN and does not count in m. Holm 1979.
pub fn adjusted(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).filter(|&i| !p[i].is_nan()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![f64::NAN; p.len()];
    let mut least = 0.0f64;
    for (rank, &i) in order.iter().enumerate() {
        least = least.max((order.len() - rank) as f64 * p[i]).min(1.0);
        adjusted[i] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worked_example() {
        // Sorted: 0.01·4, 0.02·3, 0.03·2 (not below the one before), 0.04·1 (likewise).
        assert_eq!(adjusted(&[0.02, 0.04, 0.01, 0.03]), [0.06, 0.06, 0.04, 0.06]);
    }

    #[test]
    fn one_question_needs_no_correction_and_nothing_exceeds_one() {
        assert_eq!(adjusted(&[0.3]), [0.3]);
        assert_eq!(adjusted(&[0.6, 0.9]), [1.0, 1.0]);
    }

    #[test]
    fn an_undefined_test_is_no_question() {
        let found = adjusted(&[0.02, f64::NAN, 0.03]);
        assert!(found[0] == 0.04 && found[1].is_nan() && found[2] == 0.04, "{found:?}");
    }
}
