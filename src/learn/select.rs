//! Which epoch is best, and when to stop: by a named metric on the validation rows, never on the test rows.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::store::history::Epoch;

/// What an epoch is judged by, on the validation rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Macro-F1 + macro-AUC of the objective's own decision; an undefined area counts as 0.
    // METHOD: as the training scripts of ACMIL, AEM and ASMIL select.
    #[default]
    #[serde(rename = "macro-f1+auc")]
    MacroF1AndAuc,
    /// Macro-F1 of the objective's own decision.
    MacroF1,
    /// Macro-AUC of the objective's own probabilities.
    MacroAuc,
    /// Mean negative logarithm of the label's probability; lower is better.
    Loss,
}

impl Metric {
    /// Higher is better; NaN where the epoch was not validated.
    fn score(self, epoch: &Epoch) -> f64 {
        match self {
            Self::MacroF1AndAuc => epoch.valid_macro_f1 + if epoch.valid_macro_auc.is_nan() { 0.0 } else { epoch.valid_macro_auc },
            Self::MacroF1 => epoch.valid_macro_f1,
            Self::MacroAuc => epoch.valid_macro_auc,
            Self::Loss => -epoch.valid_loss,
        }
    }

    /// Whether a validated epoch can be judged at all.
    ///
    /// # Errors
    /// The metric is undefined on the validation rows.
    pub fn check(self, validated: &Epoch) -> Result<()> {
        ensure!(
            !self.score(validated).is_nan(),
            "the metric that epochs are judged by is undefined on the validation rows, where no class has both members and others; \
             validate on more rows (split.validation), or set train.select and train.early-stop.metric to \"loss\""
        );
        Ok(())
    }

    /// The best validated epoch, from 1; ties go to the later one. `None` if none was validated.
    pub fn best(self, history: &[Epoch]) -> Option<usize> {
        let scored = history.iter().map(|epoch| (epoch.epoch, self.score(epoch))).filter(|(_, score)| !score.is_nan());
        scored.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(epoch, _)| epoch)
    }
}

/// Settings of `[train.early-stop]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct EarlyStop {
    /// What must get better.
    pub metric: Metric,
    /// Validations without a better one after which training ends; 0 never ends it.
    pub patience: usize,
    /// Epochs that are trained in any case.
    pub after: usize,
}

impl EarlyStop {
    /// Whether training ends after the last epoch of this history, which is then a validated one. It follows from the history
    /// alone, so that resuming needs no counter.
    pub fn is_due(self, history: &[Epoch]) -> bool {
        let scores: Vec<f64> = history.iter().map(|epoch| self.metric.score(epoch)).collect();
        if self.patience == 0 || history.len() < self.after || scores.last().is_none_or(|score| score.is_nan()) {
            return false;
        }
        let (mut best, mut waited) = (f64::NEG_INFINITY, 0);
        for score in scores.into_iter().filter(|score| !score.is_nan()) {
            // An equal score is no progress: a model that is perfect on the validation rows would never end.
            waited = if score > best { 0 } else { waited + 1 };
            best = best.max(score);
        }
        waited >= self.patience
    }

    /// Whether a validated epoch can be judged, where it has to be.
    ///
    /// # Errors
    /// As [`Metric::check`].
    pub fn check_defined(self, validated: &Epoch) -> Result<()> {
        if self.patience == 0 { Ok(()) } else { self.metric.check(validated) }
    }

    /// Whether there is what early stopping needs.
    ///
    /// # Errors
    /// There is nothing to validate on.
    pub fn check(self, validation_rows: usize) -> Result<()> {
        ensure!(
            self.patience == 0 || validation_rows > 0,
            "train.early-stop needs validation rows and the split has none; set split.validation, or train.early-stop.patience = 0"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(f1: &[f64]) -> Vec<Epoch> {
        let epoch = |(index, &f1): (usize, &f64)| Epoch { valid_macro_f1: f1, valid_loss: 1.0 - f1, ..Epoch::new(index + 1, 0.1, 1.0) };
        f1.iter().enumerate().map(epoch).collect()
    }

    #[test]
    fn the_later_of_equal_epochs_is_best_and_unvalidated_ones_never_are() {
        assert_eq!(Metric::MacroF1AndAuc.best(&history(&[0.2, 0.7, f64::NAN, 0.7, 0.1])), Some(4));
        assert_eq!(Metric::Loss.best(&history(&[0.2, 0.7, 0.1])), Some(2), "a low loss is a good one");
        assert_eq!(Metric::MacroAuc.best(&history(&[0.2])), None);
        assert!(Metric::MacroAuc.check(&history(&[0.2])[0]).unwrap_err().to_string().contains("undefined"));
        assert!(Metric::MacroF1AndAuc.check(&history(&[0.2])[0]).is_ok(), "an undefined area counts as 0 in the sum");
    }

    #[test]
    fn metrics_have_the_names_of_the_settings() {
        let name = |metric| serde_json::to_value(metric).unwrap();
        let all = [Metric::MacroF1AndAuc, Metric::MacroF1, Metric::MacroAuc, Metric::Loss].map(name);
        assert_eq!(all, ["macro-f1+auc", "macro-f1", "macro-auc", "loss"].map(serde_json::Value::from));
    }

    #[test]
    fn patience_counts_from_the_best_epoch_and_waits_for_the_minimum() {
        let stop = EarlyStop { metric: Metric::MacroF1, patience: 2, after: 0 };
        assert!(!stop.is_due(&[]));
        assert!(!stop.is_due(&history(&[0.5, 0.4])));
        assert!(stop.is_due(&history(&[0.5, 0.4, 0.3])));
        assert!(stop.is_due(&history(&[0.5, 0.5, 0.5])), "an equal score is no progress");
        assert!(!stop.is_due(&history(&[0.5, 0.4, 0.6])));
        assert!(!EarlyStop { after: 4, ..stop }.is_due(&history(&[0.5, 0.4, 0.3])));
        assert!(EarlyStop { after: 3, ..stop }.is_due(&history(&[0.5, 0.4, 0.3])));
        assert!(!EarlyStop { patience: 0, ..stop }.is_due(&history(&[0.5, 0.4, 0.3])));
        let nan = f64::NAN;
        assert!(!stop.is_due(&history(&[0.5, nan, nan, 0.4, nan, nan])), "validations count, not epochs");
        assert!(stop.is_due(&history(&[0.5, nan, 0.4, nan, 0.4])));
        assert!(stop.check(0).unwrap_err().to_string().contains("split.validation"));
    }
}
