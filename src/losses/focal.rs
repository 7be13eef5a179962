//! Focal loss: −(1 − p_y)^γ log p_y, which counts sure samples less. Source: Lin et al. 2017, eq. 4, soft-max form without α.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::Terms;
use super::logits::{Objective, log_probability_of, mean};

/// Settings of the focal loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct FocalSettings {
    /// γ; 0 is cross-entropy.
    pub gamma: f64,
}

impl Default for FocalSettings {
    fn default() -> Self {
        Self { gamma: 2.0 }
    }
}

impl Objective for FocalSettings {
    fn check(&self) -> Result<()> {
        ensure!(self.gamma >= 0.0 && self.gamma.is_finite(), "train.loss.gamma must be at least 0, not {}", self.gamma);
        Ok(())
    }

    fn terms(&self, logits: &Tensor, _embedding: &Tensor, targets: &Tensor) -> Terms {
        let log_p = log_probability_of(logits, targets);
        // 1 − p without cancellation. At p = 1 the slope of x^γ is infinite for γ < 1, so the base stays above 0 there.
        let doubt = -log_p.expm1();
        let doubt = if self.gamma < 1.0 { doubt.clamp_min(1e-7) } else { doubt };
        Terms { total: -mean(&(doubt.pow_tensor_scalar(self.gamma) * log_p)), parts: Vec::new() }
    }
}
