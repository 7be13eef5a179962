//! Everything about one scored test set in one call: each figure with its definition, and a reason where it is undefined.

use std::collections::BTreeMap;

use super::agreement::{Disagreement, kappa, matthews};
use super::auc::{self, OneVsRest};
use super::average_precision;
use super::calibration::{Bin, brier, equal_mass_bins, equal_width_bins, expected_error, largest_error, log_loss};
use super::classification::{Confusion, LabelSet, argmax, top_k};
use crate::store::scores::Figure;

/// Probabilities count as at least this in the log loss.
// METHOD: one sample that is called impossible would otherwise make the mean infinite; here it costs 34.5 nats.
pub const LOG_LOSS_FLOOR: f64 = 1e-15;
/// Bins of the calibration errors.
pub const BINS: usize = 15;
/// Probabilities of f32 networks sum to 1 within this.
const SUM_WITHIN: f64 = 1e-3;

/// A test set with the scores that one decision rule gave it.
#[derive(Debug, Clone, Copy)]
pub struct Scored<'a> {
    /// `[N]`: names of the items, for reasons.
    pub ids: &'a [String],
    /// `[C]`
    pub classes: &'a [String],
    /// `[N]`, below C.
    pub labels: &'a [usize],
    /// `[N][C]`
    pub probabilities: &'a [Vec<f64>],
}

/// What [`panel`] says.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// By name.
    pub figures: BTreeMap<String, Figure>,
    /// `None` where no decision can be counted.
    pub confusion: Option<Confusion>,
}

impl Scored<'_> {
    /// Which item has a score that is NaN or infinite, in words.
    pub fn not_finite(&self) -> Option<String> {
        let of = |(id, row): (&String, &Vec<f64>)| {
            let class = row.iter().position(|score| !score.is_finite())?;
            Some(format!("'{id}' has a score of {} for class '{}'", row[class], self.classes[class]))
        };
        self.ids.iter().zip(self.probabilities).find_map(of)
    }

    /// Which item's scores are no probabilities, in words.
    fn not_probabilities(&self) -> Option<String> {
        let wrong = |row: &&Vec<f64>| row.iter().any(|&p| p < 0.0) || (row.iter().sum::<f64>() - 1.0).abs() > SUM_WITHIN;
        let place = self.probabilities.iter().position(|row| wrong(&row))?;
        Some(format!("the scores of '{}' are no probabilities: they are negative or do not sum to 1", self.ids[place]))
    }
}

/// Collects figures; `unusable` is the reason why none of them can be had.
struct Figures {
    unusable: Option<String>,
    found: BTreeMap<String, Figure>,
}

impl Figures {
    fn add(&mut self, name: impl Into<String>, definition: &str, value: impl FnOnce() -> Result<f64, String>) {
        let (value, undefined) = match self.unusable.clone().map_or_else(value, Err) {
            Ok(value) => (value, None),
            Err(reason) => (f64::NAN, Some(reason)),
        };
        self.found.insert(name.into(), Figure { value, undefined, definition: definition.to_owned() });
    }
}

/// Measures all there is. A figure that is undefined is NaN and says why; the first unusable score is named in every figure.
///
/// # Panics
/// Lengths that do not belong together, or a label that is not below C.
pub fn panel(scored: &Scored) -> Panel {
    let Scored { ids, classes, labels, probabilities } = *scored;
    assert!(ids.len() == labels.len() && probabilities.len() == labels.len(), "one label and one row of scores for each item");
    assert!(probabilities.iter().all(|row| row.len() == classes.len()), "one score for each class");
    let unusable = if labels.is_empty() { Some("there are no samples".to_owned()) } else { scored.not_finite() };
    let usable = unusable.is_none();
    let decided: Vec<usize> = if usable { probabilities.iter().map(|row| argmax(row)).collect() } else { Vec::new() };
    let confusion = Confusion::new(labels, &decided, classes.len());
    let mut figures = Figures { unusable, found: BTreeMap::new() };
    decisions(&mut figures, &confusion, classes);
    for k in [1, 3, 5].into_iter().filter(|&k| k == 1 || k < classes.len()) {
        let definition = format!("share of samples whose label is among the {k} most probable classes; ties by class index");
        figures.add(format!("top_{k}_accuracy"), &definition, || Ok(top_k(labels, probabilities, k)));
    }
    rankings(&mut figures, scored);
    calibration(&mut figures, scored);
    Panel { figures: figures.found, confusion: usable.then_some(confusion) }
}

