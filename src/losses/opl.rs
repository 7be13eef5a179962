//! Orthogonal projection loss beside cross-entropy: embeddings of one class are pulled together, of different classes to a
//! right angle. Source: Ranasinghe et al. 2021, eqs 3–5, and its released code, which has two forms of the second term.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::Terms;
use super::logits::{Objective, log_probability_of, mean};

/// In both denominators, as released.
const EPSILON: f64 = 1e-6;

/// Settings of the orthogonal projection loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct OplSettings {
    /// w: weight of the projection term beside cross-entropy.
    pub weight: f64,
    /// γ: weight of different classes' similarity within that term.
    pub gamma: f64,
    /// Which similarity of different classes is punished.
    pub form: Form,
}

impl Default for OplSettings {
    fn default() -> Self {
        Self { weight: 1.0, gamma: 0.5, form: Form::Absolute }
    }
}

/// Which similarity of different classes is punished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// |cosine|, so that the best angle is a right one: the released trainers.
    Absolute,
    /// The cosine itself, so that opposite is better than orthogonal: the released stand-alone loss.
    Signed,
}

/// (1 − s) + γ·d: s the mean cosine of pairs of one class, d that of pairs of different classes, each in `form`.
///
/// `embedding [B,E]`, `targets [B]`. Without a pair of one class s is 0, without one of two classes d is 0. Memory: `[B,B]`.
pub fn projection(embedding: &Tensor, targets: &Tensor, gamma: f64, form: Form) -> Tensor {
    let norm = embedding.norm_scalaropt_dim(2.0, [1i64], true).clamp_min(1e-12);
    let unit = embedding / norm;
    let cosine = unit.matmul(&unit.transpose(0, 1));
    let same = targets.unsqueeze(0).eq_tensor(&targets.unsqueeze(1));
    let different = same.logical_not().to_kind(cosine.kind());
    let itself = Tensor::eye(cosine.size()[0], (cosine.kind(), cosine.device()));
    let same = same.to_kind(cosine.kind()) - itself;
    let over = |pairs: &Tensor, value: &Tensor| (pairs * value).sum(None::<Kind>) / (pairs.sum(None::<Kind>) + EPSILON);
    let apart = match form {
        Form::Absolute => over(&different, &cosine.abs()),
        Form::Signed => over(&different, &cosine),
    };
    1.0 - over(&same, &cosine) + apart * gamma
}

impl Objective for OplSettings {
    fn check(&self) -> Result<()> {
        ensure!(self.weight >= 0.0, "train.loss.weight must not be negative, it is {}", self.weight);
        ensure!(self.gamma >= 0.0, "train.loss.gamma must not be negative, it is {}", self.gamma);
        Ok(())
    }

    fn terms(&self, logits: &Tensor, embedding: &Tensor, targets: &Tensor) -> Terms {
        let cross_entropy = -mean(&log_probability_of(logits, targets));
        let projection = projection(embedding, targets, self.gamma, self.form);
        let parts = vec![("cross-entropy", cross_entropy.detach()), ("projection", projection.detach())];
        Terms { total: cross_entropy + projection * self.weight, parts }
    }
}
