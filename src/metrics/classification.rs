//! Scores of decisions: everything that follows from the confusion matrix by counting.

/// Counts of true against predicted classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    /// `[C][C]`, rows are labels, columns predictions.
    pub counts: Vec<Vec<u64>>,
}

/// Over which classes a macro mean is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LabelSet {
    /// Those that occur in labels or predictions; a class that is predicted but never true counts as 0.
    // METHOD: scikit-learn's default, and what the lineage's scripts report.
    #[default]
    Observed,
    /// All C; a class that does not occur counts as 0.
    All,
}

impl Confusion {
    /// Counts `labels` against `predicted`, both `[N]` with indices below `classes`.
    pub fn new(labels: &[usize], predicted: &[usize], classes: usize) -> Self {
        Self::of(labels.iter().copied().zip(predicted.iter().copied()), classes)
    }

    /// Counts pairs of label and prediction.
    pub fn of(pairs: impl Iterator<Item = (usize, usize)>, classes: usize) -> Self {
        let mut counts = vec![vec![0; classes]; classes];
        for (label, predicted) in pairs {
            counts[label][predicted] += 1;
        }
        Self { counts }
    }

    /// Number of samples.
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// Samples of each true class `[C]`.
    pub fn true_counts(&self) -> Vec<u64> {
        self.counts.iter().map(|row| row.iter().sum()).collect()
    }

    /// Samples predicted as each class `[C]`.
    pub fn predicted_counts(&self) -> Vec<u64> {
        (0..self.counts.len()).map(|class| self.counts.iter().map(|row| row[class]).sum()).collect()
    }

    /// Samples on the diagonal.
    pub fn correct(&self) -> u64 {
        (0..self.counts.len()).map(|class| self.counts[class][class]).sum()
    }

    /// Share of right decisions; equals micro-averaged F1. NaN without samples.
    pub fn accuracy(&self) -> f64 {
        self.correct() as f64 / self.total() as f64
    }

    /// TP / (TP + FP) per class, 0 where nothing was predicted.
    pub fn precision_per_class(&self) -> Vec<f64> {
        self.per_class(|right, _, predicted| rate(right, predicted))
    }

    /// TP / (TP + FN) per class, 0 where the class does not occur.
    pub fn recall_per_class(&self) -> Vec<f64> {
        self.per_class(|right, truth, _| rate(right, truth))
    }

    /// 2 TP / (2 TP + FP + FN) per class, 0 where the class neither occurs nor is predicted.
    pub fn f1_per_class(&self) -> Vec<f64> {
        self.per_class(f1)
    }

    /// Mean F1 of the classes in the set; NaN without samples.
    pub fn macro_f1(&self, over: LabelSet) -> f64 {
        self.macro_mean(&self.f1_per_class(), over)
    }

    /// Mean F1 weighted by the number of true samples; NaN without samples.
    pub fn weighted_f1(&self) -> f64 {
        self.weighted_mean(&self.f1_per_class())
    }

    /// Mean of a score per class `[C]` over the classes in the set; NaN without samples.
    pub fn macro_mean(&self, per_class: &[f64], over: LabelSet) -> f64 {
        macro_mean(per_class, &self.true_counts(), &self.predicted_counts(), over)
    }

    /// Mean of a score per class `[C]` weighted by the number of true samples; NaN without samples.
    pub fn weighted_mean(&self, per_class: &[f64]) -> f64 {
        let sum: f64 = per_class.iter().zip(self.true_counts()).map(|(score, count)| score * count as f64).sum();
        sum / self.total() as f64
    }

    /// Mean recall of the classes that occur; NaN without samples.
    pub fn balanced_accuracy(&self) -> f64 {
        let recall = self.recall_per_class();
        mean(self.true_counts().iter().zip(recall).filter(|(count, _)| **count > 0).map(|(_, recall)| recall))
    }

    fn per_class(&self, score: impl Fn(u64, u64, u64) -> f64) -> Vec<f64> {
        let (truth, predicted) = (self.true_counts(), self.predicted_counts());
        (0..truth.len()).map(|class| score(self.counts[class][class], truth[class], predicted[class])).collect()
    }
}

/// `truth` and `predicted` count labels and predictions of each class `[C]`.
fn macro_mean(per_class: &[f64], truth: &[u64], predicted: &[u64], over: LabelSet) -> f64 {
    if truth.iter().all(|&count| count == 0) {
        return f64::NAN;
    }
    let counts = |class: &usize| over == LabelSet::All || truth[*class] + predicted[*class] > 0;
    mean((0..per_class.len()).filter(counts).map(|class| per_class[class]))
}

/// 2 TP / (2 TP + FP + FN), 0 where the class neither occurs nor is predicted.
fn f1(right: u64, truth: u64, predicted: u64) -> f64 {
    rate(2 * right, truth + predicted)
}

