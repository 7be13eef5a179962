//! Which slides a cohort has, what is on each, and the label files beside them; one cohort a file.

pub(super) mod bracs;
pub(super) mod camelyon17;
pub(super) mod demo;
pub(super) mod rare;

/// `total` things over classes in proportion to `weights`: largest remainders, and one of each class while they last.
fn quotas(weights: &[usize], total: usize) -> Vec<usize> {
    let sum: usize = weights.iter().sum();
    let mut counts: Vec<usize> = weights.iter().map(|weight| weight * total / sum).collect();
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by_key(|&class| std::cmp::Reverse(weights[class] * total % sum));
    for &class in by_remainder.iter().take(total - counts.iter().sum::<usize>()) {
        counts[class] += 1;
    }
    for (class, &weight) in weights.iter().enumerate() {
        let (largest, &most) = counts.iter().enumerate().max_by_key(|&(_, count)| count).expect("there are classes");
        if counts[class] == 0 && weight > 0 && most > 1 {
            counts[largest] -= 1;
            counts[class] += 1;
        }
    }
    counts
}

/// The share of a real cohort to make: above 0, at most 1.
///
/// # Errors
/// Anything else.
fn check_scale(scale: f64) -> anyhow::Result<()> {
    anyhow::ensure!(scale > 0.0 && scale <= 1.0, "scale = {scale}: give a share of the real cohort's size above 0 and at most 1");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_keep_proportion_and_every_class() {
        assert_eq!(quotas(&[64, 11, 10, 15], 100), [64, 11, 10, 15]);
        assert_eq!(quotas(&[75, 2, 8, 15], 20), [14, 1, 2, 3]);
        assert_eq!(quotas(&[75, 2, 8, 15], 5), [2, 1, 1, 1]);
        assert_eq!(quotas(&[1, 1], 0), [0, 0]);
    }
}
