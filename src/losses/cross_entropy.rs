//! Cross-entropy: −log p_y of the soft-max of the logits, the baseline of every table.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::Terms;
use super::logits::{Objective, log_probability_of, mean};

/// No settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CrossEntropySettings {}

impl Objective for CrossEntropySettings {
    fn terms(&self, logits: &Tensor, _embedding: &Tensor, targets: &Tensor) -> Terms {
        Terms { total: -mean(&log_probability_of(logits, targets)), parts: Vec::new() }
    }
}
