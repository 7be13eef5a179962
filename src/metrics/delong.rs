//! DeLong's variance of the area under a ROC curve, and the comparison of two areas on the same items.
//!
//! DeLong, DeLong & Clarke-Pearson 1988; computed from midranks as in Sun & Xu 2014, in O(N log N).
//!
//! The theory takes items to be independent. Several slides of one patient are not: the variance would be too small, so
//! they are refused. Use the patient-clustered bootstrap or the permutation test there.

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};

use super::normal;

/// An area with the variance of its estimate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    /// Chance that a positive scores above a negative, ties one half.
    pub area: f64,
    /// DeLong's variance.
    pub variance: f64,
}

/// Two areas on the same items.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Of the first scores.
    pub first: Area,
    /// Of the second scores.
    pub second: Area,
    /// Covariance of the two areas.
    pub covariance: f64,
    /// Difference over its standard error; NaN where that is 0.
    pub z: f64,
    /// Two-sided, from the normal distribution; NaN where `z` is.
    pub p: f64,
    /// Why `z` and `p` are undefined.
    pub undefined: Option<&'static str>,
}

/// Area of `scores [N]` for `positive [N]`; `groups [N]` names each item's patient.
///
/// # Errors
/// A patient with several items, a score that is not finite, fewer than two positives or two negatives.
pub fn area(scores: &[f64], positive: &[bool], groups: &[String]) -> Result<Area> {
    check(&[scores], positive, groups)?;
    let parts = Placements::new(scores, positive);
    Ok(Area { area: parts.area, variance: parts.covariance(&parts) })
}

/// Compares the areas of `first [N]` and `second [N]` for `positive [N]`; `groups [N]` names each item's patient.
///
/// # Errors
/// As [`area`].
pub fn compare(first: &[f64], second: &[f64], positive: &[bool], groups: &[String]) -> Result<Comparison> {
    check(&[first, second], positive, groups)?;
    let (a, b) = (Placements::new(first, positive), Placements::new(second, positive));
    let of = |parts: &Placements| Area { area: parts.area, variance: parts.covariance(parts) };
    let (first, second, covariance) = (of(&a), of(&b), a.covariance(&b));
    // Of the differences of placements, not as a difference of variances: equal scores give exactly 0.
    let difference = a.minus(&b);
    let variance = difference.covariance(&difference);
    let undefined = (variance <= 0.0).then_some("the two areas vary together exactly: their difference has no variance");
    let z = if undefined.is_none() { difference.area / variance.sqrt() } else { f64::NAN };
    let p = if z.is_nan() { f64::NAN } else { 2.0 * normal::upper_tail(z.abs()) };
    Ok(Comparison { first, second, covariance, z, p, undefined })
}

fn check(all_scores: &[&[f64]], positive: &[bool], groups: &[String]) -> Result<()> {
    let mut seen = BTreeSet::new();
    if let Some(patient) = groups.iter().find(|group| !seen.insert(*group)) {
        bail!("patient '{patient}' has several items, and DeLong's test takes items to be independent; use the permutation test");
    }
    for scores in all_scores {
        if let Some(row) = scores.iter().position(|score| !score.is_finite()) {
            bail!("the score of item {row} (patient '{}') is {}; give finite scores", groups[row], scores[row]);
        }
    }
    let positives = positive.iter().filter(|positive| **positive).count();
    let negatives = positive.len() - positives;
    ensure!(positives >= 2 && negatives >= 2, "{positives} positives and {negatives} negatives; a variance needs two of each");
    Ok(())
}

/// For each item, the share of items of the other kind on its right side (DeLong's V₁₀ and V₀₁).
struct Placements {
    positives: Vec<f64>,
    negatives: Vec<f64>,
    area: f64,
}

impl Placements {
    fn new(scores: &[f64], positive: &[bool]) -> Self {
        let side = |wanted: bool| -> Vec<f64> { scores.iter().zip(positive).filter(|(_, p)| **p == wanted).map(|(s, _)| *s).collect() };
        let (ours, others) = (side(true), side(false));
        let (m, n) = (ours.len() as f64, others.len() as f64);
        let among_all = midranks(&[ours.as_slice(), &others].concat());
        let (of_positives, of_negatives) = among_all.split_at(ours.len());
        // A rank among all less the rank among one's own kind counts the other kind below, ties one half.
        let positives: Vec<f64> = of_positives.iter().zip(midranks(&ours)).map(|(all, own)| (all - own) / n).collect();
        let negatives = of_negatives.iter().zip(midranks(&others)).map(|(all, own)| 1.0 - (all - own) / m).collect();
        let area = positives.iter().sum::<f64>() / m;
        Self { positives, negatives, area }
    }

    fn minus(&self, other: &Self) -> Self {
        let minus = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect();
        Self {
            positives: minus(&self.positives, &other.positives),
            negatives: minus(&self.negatives, &other.negatives),
            area: self.area - other.area,
        }
    }

