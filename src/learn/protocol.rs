//! By which rules a model is chosen and judged; recorded with every score, so that numbers of two rules are never taken for one.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::TrainSettings;
use super::select::Metric;

/// The rules of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// As the settings say; intervals decide what is a difference.
    #[default]
    Strict,
    /// As ACMIL, AEM and ASMIL report: the epoch of the best validation macro-F1 + macro-AUC; intervals are no verdict.
    Paper,
}

impl Protocol {
    /// Every protocol's name.
    pub const NAMES: [&'static str; 2] = ["strict", "paper"];

    /// The name in settings and outputs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Strict => Self::NAMES[0],
            Self::Paper => Self::NAMES[1],
        }
    }

    /// The settings that the protocol called `name` stands for.
    pub fn settings(name: &str) -> &'static [(&'static str, &'static str)] {
        if name == Self::Paper.name() { &[("train.select", "macro-f1+auc"), ("probe.checkpoint", "best")] } else { &[] }
    }

    /// Whether the other settings keep the rules.
    ///
    /// # Errors
    /// `paper` with another metric, or without validation rows.
    pub fn check(self, settings: &TrainSettings, validation_rows: usize) -> Result<()> {
        if self == Self::Strict {
            return Ok(());
        }
        ensure!(
            settings.select == Metric::MacroF1AndAuc,
            "train.protocol = \"paper\" chooses the epoch by macro-F1 + macro-AUC; set train.select=\"macro-f1+auc\""
        );
        ensure!(validation_rows > 0, "train.protocol = \"paper\" chooses the epoch on validation rows and the split has none");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_settings_and_paper_wants_its_rules_kept() {
        for (protocol, name) in [Protocol::Strict, Protocol::Paper].into_iter().zip(Protocol::NAMES) {
            assert_eq!(serde_json::to_value(protocol).unwrap(), name);
            assert_eq!(protocol.name(), name);
        }
        let by_loss = TrainSettings { select: Metric::Loss, ..TrainSettings::default() };
        assert!(Protocol::Strict.check(&by_loss, 0).is_ok());
        assert!(Protocol::Paper.check(&by_loss, 9).unwrap_err().to_string().contains("macro-f1+auc"));
        assert!(Protocol::Paper.check(&TrainSettings::default(), 0).unwrap_err().to_string().contains("validation"));
        assert!(Protocol::Paper.check(&TrainSettings::default(), 9).is_ok());
    }
}