/// What follows from the confusion matrix.
fn decisions(figures: &mut Figures, confusion: &Confusion, classes: &[String]) {
    let (truth, predicted) = (confusion.true_counts(), confusion.predicted_counts());
    figures.add("accuracy", "share of right decisions; the most probable class is decided for, a tie goes to the lowest index", || {
        Ok(confusion.accuracy())
    });
    let all = [
        ("precision", "TP / (TP + FP)", confusion.precision_per_class()),
        ("recall", "TP / (TP + FN)", confusion.recall_per_class()),
        ("f1", "2 TP / (2 TP + FP + FN)", confusion.f1_per_class()),
    ];
    for (name, formula, per_class) in &all {
        for (class, label) in classes.iter().enumerate() {
            let reason = match (*name, truth[class], predicted[class]) {
                ("precision", _, 0) => Some("nothing is predicted as this class"),
                ("recall", 0, _) => Some("the test set has no sample of this class"),
                ("f1", 0, 0) => Some("the class neither occurs nor is predicted"),
                _ => None,
            };
            let value = || reason.map_or(Ok(per_class[class]), |reason| Err(reason.to_owned()));
            figures.add(format!("{name}[{label}]"), &format!("{formula} of one class against the rest"), value);
        }
        let undefined = "a class for which it is undefined counts as 0";
        figures.add(
            format!("macro_{name}_observed"),
            &format!("mean of {formula} over the classes that occur in labels or predictions; {undefined}"),
            || Ok(confusion.macro_mean(per_class, LabelSet::Observed)),
        );
        figures.add(format!("macro_{name}_all"), &format!("mean of {formula} over all {} classes; {undefined}", classes.len()), || {
            Ok(confusion.macro_mean(per_class, LabelSet::All))
        });
        let definition = format!("mean of {formula} weighted by the true samples of each class; {undefined}");
        figures.add(format!("weighted_{name}"), &definition, || Ok(confusion.weighted_mean(per_class)));
        let definition = format!("{formula} of the counts summed over classes; equals accuracy, as each sample has one label");
        figures.add(format!("micro_{name}"), &definition, || Ok(confusion.accuracy()));
    }
    figures.add("balanced_accuracy", "mean recall over the classes that occur in labels", || Ok(confusion.balanced_accuracy()));
    let constant = |counts: &[u64]| counts.iter().filter(|count| **count > 0).count() < 2;
    figures.add("mcc", "Matthews' correlation for several classes (Gorodkin's R_K), −1 to 1", || {
        match (constant(&truth), constant(&predicted)) {
            (true, _) => Err("all labels are of one class".to_owned()),
            (_, true) => Err("all predictions are of one class".to_owned()),
            _ => Ok(matthews(confusion)),
        }
    });
    for (name, weights, definition) in [
        ("cohen_kappa", Disagreement::Unweighted, "Cohen's kappa, every disagreement counts 1"),
        ("cohen_kappa_linear", Disagreement::Linear, "Cohen's kappa, weights |i − j|; takes the classes to be in order"),
        ("cohen_kappa_quadratic", Disagreement::Quadratic, "Cohen's kappa, weights (i − j)²; takes the classes to be in order"),
    ] {
        figures.add(name, definition, || {
            let value = kappa(confusion, weights);
            if value.is_nan() { Err("all labels and all predictions are of one and the same class".to_owned()) } else { Ok(value) }
        });
    }
}

