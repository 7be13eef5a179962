//! Scores of pooled out-of-fold predictions, averaged over repeats, with patients resampled.
//!
// METHOD: within a repeat the folds' test predictions form one table in which every slide stands once; it is scored as a
// whole, because a fold of a dozen slides has no stable macro score. In each resample the same patients are drawn for
// all repeats and the statistic is the mean over repeats: the interval is about patients, the spread about seeds.
// Pooled AUC ranks the outputs of the folds' different models on one scale; it can only lose by that.

use std::collections::BTreeSet;

use super::ranking::Curves;
use crate::ground::interval::Interval;
use crate::metrics::auc::{self, OneVsRest};
use crate::metrics::bootstrap::Bootstrap;
use crate::metrics::calibration;
use crate::metrics::classification::{Confusion, Decisions, LabelSet};
use crate::metrics::permutation::{self, Permutation};
use crate::metrics::ranking;
use crate::render::Bar;
use crate::store::predictions::Prediction;

/// One repeat's table.
#[derive(Default)]
struct Table {
    /// Numbers of these rows among those of all repeats.
    rows: Vec<usize>,
    labels: Vec<usize>,
    predicted: Vec<usize>,
    probabilities: Vec<Vec<f64>>,
}

/// The tables of all repeats; a row number counts through them in the order of pushing.
pub(super) struct Pool {
    classes: usize,
    tables: Vec<Table>,
    patients: Vec<String>,
    slides: BTreeSet<String>,
}

impl Pool {
    /// An empty pool for `classes` classes and `repeats` repeats.
    pub(super) fn new(classes: usize, repeats: usize) -> Self {
        let tables = (0..repeats).map(|_| Table::default()).collect();
        Self { classes, tables, patients: Vec::new(), slides: BTreeSet::new() }
    }

    /// Adds a test slide of a repeat.
    pub(super) fn push(&mut self, repeat: usize, prediction: &Prediction) {
        let table = &mut self.tables[repeat];
        table.rows.push(self.patients.len());
        table.labels.push(prediction.label);
        table.predicted.push(prediction.predicted);
        table.probabilities.push(prediction.probabilities.clone());
        self.patients.push(prediction.patient_id.clone());
        self.slides.insert(prediction.slide_id.clone());
    }

    pub(super) fn slides(&self) -> usize {
        self.slides.len()
    }

    pub(super) fn patients(&self) -> usize {
        self.patients.iter().collect::<BTreeSet<_>>().len()
    }

    /// Macro-F1 with interval.
    pub(super) fn macro_f1(&self, bootstrap: &Bootstrap) -> Interval {
        bootstrap.clustered(&self.patients, |times| self.f1_of(times))
    }

    /// Macro-AUC with interval.
    pub(super) fn macro_auc(&self, bootstrap: &Bootstrap) -> Interval {
        let curves = self.curves();
        bootstrap.clustered(&self.patients, |times| self.auc_of(&curves, times))
    }

    /// `self − other` in macro-F1; both hold the same slides in the same order.
    pub(super) fn macro_f1_minus(&self, other: &Self, bootstrap: &Bootstrap) -> Interval {
        bootstrap.paired_difference(&self.patients, |times| self.f1_of(times), |times| other.f1_of(times))
    }

    /// `self − other` in macro-AUC; both hold the same slides in the same order.
    pub(super) fn macro_auc_minus(&self, other: &Self, bootstrap: &Bootstrap) -> Interval {
        let (ours, theirs) = (self.curves(), other.curves());
        bootstrap.paired_difference(&self.patients, |times| self.auc_of(&ours, times), |times| other.auc_of(&theirs, times))
    }

    /// Whether `self` and `other` differ in macro-F1, with the predictions of whole patients exchanged, the same in all
    /// repeats; both hold the same slides in the same order.
    pub(super) fn macro_f1_permuted(&self, other: &Self, bootstrap: &Bootstrap) -> Permutation {
        let both: Vec<Table> = self.tables.iter().zip(&other.tables).map(|(ours, theirs)| ours.above(theirs)).collect();
        // Rows of both stand one under the other; a run is a choice of one of each pair.
        let score = |swapped: &[bool], first: bool| {
            mean_defined(both.iter().zip(&self.tables).map(|(both, one)| {
                let ours = one.rows.iter().map(|&row| u32::from(swapped[row] != first));
                let theirs = one.rows.iter().map(|&row| u32::from(swapped[row] == first));
                both.macro_f1(&ours.chain(theirs).collect::<Vec<_>>(), self.classes)
            }))
        };
        permutation::paired(&self.patients, bootstrap.resamples, bootstrap.seed, |swapped| {
            Some(score(swapped, true)? - score(swapped, false)?)
        })
    }

