//! Squentropy: cross-entropy plus the mean square of the other classes' raw logits. Source: Hui, Belkin and Wright 2023.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::Terms;
use super::logits::{Objective, log_probability_of, mean, own};

/// No settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SquentropySettings {}

impl Objective for SquentropySettings {
    fn terms(&self, logits: &Tensor, _embedding: &Tensor, targets: &Tensor) -> Terms {
        let cross_entropy = -mean(&log_probability_of(logits, targets));
        let squares = logits.square();
        let others = squares.sum_dim_intlist(-1, false, None::<Kind>) - own(&squares, targets);
        let square = mean(&others) / (logits.size()[1] - 1) as f64;
        let parts = vec![("cross-entropy", cross_entropy.detach()), ("square", square.detach())];
        Terms { total: cross_entropy + square, parts }
    }
}
