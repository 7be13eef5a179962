//! Label smoothing: cross-entropy against (1 − a)·one-hot + a/C, uniform over all C classes. Source: Szegedy et al. 2016, §7.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::Terms;
use super::logits::{Objective, mean, own};

/// Settings of label smoothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LabelSmoothingSettings {
    /// a: share of the target that is spread over all classes.
    pub smoothing: f64,
}

impl Default for LabelSmoothingSettings {
    fn default() -> Self {
        Self { smoothing: 0.1 }
    }
}

impl Objective for LabelSmoothingSettings {
    fn check(&self) -> Result<()> {
        ensure!((0.0..1.0).contains(&self.smoothing), "train.loss.smoothing must be in 0…1 (1 excluded), not {}", self.smoothing);
        Ok(())
    }

    fn terms(&self, logits: &Tensor, _embedding: &Tensor, targets: &Tensor) -> Terms {
        let log_p = logits.log_softmax(-1, None::<Kind>);
        let uniform = log_p.mean_dim(-1, false, None::<Kind>);
        let total = -mean(&(own(&log_p, targets) * (1.0 - self.smoothing) + uniform * self.smoothing));
        Terms { total, parts: Vec::new() }
    }
}