/// What depends on the order of the scores only.
fn rankings(figures: &mut Figures, scored: &Scored) {
    let Scored { classes, labels, probabilities, .. } = *scored;
    let areas = OneVsRest::new(labels, probabilities).per_class();
    let precisions = average_precision::per_class(labels, probabilities);
    let area = "area under the ROC curve of one class against the rest, ties one half";
    let precision = "Σ (R_k − R_{k−1}) P_k over distinct thresholds of one class against the rest, without interpolation";
    for (class, label) in classes.iter().enumerate() {
        let positives = labels.iter().filter(|&&other| other == class).count();
        let reason =
            if positives == 0 { "the test set has no sample of this class" } else { "the test set has samples of this class only" };
        // Without samples there is no list of areas either.
        let of = |list: &[Option<f64>]| list.get(class).copied().flatten().ok_or_else(|| reason.to_owned());
        figures.add(format!("auroc[{label}]"), area, || of(&areas));
        figures.add(format!("average_precision[{label}]"), precision, || of(&precisions));
    }
    let one_class = |value: f64| if value.is_nan() { Err("the test set has samples of one class only".to_owned()) } else { Ok(value) };
    let over = "over the classes for which it is defined";
    figures.add("macro_auroc", &format!("mean {over}: {area}"), || one_class(auc::macro_mean(&areas)));
    figures
        .add("weighted_auroc", &format!("mean {over}, weighted by true samples: {area}"), || one_class(auc::weighted_mean(&areas, labels)));
    figures.add("macro_average_precision", &format!("mean {over}: {precision}"), || one_class(auc::macro_mean(&precisions)));
}

