//! Mean pooling: z = mean over tiles of ReLU(W x), or of the features themselves; the baseline without attention.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn};

use super::released::ReleasedNames;
use super::{Aggregator, Pooled};
use crate::ground::linear::Linear;

/// Settings of mean pooling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct MeanSettings {
    /// Whether a first layer reduces the features to `width`.
    pub embed: bool,
    /// E: width of the hidden layer that is pooled.
    pub width: i64,
}

impl Default for MeanSettings {
    fn default() -> Self {
        Self { embed: true, width: 128 }
    }
}

impl MeanSettings {
    /// Builds it for features of width `features` (D).
    pub fn build(&self, path: &nn::Path, features: i64) -> Mean {
        Mean {
            embed: self.embed.then(|| Linear::new(&(path / "embed"), features, self.width, true)),
            width: if self.embed { self.width } else { features },
        }
    }
}

/// Mean pooling.
pub struct Mean {
    embed: Option<Linear>,
    width: i64,
}

impl Aggregator for Mean {
    fn pool_filled(&self, bags: &Tensor, mask: &Tensor, _train: bool, _targets: Option<&Tensor>) -> Pooled {
        let hidden = self.embed.as_ref().map_or_else(|| bags.shallow_clone(), |embed| embed.forward(bags).relu()); // [B,N,E]
        let weight = mask.unsqueeze(-1).to_kind(hidden.kind()); // [B,N,1]
        let sum = (hidden * &weight).sum_dim_intlist(1, false, None::<Kind>);
        let embedding = sum / weight.sum_dim_intlist(1, false, None::<Kind>);
        Pooled { embedding, attention: None, scores: None, terms: Vec::new() }
    }

    fn width(&self) -> i64 {
        self.width
    }
}

/// Names of the released implementations. A mean of instance logits is the logits of the mean, so `MeanMIL` is one of them.
pub const RELEASED: [ReleasedNames; 2] = [
    ReleasedNames { source: "dazhangyu123/ACMIL MeanMIL", pairs: &[("head.0", "embed"), ("head.3", "head")], unused: &[] },
    ReleasedNames { source: "a linear layer on pooled features", pairs: &[("fc", "head")], unused: &[] },
];
