//! Square loss on raw outputs, rescaled for many classes: (k·(z_y − M)² + Σ_{c ≠ y} z_c²) / C. Source: Hui and Belkin 2021, §2.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::Terms;
use super::logits::{Objective, mean, own};

/// Settings of the square loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SquareSettings {
    /// k: weight of the label's own output.
    pub weight: f64,
    /// M: what the label's own output is pulled to; the others are pulled to 0.
    pub target: f64,
}

impl Default for SquareSettings {
    fn default() -> Self {
        Self { weight: 1.0, target: 1.0 }
    }
}

impl Objective for SquareSettings {
    fn check(&self) -> Result<()> {
        ensure!(self.weight > 0.0, "train.loss.weight must be positive, not {}", self.weight);
        ensure!(self.target > 0.0, "train.loss.target must be positive, not {}", self.target);
        Ok(())
    }

    fn terms(&self, logits: &Tensor, _embedding: &Tensor, targets: &Tensor) -> Terms {
        let own = own(logits, targets);
        let others = logits.square().sum_dim_intlist(-1, false, None::<Kind>) - own.square();
        let total = mean(&((own - self.target).square() * self.weight + others)) / logits.size()[1] as f64;
        Terms { total, parts: Vec::new() }
    }
}
