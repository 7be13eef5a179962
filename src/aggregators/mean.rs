//! Mean pooling: z = mean over tiles of ReLU(W x), the baseline without attention.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn};

use super::{Aggregator, Pooled};
use crate::ground::linear::Linear;

/// Settings of mean pooling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct MeanSettings {
    /// E: width of the hidden layer that is pooled.
    pub width: i64,
}

impl Default for MeanSettings {
    fn default() -> Self {
        Self { width: 128 }
    }
}

impl MeanSettings {
    pub(super) fn build(&self, path: &nn::Path, features: i64) -> Mean {
        Mean { embed: Linear::new(&(path / "embed"), features, self.width, true), width: self.width }
    }
}

pub(super) struct Mean {
    embed: Linear,
    width: i64,
}

impl Aggregator for Mean {
    fn pool(&self, bags: &Tensor, mask: &Tensor, _train: bool) -> Pooled {
        let hidden = self.embed.forward(bags).relu(); // [B,N,E]
        let weight = mask.unsqueeze(-1).to_kind(hidden.kind()); // [B,N,1]
        let sum = (hidden * &weight).sum_dim_intlist(1, false, None::<Kind>);
        Pooled { embedding: sum / weight.sum_dim_intlist(1, false, None::<Kind>), attention: None, scores: None }
    }

    fn width(&self) -> i64 {
        self.width
    }
}
