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
    /// Epochs without a better one after which training ends; 0 never ends it.
    pub patience: usize,
    /// Epochs that are trained in any case.
    pub after: usize,
}

impl EarlyStop {
    /// Whether training may end after this history. It follows from the history alone, so that resuming needs no counter.
    pub fn is_due(self, select: Metric, history: &[Epoch]) -> bool {
        // An equal score is no progress: a model that is perfect on the validation rows would never end.
        let mut improved = (f64::NEG_INFINITY, history.len());
        for epoch in history {
            let score = select.score(epoch);
            if score > improved.0 {
                improved = (score, epoch.epoch);
            }
        }
        self.patience > 0 && history.len() >= self.after && history.len() - improved.1 >= self.patience
    }

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
    }

    #[test]
    fn patience_counts_from_the_best_epoch_and_waits_for_the_minimum() {
        let stop = EarlyStop { patience: 2, after: 0 };
        assert!(!stop.is_due(Metric::MacroF1, &history(&[0.5, 0.4])));
        assert!(stop.is_due(Metric::MacroF1, &history(&[0.5, 0.4, 0.3])));
        assert!(stop.is_due(Metric::MacroF1, &history(&[0.5, 0.5, 0.5])), "an equal score is no progress");
        assert!(!stop.is_due(Metric::MacroF1, &history(&[0.5, 0.4, 0.6])));
        assert!(!EarlyStop { patience: 2, after: 4 }.is_due(Metric::MacroF1, &history(&[0.5, 0.4, 0.3])));
        assert!(!EarlyStop::default().is_due(Metric::MacroF1, &history(&[0.5, 0.4, 0.3])));
        assert!(stop.check(0).unwrap_err().to_string().contains("split.validation"));
    }
}
