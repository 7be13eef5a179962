//! ROC and precision–recall curves of one class against the rest, read off a fixed grid, so that curves of folds' pools, seeds and
//! resamples can be averaged: vertical averaging (Fawcett 2006, §8).
//!
//! Both are the curves whose areas `auc` and `average_precision` give: ROC with ties as slopes, precision–recall as steps.

use super::auc::OneVsRest;

/// Steps of the grid: curves are read at k / STEPS.
pub const STEPS: usize = 100;

/// False-positive rates at which an ROC curve is read: 0, 0.01 … 1.
pub fn false_positive_rates() -> Vec<f64> {
    (0..=STEPS).map(|step| step as f64 / STEPS as f64).collect()
}

/// Recalls at which a precision–recall curve is read: 0.01 … 1; precision at recall 0 is no number.
pub fn recalls() -> Vec<f64> {
    (1..=STEPS).map(|step| step as f64 / STEPS as f64).collect()
}

/// Of one class, in a multiset of the rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// True-positive rate at each of [`false_positive_rates`].
    pub roc: Vec<f64>,
    /// Precision at each of [`recalls`].
    pub precision: Vec<f64>,
    /// Area under the ROC curve.
    pub area: f64,
    /// Area under the precision–recall steps.
    pub average_precision: f64,
}

impl OneVsRest {
    /// Curves of each class `[C]` of the table in which row i stands `times[i]` times; `times [N]`. `None` for a class without samples, or
    /// without samples of other classes.
    pub fn curves_of(&self, times: &[u32]) -> Vec<Option<Ranked>> {
        (0..self.order.len()).map(|class| self.ranked(class, times)).collect()
    }

    fn ranked(&self, class: usize, times: &[u32]) -> Option<Ranked> {
        let order = &self.order[class];
        let weight = |positive: bool| -> f64 {
            order.iter().filter(|place| place.positive == positive).map(|place| f64::from(times[place.row as usize])).sum()
        };
        let (positives, negatives) = (weight(true), weight(false));
        if positives == 0.0 || negatives == 0.0 {
            return None;
        }
        let grid = |step: usize| step as f64 / STEPS as f64;
        let mut found =
            Ranked { roc: Vec::with_capacity(STEPS + 1), precision: Vec::with_capacity(STEPS), area: 0.0, average_precision: 0.0 };
        let (mut right, mut wrong, mut level) = (0.0, 0.0, (0.0, 0.0));
        // From the highest score down; rows of one score come together.
        for at in (0..order.len()).rev() {
            let place = &order[at];
            *(if place.positive { &mut level.0 } else { &mut level.1 }) += f64::from(times[place.row as usize]);
            if at > 0 && !order[at - 1].ends_level {
                continue;
            }
            let before = (wrong / negatives, right / positives);
            right += level.0;
            wrong += level.1;
            let after = (wrong / negatives, right / positives);
            found.area += (after.0 - before.0) * (before.1 + after.1) / 2.0;
            // Where the curve rises straight up, the grid's place belongs to its upper end: the next level's beginning.
            while found.roc.len() <= STEPS && grid(found.roc.len()) < after.0 {
                let share = (grid(found.roc.len()) - before.0) / (after.0 - before.0);
                found.roc.push(before.1 + share * (after.1 - before.1));
            }
            let taken = right + wrong;
            if level.0 > 0.0 {
                found.average_precision += level.0 / positives * right / taken;
                while found.precision.len() < STEPS && grid(found.precision.len() + 1) <= after.1 + ROUNDING {
                    found.precision.push(right / taken);
                }
            }
            level = (0.0, 0.0);
        }
        found.roc.resize(STEPS + 1, 1.0);
        Some(found)
    }
}

/// Rates are quotients of whole numbers: a place of the grid that one of them equals is met in spite of rounding.
const ROUNDING: f64 = 1e-12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::average_precision;

    fn two(scores: &[f64], positive: &[bool]) -> OneVsRest {
        let labels: Vec<usize> = positive.iter().map(|&positive| usize::from(positive)).collect();
        let probabilities: Vec<Vec<f64>> = scores.iter().map(|&score| vec![1.0 - score, score]).collect();
        OneVsRest::new(&labels, &probabilities)
    }

    fn area(curve: &[f64]) -> f64 {
        curve.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).sum::<f64>() / STEPS as f64
    }

    #[test]
    fn a_perfect_order_is_the_corner() {
        let found = two(&[0.9, 0.8, 0.2, 0.1], &[true, true, false, false]).curves_of(&[1; 4])[1].clone().unwrap();
        assert!(found.roc.iter().chain(&found.precision).all(|&rate| rate == 1.0) && found.average_precision == 1.0, "{found:?}");
        assert_eq!((found.roc.len(), found.precision.len()), (false_positive_rates().len(), recalls().len()));
    }

    #[test]
    fn ties_are_the_diagonal() {
        let found = two(&[0.5; 4], &[true, false, false, false]).curves_of(&[1; 4])[1].clone().unwrap();
        assert!(found.roc.iter().zip(false_positive_rates()).all(|(rate, at)| (rate - at).abs() < 1e-12), "{:?}", found.roc);
        assert!(found.precision.iter().all(|&precision| precision == 0.25));
    }

    #[test]
    fn the_areas_are_those_of_auc_and_average_precision() {
        let scores: Vec<f64> = (0..200).map(|i| f64::from(i * 37 % 101) / 101.0).collect();
        let positive: Vec<bool> = (0..200).map(|i| (i * i + i) % 7 < 3 && i % 5 != 0).collect();
        let ranking = two(&scores, &positive);
        let times: Vec<u32> = (0..200).map(|i| i % 3).collect();
        for times in [vec![1; 200], times] {
            let found = ranking.curves_of(&times)[1].clone().unwrap();
            assert!((found.area - ranking.per_class_of(&times)[1].unwrap()).abs() < 1e-12);
            assert!((area(&found.roc) - ranking.per_class_of(&times)[1].unwrap()).abs() < 0.005);
            assert!(found.roc.windows(2).all(|pair| pair[0] <= pair[1] + 1e-12), "it never falls");
        }
        let found = ranking.curves_of(&[1; 200])[1].clone().unwrap();
        assert!((found.average_precision - average_precision::average_precision(&scores, &positive).unwrap()).abs() < 1e-12);
        assert!((found.precision.iter().sum::<f64>() / STEPS as f64 - found.average_precision).abs() < 0.01);
    }

    #[test]
    fn a_class_that_is_absent_or_alone_has_no_curve() {
        assert_eq!(two(&[0.1, 0.9], &[true, true]).curves_of(&[1; 2]), [None, None]);
        assert_eq!(two(&[0.1, 0.9], &[true, false]).curves_of(&[0, 1])[1], None);
    }
}
