//! How sure a score is: percentile bootstrap that resamples patients, not slides.
//!
//! Slides of one patient resemble each other; resampling slides would count the same evidence several times and give
//! intervals that are too narrow. Efron & Tibshirani 1993, ch. 13; Davison & Hinkley 1997, §3.8 (clusters).

use std::collections::BTreeMap;

use rand::Rng;
use rayon::prelude::*;

use crate::ground::interval::Interval;
use crate::ground::seed;

/// Resamples that reports use.
pub const RESAMPLES: usize = 2000;

/// The method in words, for outputs.
pub fn description(resamples: usize) -> String {
    format!("95 % patient-clustered percentile bootstrap, {resamples} resamples")
}

/// The statistic on all rows with its 95 % interval. `groups [N]` names each row's patient; whole patients are drawn.
///
/// `statistic` gets row numbers, repeated where a patient was drawn repeatedly; `None` or NaN leaves the resample out.
/// With fewer than two patients there is nothing to resample and no interval. The same seed draws the same patients
/// whatever the statistic and the number of threads.
pub fn clustered(groups: &[String], resamples: usize, seed: u64, statistic: impl Fn(&[usize]) -> Option<f64> + Sync) -> Interval {
    let all: Vec<usize> = (0..groups.len()).collect();
    let value = statistic(&all).unwrap_or(f64::NAN);
    let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (row, group) in groups.iter().enumerate() {
        members.entry(group).or_default().push(row);
    }
    let members: Vec<Vec<usize>> = members.into_values().collect();
    if members.len() < 2 {
        return Interval::point(value);
    }
    let base = seed::stream(seed, "bootstrap");
    let one = |resample: usize| {
        // A stream for each resample: threads cannot change what is drawn.
        let mut random = base.clone();
        random.set_stream(resample as u64);
        let draw = |_| &members[random.random_range(0..members.len() as u32) as usize];
        let rows: Vec<usize> = (0..members.len()).flat_map(draw).copied().collect();
        statistic(&rows).filter(|value| value.is_finite())
    };
    let mut values: Vec<f64> = (0..resamples).into_par_iter().filter_map(one).collect();
    values.sort_by(f64::total_cmp);
    Interval { value, low: quantile(&values, 0.025), high: quantile(&values, 0.975), resamples_used: values.len() }
}

/// `first − second` on the same rows in the same resamples: patients that are hard for both cancel.
pub fn paired_difference(
    groups: &[String],
    resamples: usize,
    seed: u64,
    first: impl Fn(&[usize]) -> Option<f64> + Sync,
    second: impl Fn(&[usize]) -> Option<f64> + Sync,
) -> Interval {
    clustered(groups, resamples, seed, |rows| Some(first(rows)? - second(rows)?))
}

/// Linear interpolation between order statistics (Hyndman & Fan's type 7); NaN of nothing.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let position = share * last as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_of(values: &[f64]) -> impl Fn(&[usize]) -> Option<f64> + Sync {
        |rows: &[usize]| Some(rows.iter().map(|&row| values[row]).sum::<f64>() / rows.len() as f64)
    }

    /// Row i belongs to patient i / slides.
    fn patients(rows: usize, slides: usize) -> Vec<String> {
        (0..rows).map(|row| format!("p{:03}", row / slides)).collect()
    }

    #[test]
    fn the_interval_of_a_mean_is_near_its_normal_one() {
        let values: Vec<f64> = (0..200).map(|i| f64::from(i % 10)).collect();
        let found = clustered(&patients(200, 1), 2000, 1, mean_of(&values));
        let half = 1.96 * (8.25f64 / 200.0).sqrt();
        assert_eq!((found.value, found.resamples_used), (4.5, 2000));
        assert!((found.low - (4.5 - half)).abs() < 0.05 && (found.high - (4.5 + half)).abs() < 0.05, "{found}");
    }

    #[test]
    fn copies_of_a_patients_slides_are_no_new_evidence() {
        let once: Vec<f64> = (0..40).map(|i| f64::from(i % 4)).collect();
        let thrice: Vec<f64> = once.iter().flat_map(|value| [*value; 3]).collect();
        let single = clustered(&patients(40, 1), 500, 1, mean_of(&once));
        let copied = clustered(&patients(120, 3), 500, 1, mean_of(&thrice));
        assert!((single.low - copied.low).abs() < 1e-12 && (single.high - copied.high).abs() < 1e-12);
    }

    #[test]
    fn what_is_hard_for_both_cancels_in_a_paired_difference() {
        let hard: Vec<f64> = (0..60).map(|i| f64::from(i % 7)).collect();
        let harder: Vec<f64> = hard.iter().map(|value| value + 1.0).collect();
        let found = paired_difference(&patients(60, 1), 500, 1, mean_of(&harder), mean_of(&hard));
        assert!((found.low - 1.0).abs() < 1e-9 && (found.high - 1.0).abs() < 1e-9, "{found}");
    }

    #[test]
    fn one_patient_has_a_value_and_no_interval() {
        let found = clustered(&patients(2, 2), 500, 1, mean_of(&[0.0, 1.0]));
        assert_eq!((found.value, found.resamples_used, found.is_bounded()), (0.5, 0, false));
    }

    #[test]
    fn undefined_resamples_are_left_out_and_counted() {
        let found = clustered(&patients(2, 1), 400, 1, |rows| (rows[0] != rows[1]).then_some(1.0));
        assert!((150..250).contains(&found.resamples_used), "{found:?}");
    }

    #[test]
    fn the_same_seed_is_the_same_interval() {
        let values: Vec<f64> = (0..30).map(f64::from).collect();
        let run = |seed| clustered(&patients(30, 1), 300, seed, mean_of(&values));
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }
}