/// Decisions that are counted again and again, each time with other multiplicities of the rows: no matrix is built.
#[derive(Debug, Clone, Copy)]
pub struct Decisions<'a> {
    /// `[N]`
    pub labels: &'a [usize],
    /// `[N]`
    pub predicted: &'a [usize],
    /// C.
    pub classes: usize,
}

impl Decisions<'_> {
    /// As [`Confusion::macro_f1`] of the table in which row i stands `times[i]` times; `times [N]`.
    pub fn macro_f1(&self, times: &[u32], over: LabelSet) -> f64 {
        let mut counts = vec![0u64; 3 * self.classes];
        let (right, rest) = counts.split_at_mut(self.classes);
        let (truth, predicted) = rest.split_at_mut(self.classes);
        for ((&label, &decision), &times) in self.labels.iter().zip(self.predicted).zip(times) {
            let times = u64::from(times);
            truth[label] += times;
            predicted[decision] += times;
            right[label] += if label == decision { times } else { 0 };
        }
        let per_class: Vec<f64> = (0..self.classes).map(|class| f1(right[class], truth[class], predicted[class])).collect();
        macro_mean(&per_class, truth, predicted, over)
    }
}

/// The most probable class; a tie goes to the lowest index.
pub fn argmax(probabilities: &[f64]) -> usize {
    let mut best = 0;
    for (class, p) in probabilities.iter().enumerate() {
        if *p > probabilities[best] {
            best = class;
        }
    }
    best
}

/// Share of samples whose label is among the `k` most probable classes, ties by class index. NaN without samples.
pub fn top_k(labels: &[usize], probabilities: &[Vec<f64>], k: usize) -> f64 {
    let rank = |label: usize, row: &[f64]| (0..row.len()).filter(|&c| row[c] > row[label] || (row[c] == row[label] && c < label)).count();
    let hits = labels.iter().zip(probabilities).filter(|(label, row)| rank(**label, row) < k).count();
    hits as f64 / labels.len() as f64
}

fn rate(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Unweighted mean; NaN of nothing.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    sum / count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f1_of_a_worked_example() {
        let probabilities = [[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.6, 0.2, 0.2], [0.3, 0.6, 0.1], [0.5, 0.4, 0.1], [0.2, 0.3, 0.5]];
        let predicted: Vec<usize> = probabilities.iter().map(|row| argmax(row)).collect();
        assert_eq!(predicted, [0, 1, 0, 1, 0, 2]);
        let confusion = Confusion::new(&[0, 0, 0, 1, 1, 2], &predicted, 3);
        assert_eq!(confusion.f1_per_class(), [2.0 / 3.0, 0.5, 1.0]);
        assert!((confusion.macro_f1(LabelSet::Observed) - 0.722_222_222_2).abs() < 1e-9);
        assert!((confusion.accuracy() - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn the_label_set_decides_what_an_absent_class_costs() {
        let confusion = Confusion::new(&[0, 0, 1, 1], &[0, 1, 1, 1], 3);
        assert!((confusion.macro_f1(LabelSet::Observed) - 0.733_333_333_3).abs() < 1e-9);
        assert!((confusion.macro_f1(LabelSet::All) - 0.488_888_888_9).abs() < 1e-9);
        let invented = Confusion::new(&[0, 0, 1, 1], &[0, 2, 1, 1], 3);
        assert!((invented.macro_f1(LabelSet::Observed) - 0.555_555_555_6).abs() < 1e-9);
    }

    #[test]
    fn multiplicities_equal_the_table_they_spell_out() {
        let (labels, predicted, times) = ([0, 0, 1, 2, 1, 3], [0, 1, 1, 0, 2, 3], [2, 0, 3, 1, 1, 0]);
        let pairs = (0..6).flat_map(|row| std::iter::repeat_n((labels[row], predicted[row]), times[row] as usize));
        let (spelt, counted) = (Confusion::of(pairs, 4), Decisions { labels: &labels, predicted: &predicted, classes: 4 });
        for over in [LabelSet::Observed, LabelSet::All] {
            assert_eq!(counted.macro_f1(&times, over), spelt.macro_f1(over));
        }
        assert!(counted.macro_f1(&[0; 6], LabelSet::All).is_nan());
    }

    #[test]
    fn ties_go_to_the_lowest_index() {
        assert_eq!(argmax(&[0.2, 0.4, 0.4]), 1);
        assert_eq!(top_k(&[2], &[vec![0.2, 0.4, 0.4]], 1), 0.0);
        assert_eq!(top_k(&[2], &[vec![0.2, 0.4, 0.4]], 2), 1.0);
    }

    #[test]
    fn no_samples_are_not_a_score() {
        let nothing = Confusion::new(&[], &[], 2);
        assert!(nothing.accuracy().is_nan() && nothing.macro_f1(LabelSet::All).is_nan() && nothing.balanced_accuracy().is_nan());
    }
}