    /// Confusion matrix of each repeat.
    pub(super) fn confusions(&self) -> Vec<Confusion> {
        self.tables.iter().map(|table| Confusion::new(&table.labels, &table.predicted, self.classes)).collect()
    }

    /// Classes without an AUC, the most of any repeat.
    pub(super) fn auc_classes_undefined(&self) -> usize {
        self.curves().iter().map(|curve| auc::undefined(&curve.per_class())).max().unwrap_or(0)
    }

    /// Rows of all repeats.
    pub(super) fn rows(&self) -> usize {
        self.patients.len()
    }

    /// Share of rows of a class; beyond the last class the mean share.
    pub(super) fn prevalence(&self, class: usize) -> f64 {
        let of = self.tables.iter().flat_map(|table| &table.labels).filter(|&&label| label == class).count();
        if class < self.classes { of as f64 / self.rows().max(1) as f64 } else { 1.0 / self.classes.max(1) as f64 }
    }

    /// Share of right decisions.
    pub(super) fn accuracy(&self) -> f64 {
        let right = |table: &Table| table.labels.iter().zip(&table.predicted).filter(|(label, predicted)| label == predicted).count();
        self.tables.iter().map(right).sum::<usize>() as f64 / self.rows() as f64
    }

    /// Mean of the largest probability.
    pub(super) fn confidence(&self) -> f64 {
        self.tables.iter().flat_map(Table::samples).map(|sample| sample.0).sum::<f64>() / self.rows() as f64
    }

    /// Bins of equal width of the confidence, all repeats together.
    pub(super) fn reliability(&self, bins: usize) -> Vec<Bar> {
        let samples: Vec<(f64, bool)> = self.tables.iter().flat_map(Table::samples).collect();
        let found = calibration::equal_width_bins_of(&samples, &vec![1; samples.len()], bins);
        let edge = |bin: usize| bin as f64 / bins as f64;
        found.iter().enumerate().map(|(bin, of)| ((edge(bin), edge(bin + 1)), of.confidence, of.accuracy, of.count)).collect()
    }

    /// Expected calibration error, mean over repeats; an interval where one is `wanted`.
    pub(super) fn calibration_error(&self, bins: usize, bootstrap: &Bootstrap, wanted: bool) -> Interval {
        let samples: Vec<Vec<(f64, bool)>> = self.tables.iter().map(Table::samples).collect();
        let error =
            |times: &[u32]| {
                mean_defined(self.tables.iter().zip(&samples).map(|(table, samples)| {
                    calibration::expected_error(&calibration::equal_width_bins_of(samples, &table.times(times), bins))
                }))
            };
        if wanted { bootstrap.clustered(&self.patients, error) } else { Interval::point(error(&vec![1; self.rows()]).unwrap_or(f64::NAN)) }
    }

    /// Curves of each class, if `single`, and of their mean, the last.
    pub(super) fn ranked(&self, single: bool, bootstrap: &Bootstrap) -> Vec<Curves> {
        let curves = self.curves();
        let listed = if single { self.classes } else { 0 };
        let all = bootstrap.pointwise(&self.patients, |times| self.ranked_of(&curves, times, listed));
        let one = |flat: &[Interval]| {
            let (roc, rest) = flat.split_at(STEPS.0);
            let (precision, areas) = rest.split_at(STEPS.1);
            Curves { roc: roc.to_vec(), precision: precision.to_vec(), auc: areas[0], average_precision: areas[1] }
        };
        all.chunks(STEPS.0 + STEPS.1 + 2).map(one).collect()
    }

    /// ROC, precision and both areas of the first `listed` classes and of the mean, one after the other.
    fn ranked_of(&self, curves: &[OneVsRest], times: &[u32], listed: usize) -> Vec<f64> {
        let width = STEPS.0 + STEPS.1 + 2;
        let (mut sums, mut counts) = (vec![0.0; width * (listed + 1)], vec![0u32; listed + 1]);
        let add = |sums: &mut [f64], values: &[f64], share: f64| sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += share * value);
        for (table, curve) in self.tables.iter().zip(curves) {
            let found = curve.curves_of(&table.times(times));
            let defined = found.iter().flatten().count();
            for (class, ranked) in found.iter().enumerate().filter_map(|(class, ranked)| Some((class, ranked.as_ref()?))) {
                let flat: Vec<f64> =
                    ranked.roc.iter().chain(&ranked.precision).copied().chain([ranked.area, ranked.average_precision]).collect();
                if class < listed {
                    add(&mut sums[width * class..width * (class + 1)], &flat, 1.0);
                    counts[class] += 1;
                }
                add(&mut sums[width * listed..], &flat, 1.0 / defined as f64);
            }
            counts[listed] += u32::from(defined > 0);
        }
        sums.chunks(width).zip(counts).flat_map(|(sums, count)| sums.iter().map(move |sum| sum / f64::from(count))).collect()
    }

    fn curves(&self) -> Vec<OneVsRest> {
        self.tables.iter().map(|table| OneVsRest::new(&table.labels, &table.probabilities)).collect()
    }

    fn f1_of(&self, times: &[u32]) -> Option<f64> {
        mean_defined(self.tables.iter().map(|table| table.macro_f1(&table.times(times), self.classes)))
    }

    fn auc_of(&self, curves: &[OneVsRest], times: &[u32]) -> Option<f64> {
        mean_defined(self.tables.iter().zip(curves).map(|(table, curve)| auc::macro_mean(&curve.per_class_of(&table.times(times)))))
    }
}

