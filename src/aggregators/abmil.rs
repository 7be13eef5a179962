//! Attention-based MIL: z = Σ_n α_n h_n with α = softmax_n wᵀ(tanh(V h_n) ⊙ σ(U h_n)). Source: Ilse et al. 2018, eqs 8 and 9.
//!
//! `embed` gives the whole-slide form h = act(W x) of ACMIL and AEM; without it h = x, as in the original.

use serde::{Deserialize, Serialize};
use tch::{Tensor, nn};

use super::gated::GatedAttention;
use super::released::ReleasedNames;
use super::{Aggregator, Pooled, attend};
use crate::ground::linear::Linear;

/// Settings of ABMIL; the defaults are the whole-slide form with 128 coordinates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AbmilSettings {
    /// Whether a first layer reduces the features to `width`.
    pub embed: bool,
    /// Widths of layers before that one, each with a bias, activation and dropout as it has.
    pub hidden: Vec<i64>,
    /// Whether these layers have a bias.
    pub embed_bias: bool,
    /// E: width of the first layer.
    pub width: i64,
    /// Width of the attention's hidden layer.
    pub attention_width: i64,
    /// Gated (eq. 9) or plain (eq. 8) attention.
    pub gated: bool,
    /// Activation after each of these layers.
    pub activation: Activation,
    /// Share of units dropped after each of these layers while training.
    pub dropout: f64,
}

impl Default for AbmilSettings {
    fn default() -> Self {
        Self {
            embed: true,
            hidden: Vec::new(),
            embed_bias: false,
            width: 128,
            attention_width: 128,
            gated: true,
            activation: Activation::Relu,
            dropout: 0.0,
        }
    }
}

/// Activation after the first layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// max(0, x)
    Relu,
    /// x Φ(x), exact.
    Gelu,
    /// tanh x
    Tanh,
}

impl AbmilSettings {
    /// Builds ABMIL for features of width `features` (D).
    pub fn build(&self, path: &nn::Path, features: i64) -> Abmil {
        let mut width = features;
        let mut layer = |path: nn::Path, next: i64| {
            let layer = Linear::new(&path, width, next, self.embed_bias);
            width = next;
            layer
        };
        let mut embed: Vec<Linear> = self.hidden.iter().enumerate().map(|(k, &next)| layer(path / "hidden" / k, next)).collect();
        if self.embed {
            embed.push(layer(path / "embed", self.width));
        }
        Abmil {
            embed,
            attention: GatedAttention::new(&(path / "attention"), width, self.attention_width, 1, self.gated, 0.0),
            settings: self.clone(),
            width,
        }
    }
}

/// Gated or plain ABMIL.
pub struct Abmil {
    /// Those of `hidden`, then the first layer.
    embed: Vec<Linear>,
    attention: GatedAttention,
    settings: AbmilSettings,
    width: i64,
}

impl Aggregator for Abmil {
    fn pool_filled(&self, bags: &Tensor, mask: &Tensor, train: bool, _targets: Option<&Tensor>) -> Pooled {
        let hidden = self.embed.iter().fold(bags.shallow_clone(), |below, layer| {
            let linear = layer.forward(&below);
            let active = match self.settings.activation {
                Activation::Relu => linear.relu(),
                Activation::Gelu => linear.gelu("none"),
                Activation::Tanh => linear.tanh(),
            };
            if self.settings.dropout > 0.0 { active.dropout(self.settings.dropout, train) } else { active }
        }); // [B,N,E]
        let (attention, scores) = attend(self.attention.scores(&hidden, train), mask); // [B,1,N]
        let embedding = attention.matmul(&hidden).squeeze_dim(1);
        Pooled { embedding, attention: Some(attention), scores: Some(scores), terms: Vec::new() }
    }

    fn width(&self) -> i64 {
        self.width
    }
}

