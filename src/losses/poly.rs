//! Poly-1: cross-entropy plus ε·(1 − p_y), its first polynomial term re-weighted. Source: Leng et al. 2022, eq. 6.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::Terms;
use super::logits::{Objective, log_probability_of, mean};

/// Settings of Poly-1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PolySettings {
    /// ε; 0 is cross-entropy. Above −1 the loss still falls with p_y.
    pub epsilon: f64,
}

impl Default for PolySettings {
    fn default() -> Self {
        Self { epsilon: 1.0 }
    }
}

impl Objective for PolySettings {
    fn check(&self) -> Result<()> {
        ensure!(
            self.epsilon > -1.0 && self.epsilon.is_finite(),
            "train.loss.epsilon must be above -1, not {}: the loss would reward errors",
            self.epsilon
        );
        Ok(())
    }

    fn terms(&self, logits: &Tensor, _embedding: &Tensor, targets: &Tensor) -> Terms {
        let log_p = log_probability_of(logits, targets);
        let doubt = -log_p.expm1();
        Terms { total: mean(&(doubt * self.epsilon - log_p)), parts: Vec::new() }
    }
}
