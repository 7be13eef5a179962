//! Anti-class: cross-entropy plus OCCE, which asks the soft-max of the *negated* logits to be uniform over the wrong classes.
//!
//! OCCE = −1/(C−1) Σ_{c ≠ y} log((C−1)·softmax(−z)_c + 1e-7). Source: Katsikas et al., TNNLS 2025, by independent copies
//! of its code; how the authors weight the two terms is not established.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::Terms;
use super::logits::{Objective, log_probability_of, mean, own};

/// Inside the logarithm, as in every copy of the reference.
const EPSILON: f64 = 1e-7;

/// Settings of anti-class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AnticlassSettings {
    /// Weight of cross-entropy.
    pub cross_entropy_weight: f64,
    /// Weight of OCCE.
    pub occe_weight: f64,
}

impl Default for AnticlassSettings {
    fn default() -> Self {
        // METHOD: equal weights; the reference's own are not known.
        Self { cross_entropy_weight: 1.0, occe_weight: 1.0 }
    }
}

impl Objective for AnticlassSettings {
    fn check(&self) -> Result<()> {
        let (cross_entropy, occe) = (self.cross_entropy_weight, self.occe_weight);
        ensure!(
            cross_entropy >= 0.0 && occe >= 0.0 && cross_entropy + occe > 0.0,
            "train.loss: the weights {cross_entropy} and {occe} must not be negative, nor both 0"
        );
        Ok(())
    }

    fn terms(&self, logits: &Tensor, _embedding: &Tensor, targets: &Tensor) -> Terms {
        let others = (logits.size()[1] - 1) as f64;
        let cross_entropy = -mean(&log_probability_of(logits, targets));
        let surprise = ((-logits).softmax(-1, None::<Kind>) * others + EPSILON).log();
        let wrong = surprise.sum_dim_intlist(-1, false, None::<Kind>) - own(&surprise, targets);
        let occe = -mean(&wrong) / others;
        let parts = vec![("cross-entropy", cross_entropy.detach()), ("occe", occe.detach())];
        Terms { total: cross_entropy * self.cross_entropy_weight + occe * self.occe_weight, parts }
    }
}