    fn covariance(&self, other: &Self) -> f64 {
        let one = |a: &[f64], b: &[f64]| {
            let count = a.len() as f64;
            let (mean_a, mean_b) = (a.iter().sum::<f64>() / count, b.iter().sum::<f64>() / count);
            a.iter().zip(b).map(|(a, b)| (a - mean_a) * (b - mean_b)).sum::<f64>() / (count - 1.0) / count
        };
        one(&self.positives, &other.positives) + one(&self.negatives, &other.negatives)
    }
}

/// Ranks from 1; equal values share the mean of their ranks.
fn midranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let (mut ranks, mut before) = (vec![0.0; values.len()], 0);
    for level in order.chunk_by(|&a, &b| values[a] == values[b]) {
        for &row in level {
            ranks[row] = before as f64 + (level.len() as f64 + 1.0) / 2.0;
        }
        before += level.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(count: usize) -> Vec<String> {
        (0..count).map(|item| format!("p{item}")).collect()
    }

    /// The definition: every pair of a positive and a negative.
    fn by_pairs(first: &[f64], second: &[f64], positive: &[bool]) -> (f64, f64, f64) {
        let rows = |wanted: bool| (0..positive.len()).filter(move |&row| positive[row] == wanted).collect::<Vec<_>>();
        let (ours, others) = (rows(true), rows(false));
        let above = |s: &[f64], i: usize, j: usize| f64::from(u8::from(s[i] > s[j])) + 0.5 * f64::from(u8::from(s[i] == s[j]));
        let (m, n) = (ours.len() as f64, others.len() as f64);
        let v10 = |s: &[f64]| ours.iter().map(|&i| others.iter().map(|&j| above(s, i, j)).sum::<f64>() / n).collect::<Vec<_>>();
        let v01 = |s: &[f64]| others.iter().map(|&j| ours.iter().map(|&i| above(s, i, j)).sum::<f64>() / m).collect::<Vec<_>>();
        let area = |s: &[f64]| v10(s).iter().sum::<f64>() / m;
        let (a, b) = (area(first), area(second));
        let dot = |x: Vec<f64>, y: Vec<f64>, k: f64| x.iter().zip(y).map(|(x, y)| (x - a) * (y - b)).sum::<f64>() / (k - 1.0) / k;
        (a, b, dot(v10(first), v10(second), m) + dot(v01(first), v01(second), n))
    }

    #[test]
    fn midranks_agree_with_all_pairs() {
        let positive: Vec<bool> = (0..23).map(|i| i % 3 == 0).collect();
        let first: Vec<f64> = (0..23).map(|i| f64::from(i * 7 % 11)).collect();
        let second: Vec<f64> = (0..23).map(|i| f64::from(i * 5 % 13)).collect();
        let found = compare(&first, &second, &positive, &items(23)).unwrap();
        let (a, b, covariance) = by_pairs(&first, &second, &positive);
        assert!((found.first.area - a).abs() < 1e-12 && (found.second.area - b).abs() < 1e-12);
        assert!((found.covariance - covariance).abs() < 1e-12);
        assert!((found.first.variance - by_pairs(&first, &first, &positive).2).abs() < 1e-12);
        let error = (found.first.variance + found.second.variance - 2.0 * covariance).sqrt();
        assert!((found.z - (a - b) / error).abs() < 1e-9);
        assert!((found.p - 2.0 * normal::cdf(-found.z.abs())).abs() < 1e-12);
    }

    #[test]
    fn a_worked_variance() {
        // Positives 3, 1 against negatives 2, 0: V₁₀ = (1, ½), V₀₁ = (½, 1), each with variance 1/8 and divided by 2.
        let found = area(&[3.0, 1.0, 2.0, 0.0], &[true, true, false, false], &items(4)).unwrap();
        assert_eq!((found.area, found.variance), (0.75, 0.125));
    }

    #[test]
    fn equal_scores_have_no_test() {
        let scores = [3.0, 1.0, 2.0, 0.0];
        let found = compare(&scores, &scores, &[true, true, false, false], &items(4)).unwrap();
        assert!(found.z.is_nan() && found.p.is_nan() && found.undefined.is_some());
    }

    #[test]
    fn what_the_theory_does_not_cover_is_refused() {
        let (scores, positive) = ([3.0, 1.0, 2.0, 0.0], [true, true, false, false]);
        let twice = ["a", "b", "a", "c"].map(str::to_owned);
        let error = |scores: &[f64], positive: &[bool], groups: &[String]| area(scores, positive, groups).unwrap_err().to_string();
        assert!(error(&scores, &positive, &twice).contains("patient 'a' has several items"));
        assert!(error(&[3.0, f64::NAN, 2.0, 0.0], &positive, &items(4)).contains("item 1 (patient 'p1') is NaN"));
        assert!(error(&scores, &[true, false, false, false], &items(4)).contains("1 positives and 3 negatives"));
    }
}