/// What takes the scores at their word.
fn calibration(figures: &mut Figures, scored: &Scored) {
    let Scored { labels, probabilities, .. } = *scored;
    let no_probabilities = if figures.unusable.is_none() { scored.not_probabilities() } else { None };
    let checked = |value: &dyn Fn() -> f64| no_probabilities.clone().map_or_else(|| Ok(value()), Err);
    let definition = format!("mean −ln of the label's probability, which counts as at least {LOG_LOSS_FLOOR:e}; nats");
    figures.add("log_loss", &definition, || checked(&|| log_loss(labels, probabilities, LOG_LOSS_FLOOR)));
    figures.add("brier", "mean over samples of Σ_c (p_c − 1[c = label])², 0 to 2", || checked(&|| brier(labels, probabilities)));
    type Binning = fn(&[usize], &[Vec<f64>], usize) -> Vec<Bin>;
    let binnings: [(&str, &str, Binning); 2] = [
        ("equal_width", "bins of equal width, closed above", equal_width_bins),
        ("equal_mass", "bins of equally many samples, the first ones larger by one", equal_mass_bins),
    ];
    for (name, bins, binning) in binnings {
        let found = |error: fn(&[Bin]) -> f64| checked(&|| error(&binning(labels, probabilities, BINS)));
        let confidence = format!("confidence (largest probability) less accuracy; {BINS} {bins}");
        figures.add(format!("ece_{BINS}_{name}"), &format!("expected calibration error: mean absolute {confidence}"), || {
            found(expected_error)
        });
        figures.add(format!("mce_{BINS}_{name}"), &format!("maximum calibration error: largest absolute {confidence}"), || {
            found(largest_error)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &[&str]) -> Vec<String> {
        of.iter().map(|&name| name.to_owned()).collect()
    }

    fn measured(labels: &[usize], rows: &[&[f64]]) -> Panel {
        let classes = names(&["a", "b", "c", "d", "e", "f"][..rows.first().map_or(3, |row| row.len())]);
        let ids: Vec<String> = (0..labels.len()).map(|i| format!("s{i}")).collect();
        let probabilities: Vec<Vec<f64>> = rows.iter().map(|row| row.to_vec()).collect();
        panel(&Scored { ids: &ids, classes: &classes, labels, probabilities: &probabilities })
    }

    #[track_caller]
    fn is(panel: &Panel, name: &str, expected: f64) {
        let found = &panel.figures[name];
        assert!((found.value - expected).abs() < 1e-12 && found.undefined.is_none(), "{name}: {found:?} instead of {expected}");
    }

    #[track_caller]
    fn undefined(panel: &Panel, name: &str, reason: &str) {
        let found = &panel.figures[name];
        assert!(found.value.is_nan() && found.undefined.as_deref().is_some_and(|why| why.contains(reason)), "{name}: {found:?}");
    }

    #[test]
    fn a_worked_example() {
        // Decisions a b a b a c; confusion [[2,1,0],[1,1,0],[0,0,1]].
        let rows: [&[f64]; 6] =
            [&[0.7, 0.2, 0.1], &[0.4, 0.5, 0.1], &[0.6, 0.2, 0.2], &[0.3, 0.6, 0.1], &[0.5, 0.4, 0.1], &[0.2, 0.3, 0.5]];
        let found = measured(&[0, 0, 0, 1, 1, 2], &rows);
        assert_eq!(found.confusion.as_ref().unwrap().counts, [[2, 1, 0], [1, 1, 0], [0, 0, 1]]);
        for name in ["accuracy", "top_1_accuracy", "micro_f1", "micro_precision", "micro_recall", "weighted_recall"] {
            is(&found, name, 4.0 / 6.0);
        }
        for (name, of) in [("precision", [2.0 / 3.0, 0.5, 1.0]), ("recall", [2.0 / 3.0, 0.5, 1.0]), ("f1", [2.0 / 3.0, 0.5, 1.0])] {
            (0..3).for_each(|class| is(&found, &format!("{name}[{}]", ["a", "b", "c"][class]), of[class]));
            is(&found, &format!("macro_{name}_observed"), 13.0 / 18.0);
            is(&found, &format!("macro_{name}_all"), 13.0 / 18.0);
            is(&found, &format!("weighted_{name}"), 4.0 / 6.0);
        }
        is(&found, "balanced_accuracy", 13.0 / 18.0);
        is(&found, "auroc[a]", 8.0 / 9.0);
        is(&found, "macro_auroc", (8.0 / 9.0 + 0.875 + 1.0) / 3.0);
        is(&found, "weighted_auroc", (3.0 * 8.0 / 9.0 + 2.0 * 0.875 + 1.0) / 6.0);
        // b by descending score: b(0.6), a(0.5), b(0.4), …: ½·1 + ½·⅔.
        is(&found, "average_precision[b]", 5.0 / 6.0);
        // Counts 3, 2, 1 in labels and predictions: (4·6 − 14) / (36 − 14).
        is(&found, "mcc", 10.0 / 22.0);
        is(&found, "cohen_kappa", 10.0 / 22.0);
        let label = [0.7f64, 0.4, 0.6, 0.6, 0.4, 0.5];
        is(&found, "log_loss", -label.iter().map(|p| p.ln()).sum::<f64>() / 6.0);
        is(&found, "brier", (0.14 + 0.62 + 0.24 + 0.26 + 0.62 + 0.38) / 6.0);
        // Six samples in bins of one: |0.7−1|, |0.5−0|, |0.6−1|, |0.6−1|, |0.5−0|, |0.5−1|.
        is(&found, "ece_15_equal_mass", (0.3 + 0.5 + 0.4 + 0.4 + 0.5 + 0.5) / 6.0);
        is(&found, "mce_15_equal_mass", 0.5);
        // Bins (7/15, 8/15] and (8/15, 9/15] and (10/15, 11/15]: {0.5, 0.5, 0.5 | 1 right}, {0.6, 0.6 | both}, {0.7 | right}.
        is(&found, "ece_15_equal_width", (3.0 * (0.5 - 1.0 / 3.0) + 2.0 * 0.4 + 0.3) / 6.0);
        assert!(!found.figures.contains_key("top_3_accuracy"), "of three classes every label is among the first three");
    }

    #[test]
    fn top_k_and_ordered_kappa() {
        let row: &[f64] = &[0.3, 0.25, 0.2, 0.15, 0.06, 0.04];
        let found = measured(&[0, 2, 4, 5], &[row; 4]);
        is(&found, "top_1_accuracy", 0.25);
        is(&found, "top_3_accuracy", 0.5);
        is(&found, "top_5_accuracy", 0.75);
        let apart = measured(&[0, 1, 2, 2], &[&[1.0, 0.0, 0.0], &[0.0, 1.0, 0.0], &[0.0, 1.0, 0.0], &[1.0, 0.0, 0.0]]);
        // Labels occur 1, 1, 2 times, predictions 2, 2, 0 times. Observed weights 1 + 2, squared 1 + 4; expected
        // (1·2·1 + 1·2·1 + 2·2·2 + 2·2·1) / 4 = 4, squared (1·2·1 + 1·2·1 + 2·2·4 + 2·2·1) / 4 = 6.
        is(&apart, "cohen_kappa_linear", 1.0 - 3.0 / 4.0);
        is(&apart, "cohen_kappa_quadratic", 1.0 - 5.0 / 6.0);
    }

    #[test]
    fn what_an_absent_class_leaves_undefined_is_named() {
        let found = measured(&[0, 0, 1, 1], &[&[0.9, 0.1, 0.0], &[0.2, 0.8, 0.0], &[0.3, 0.7, 0.0], &[0.1, 0.9, 0.0]]);
        for name in ["recall[c]", "auroc[c]", "average_precision[c]"] {
            undefined(&found, name, "no sample of this class");
        }
        undefined(&found, "precision[c]", "nothing is predicted");
        undefined(&found, "f1[c]", "neither occurs nor is predicted");
        is(&found, "macro_f1_observed", (2.0 / 3.0 + 0.8) / 2.0);
        is(&found, "macro_f1_all", (2.0 / 3.0 + 0.8) / 3.0);
        is(&found, "macro_recall_all", 0.5);
    }

    #[test]
    fn one_class_has_no_ranking_and_no_correlation() {
        let found = measured(&[0, 0], &[&[0.9, 0.1], &[0.8, 0.2]]);
        undefined(&found, "macro_auroc", "one class only");
        undefined(&found, "weighted_auroc", "one class only");
        undefined(&found, "auroc[a]", "of this class only");
        undefined(&found, "mcc", "all labels are of one class");
        undefined(&found, "cohen_kappa", "one and the same class");
        undefined(&measured(&[0, 1], &[&[0.9, 0.1], &[0.8, 0.2]]), "mcc", "all predictions are of one class");
        is(&found, "accuracy", 1.0);
    }

    #[test]
    fn scores_that_are_no_numbers_name_the_item() {
        for (bad, word) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
            let found = measured(&[0, 1], &[&[0.9, 0.1], &[0.5, bad]]);
            assert!(found.confusion.is_none());
            for name in found.figures.keys() {
                undefined(&found, name, &format!("'s1' has a score of {word} for class 'b'"));
            }
        }
        let defined = measured(&[0, 1], &[&[0.9, 0.1], &[0.5, 0.5]]);
        let broken = measured(&[0, 1], &[&[0.9, 0.1], &[0.5, f64::NAN]]);
        assert!(defined.figures.keys().eq(broken.figures.keys()), "the same names, whatever happened");
    }

    #[test]
    fn scores_that_are_no_probabilities_have_no_calibration() {
        let found = measured(&[0, 1], &[&[0.9, 0.1], &[-2.0, 5.0]]);
        for name in ["log_loss", "brier", "ece_15_equal_width", "mce_15_equal_mass"] {
            undefined(&found, name, "the scores of 's1' are no probabilities");
        }
        is(&found, "macro_auroc", 1.0);
    }

    #[test]
    fn an_impossible_label_costs_the_floor() {
        is(&measured(&[1, 0], &[&[1.0, 0.0], &[1.0, 0.0]]), "log_loss", -(1e-15f64).ln() / 2.0);
    }

    #[test]
    fn nothing_is_not_zero() {
        let found = measured(&[], &[]);
        found.figures.keys().for_each(|name| undefined(&found, name, "there are no samples"));
    }
}