/// Points of an ROC and of a precision–recall curve.
const STEPS: (usize, usize) = (ranking::STEPS + 1, ranking::STEPS);

impl Table {
    /// Confidence of each row, and whether its decision was right.
    fn samples(&self) -> Vec<(f64, bool)> {
        calibration::samples(&self.labels, &self.probabilities)
    }

    /// Multiplicities of this table's rows from those of all rows.
    fn times(&self, of_all: &[u32]) -> Vec<u32> {
        self.rows.iter().map(|&row| of_all[row]).collect()
    }

    fn macro_f1(&self, times: &[u32], classes: usize) -> f64 {
        Decisions { labels: &self.labels, predicted: &self.predicted, classes }.macro_f1(times, LabelSet::Observed)
    }

    /// Decisions of both, one under the other.
    fn above(&self, other: &Self) -> Self {
        let join = |a: &[usize], b: &[usize]| [a, b].concat();
        Self { labels: join(&self.labels, &other.labels), predicted: join(&self.predicted, &other.predicted), ..Self::default() }
    }
}

/// `None` if the score is defined in no repeat.
fn mean_defined(scores: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = scores.filter(|score| score.is_finite()).fold((0.0, 0), |(sum, count), score| (sum + score, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::bootstrap::Bounds;

    const BOOTSTRAP: Bootstrap = Bootstrap { bounds: Bounds::Percentile, resamples: 200, seed: 0 };

    fn prediction(slide: usize, label: usize, predicted: usize) -> Prediction {
        let mut probabilities = vec![0.1; 2];
        probabilities[predicted] = 0.9;
        Prediction { slide_id: format!("s{slide}"), patient_id: format!("p{}", slide / 2), label, predicted, probabilities }
    }

    #[test]
    fn the_value_is_the_mean_over_repeats() {
        let mut pool = Pool::new(2, 2);
        for slide in 0..8 {
            pool.push(0, &prediction(slide, slide % 2, slide % 2));
            pool.push(1, &prediction(slide, slide % 2, (slide + 1) % 2));
        }
        assert_eq!((pool.macro_f1(&BOOTSTRAP).value, pool.macro_auc(&BOOTSTRAP).value), (0.5, 0.5));
        assert_eq!((pool.slides(), pool.patients()), (8, 4));
    }

    #[test]
    fn the_same_predictions_differ_by_nothing() {
        let mut pool = Pool::new(2, 1);
        (0..8).for_each(|slide| pool.push(0, &prediction(slide, slide % 2, usize::from(slide > 4))));
        let none = pool.macro_f1_minus(&pool, &BOOTSTRAP);
        assert_eq!((none.value, none.low, none.high), (0.0, 0.0, 0.0));
        assert_eq!(pool.macro_f1_permuted(&pool, &BOOTSTRAP).p, 1.0);
    }

    #[test]
    fn all_arrangements_of_three_patients() {
        // Each patient has two slides, one of each class. The first run is always right; the second wrong on patients 0 and 1.
        let (mut first, mut second) = (Pool::new(2, 2), Pool::new(2, 2));
        for repeat in 0..2 {
            for slide in 0..6 {
                first.push(repeat, &prediction(slide, slide % 2, slide % 2));
                second.push(repeat, &prediction(slide, slide % 2, if slide < 4 { (slide + 1) % 2 } else { slide % 2 }));
            }
        }
        let found = first.macro_f1_permuted(&second, &BOOTSTRAP);
        // Exchanging patient 2 changes nothing; the full difference needs 0 and 1 on the same side: 4 of 8.
        assert_eq!((found.p, found.arrangements, found.exact), (0.5, 8, true));
    }
}