/// Names of the released implementations, told apart by their first layers.
pub const RELEASED: [ReleasedNames; 4] = [
    ReleasedNames {
        source: "dazhangyu123/ACMIL ABMIL, dazhangyu123/AEM ABMIL",
        pairs: &[
            ("dimreduction.fc1", "embed"),
            ("attention.attention_V.0", "attention.tanh"),
            ("attention.attention_U.0", "attention.gate"),
            ("attention.attention_weights", "attention.score"),
            ("classifier.fc", "head"),
        ],
        unused: &[],
    },
    ReleasedNames {
        source: "DAttention",
        pairs: &[("feature.0", "embed"), ("attention.0", "attention.tanh"), ("attention.2", "attention.score"), ("classifier.0", "head")],
        unused: &[],
    },
    ReleasedNames {
        source: "AMLab-Amsterdam/AttentionDeepMIL GatedAttention",
        pairs: &[
            ("attention_V.0", "attention.tanh"),
            ("attention_U.0", "attention.gate"),
            ("attention_w", "attention.score"),
            ("classifier.0", "head"),
        ],
        unused: &[],
    },
    ReleasedNames {
        source: "AMLab-Amsterdam/AttentionDeepMIL Attention",
        pairs: &[("attention.0", "attention.tanh"), ("attention.2", "attention.score"), ("classifier.0", "head")],
        unused: &[],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, nn::VarStore};

    fn golden(gated: bool) -> Pooled {
        let mut store = VarStore::new(Device::Cpu);
        store.set_kind(Kind::Double);
        let model = AbmilSettings { embed: false, attention_width: 2, gated, ..Default::default() }.build(&store.root(), 2);
        let set = |name: &str, values: &[f64]| {
            let mut variable = store.variables().remove(name).expect(name);
            tch::no_grad(|| variable.copy_(&Tensor::from_slice(values).view_as(&variable)));
        };
        for (name, variable) in store.variables() {
            set(&name, &vec![0.0; variable.numel()]);
        }
        set("attention.tanh.weight", &[0.5, -0.5, 0.25, 0.5]);
        set("attention.score.weight", &[1.0, 2.0]);
        if gated {
            set("attention.gate.weight", &[1.0, 0.0, 0.0, 1.0]);
        }
        let bags = Tensor::from_slice(&[1.0f64, 0.0, 0.0, 1.0, 1.0, 1.0]).view([1, 3, 2]);
        model.pool(&bags, &Tensor::ones([1, 3], (Kind::Bool, Device::Cpu)), false, None)
    }

    fn close(a: &Tensor, b: &[f64]) {
        let a = Vec::<f64>::try_from(a.flatten(0, -1)).expect("values");
        assert!(a.len() == b.len() && a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-7), "{a:?} is not {b:?}");
    }

    #[test]
    fn golden_plain_and_gated_attention() {
        let plain = golden(false);
        close(&plain.scores.expect("ABMIL attends"), &[0.95195448, 0.46211716, 1.2702979]);
        close(&plain.attention.expect("ABMIL attends"), &[0.3347197, 0.20509148, 0.46018882]);
        close(&plain.embedding, &[0.79490852, 0.6652803]);
        let gated = golden(true);
        close(&gated.scores.expect("ABMIL attends"), &[0.58275337, 0.44461085, 0.92866218]);
        close(&gated.embedding, &[0.73480247, 0.69551632]);
    }

    #[test]
    fn padding_and_tile_order_change_no_embedding() {
        tch::manual_seed(1);
        let store = VarStore::new(Device::Cpu);
        let model = AbmilSettings::default().build(&store.root(), 16);
        let bag = Tensor::randn([1, 5, 16], (Kind::Float, Device::Cpu));
        let all = Tensor::ones([1, 5], (Kind::Bool, Device::Cpu));
        let plain = model.pool(&bag, &all, false, None).embedding;
        let padded = Tensor::cat(&[&bag, &Tensor::ones([1, 3, 16], (Kind::Float, Device::Cpu))], 1);
        let mask = Tensor::cat(&[&all, &Tensor::zeros([1, 3], (Kind::Bool, Device::Cpu))], 1);
        assert!((model.pool(&padded, &mask, false, None).embedding - &plain).abs().max().double_value(&[]) < 1e-6);
        let turned = bag.flip([1]);
        assert!((model.pool(&turned, &all, false, None).embedding - &plain).abs().max().double_value(&[]) < 1e-6);
    }
}
