//! Scores of pooled out-of-fold predictions, averaged over repeats, with patients resampled.
//!
// METHOD: within a repeat the folds' test predictions form one table in which every slide stands once; it is scored as a
// whole, because a fold of a dozen slides has no stable macro score. In each resample the same patients are drawn for
// all repeats and the statistic is the mean over repeats: the interval is about patients, the spread about seeds.
// Pooled AUC ranks the outputs of the folds' different models on one scale; it can only lose by that.

use std::collections::BTreeSet;

use crate::ground::interval::Interval;
use crate::metrics::auc::{self, OneVsRest};
use crate::metrics::bootstrap::{self, RESAMPLES};
use crate::metrics::classification::{Confusion, LabelSet};
use crate::store::predictions::Prediction;

/// Seed of the resamples: fixed, so that a report's numbers depend on the runs alone.
const SEED: u64 = 0;

/// One repeat's table.
#[derive(Default)]
struct Table {
    labels: Vec<usize>,
    predicted: Vec<usize>,
    probabilities: Vec<Vec<f64>>,
}

/// The tables of all repeats; a row number counts through them in the order of pushing.
pub(super) struct Pool {
    classes: usize,
    tables: Vec<Table>,
    /// Of each row: its table and the row there.
    place: Vec<(usize, usize)>,
    patients: Vec<String>,
    slides: BTreeSet<String>,
}

impl Pool {
    /// An empty pool for `classes` classes and `repeats` repeats.
    pub(super) fn new(classes: usize, repeats: usize) -> Self {
        let tables = (0..repeats).map(|_| Table::default()).collect();
        Self { classes, tables, place: Vec::new(), patients: Vec::new(), slides: BTreeSet::new() }
    }

    /// Adds a test slide of a repeat.
    pub(super) fn push(&mut self, repeat: usize, prediction: &Prediction) {
        let table = &mut self.tables[repeat];
        self.place.push((repeat, table.labels.len()));
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
    pub(super) fn macro_f1(&self) -> Interval {
        bootstrap::clustered(&self.patients, RESAMPLES, SEED, |rows| self.f1_of(rows))
    }

    /// Macro-AUC with interval.
    pub(super) fn macro_auc(&self) -> Interval {
        let curves = self.curves();
        bootstrap::clustered(&self.patients, RESAMPLES, SEED, |rows| self.auc_of(&curves, rows))
    }

    /// `self − other` in macro-F1; both hold the same slides in the same order.
    pub(super) fn macro_f1_minus(&self, other: &Self) -> Interval {
        bootstrap::paired_difference(&self.patients, RESAMPLES, SEED, |rows| self.f1_of(rows), |rows| other.f1_of(rows))
    }

    /// `self − other` in macro-AUC; both hold the same slides in the same order.
    pub(super) fn macro_auc_minus(&self, other: &Self) -> Interval {
        let (ours, theirs) = (self.curves(), other.curves());
        bootstrap::paired_difference(&self.patients, RESAMPLES, SEED, |rows| self.auc_of(&ours, rows), |rows| other.auc_of(&theirs, rows))
    }

    /// Confusion matrix of each repeat.
    pub(super) fn confusions(&self) -> Vec<Confusion> {
        self.tables.iter().map(|table| Confusion::new(&table.labels, &table.predicted, self.classes)).collect()
    }

    /// Classes without an AUC, the most of any repeat.
    pub(super) fn auc_classes_undefined(&self) -> usize {
        self.curves().iter().map(|curve| auc::undefined(&curve.per_class())).max().unwrap_or(0)
    }

    fn curves(&self) -> Vec<OneVsRest<'_>> {
        self.tables.iter().map(|table| OneVsRest::new(&table.labels, &table.probabilities)).collect()
    }

    fn f1_of(&self, rows: &[usize]) -> Option<f64> {
        self.mean_over_repeats(rows, |repeat, rows| {
            let table = &self.tables[repeat];
            Confusion::of(rows.iter().map(|&row| (table.labels[row], table.predicted[row])), self.classes).macro_f1(LabelSet::Observed)
        })
    }

    fn auc_of(&self, curves: &[OneVsRest], rows: &[usize]) -> Option<f64> {
        self.mean_over_repeats(rows, |repeat, rows| auc::macro_mean(&curves[repeat].per_class_of(rows)))
    }

    /// `None` if the score is defined in no repeat.
    fn mean_over_repeats(&self, rows: &[usize], score: impl Fn(usize, &[usize]) -> f64) -> Option<f64> {
        let mut by_repeat = vec![Vec::new(); self.tables.len()];
        for &row in rows {
            let (repeat, row) = self.place[row];
            by_repeat[repeat].push(row);
        }
        let scores: Vec<f64> =
            by_repeat.iter().enumerate().map(|(repeat, rows)| score(repeat, rows)).filter(|score| score.is_finite()).collect();
        (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!((pool.macro_f1().value, pool.macro_auc().value), (0.5, 0.5));
        assert_eq!((pool.slides(), pool.patients()), (8, 4));
    }

    #[test]
    fn the_same_predictions_differ_by_nothing() {
        let mut pool = Pool::new(2, 1);
        (0..8).for_each(|slide| pool.push(0, &prediction(slide, slide % 2, usize::from(slide > 4))));
        let none = pool.macro_f1_minus(&pool);
        assert_eq!((none.value, none.low, none.high), (0.0, 0.0, 0.0));
    }
}
