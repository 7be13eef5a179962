//! Max pooling: z = maximum over tiles, coordinate by coordinate, of ReLU(W x) or of the features themselves.

use serde::{Deserialize, Serialize};
use tch::{Tensor, nn};

use super::released::ReleasedNames;
use super::{Aggregator, Pooled};
use crate::ground::linear::Linear;

/// Settings of max pooling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct MaxSettings {
    /// Whether a first layer reduces the features to `width`.
    pub embed: bool,
    /// E: width of the hidden layer that is pooled.
    pub width: i64,
}

impl Default for MaxSettings {
    fn default() -> Self {
        Self { embed: true, width: 128 }
    }
}

impl MaxSettings {
    /// Builds it for features of width `features` (D).
    pub fn build(&self, path: &nn::Path, features: i64) -> Max {
        Max {
            embed: self.embed.then(|| Linear::new(&(path / "embed"), features, self.width, true)),
            width: if self.embed { self.width } else { features },
        }
    }
}

/// Max pooling.
pub struct Max {
    embed: Option<Linear>,
    width: i64,
}

impl Aggregator for Max {
    fn pool_filled(&self, bags: &Tensor, mask: &Tensor, _train: bool, _targets: Option<&Tensor>) -> Pooled {
        let hidden = self.embed.as_ref().map_or_else(|| bags.shallow_clone(), |embed| embed.forward(bags).relu()); // [B,N,E]
        let embedding = hidden.masked_fill(&mask.logical_not().unsqueeze(-1), f64::NEG_INFINITY).amax(1, false);
        Pooled { embedding, attention: None, scores: None, terms: Vec::new() }
    }

    fn width(&self) -> i64 {
        self.width
    }
}

/// Names of the released implementation.
pub const RELEASED: ReleasedNames = ReleasedNames { source: "a linear layer on pooled features", pairs: &[("fc", "head")], unused: &[] };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregators::mean::MeanSettings;
    use tch::{Device, Kind, nn::VarStore};

    #[test]
    fn golden_mean_and_maximum() {
        let store = VarStore::new(Device::Cpu);
        let bag = Tensor::from_slice(&[1.0f32, 0.0, 0.0, 2.0, 3.0, 1.0]).view([1, 3, 2]);
        let all = Tensor::ones([1, 3], (Kind::Bool, Device::Cpu));
        let max = MaxSettings { embed: false, ..Default::default() }.build(&store.root(), 2).pool(&bag, &all, false, None);
        let mean = MeanSettings { embed: false, ..Default::default() }.build(&store.root(), 2).pool(&bag, &all, false, None);
        assert_eq!(Vec::<f32>::try_from(max.embedding.flatten(0, -1)).expect("values"), [3.0, 2.0]);
        assert_eq!(Vec::<f32>::try_from(mean.embedding.flatten(0, -1)).expect("values"), [4.0 / 3.0, 1.0]);
    }
}
