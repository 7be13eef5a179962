//! AEM: ABMIL, or one multi-head query, whose attention is kept broad by λ Σ α ln α. Source: Zhang et al., AEM, and its code.

use std::f64::consts::PI;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Tensor, nn};

use super::abmil::{Abmil, AbmilSettings};
use super::entropy::negative_entropy;
use super::multi_head::{HeadReadout, HeadScores, check_heads, queries};
use super::released::ReleasedNames;
use super::{Aggregator, Pooled, attend};
use crate::ground::linear::Linear;

/// Settings of AEM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AemSettings {
    /// The attention that is regularised.
    pub attention: AemAttention,
    /// E: width of the first layer.
    pub width: i64,
    /// Width of the gated attention's hidden layer.
    pub attention_width: i64,
    /// Heads of the multi-head attention.
    pub heads: i64,
    /// λ: weight of the negative entropy, mean over heads, in nats.
    pub entropy_weight: f64,
    /// How λ changes over the epochs.
    pub annealing: Annealing,
}

/// What attends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AemAttention {
    /// Gated ABMIL.
    Gated,
    /// One learnt query with several heads.
    MultiHead,
}

/// How λ changes over the epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Annealing {
    /// Not at all, as released.
    None,
    /// λ (1 + cos(π t)) / 2, t the share of epochs done.
    ///
    /// METHOD: the paper's third version names a cosine annealing of λ without its form; this form is our assumption.
    Cosine,
}

impl Default for AemSettings {
    /// METHOD: the paper describes gated ABMIL; the released commands, which name no architecture, train the multi-head query.
    /// λ = 0.1 is the released example for CAMELYON17.
    fn default() -> Self {
        Self { attention: AemAttention::Gated, width: 128, attention_width: 128, heads: 8, entropy_weight: 0.1, annealing: Annealing::None }
    }
}

impl AemSettings {
    /// Builds AEM for features of width `features` (D).
    ///
    /// # Errors
    /// A weight that is no weight; heads that do not divide the width.
    pub fn build(&self, path: &nn::Path, features: i64) -> Result<Aem> {
        let weight = self.entropy_weight;
        ensure!(weight >= 0.0 && weight.is_finite(), "aem: entropy-weight is {weight}; it must be 0 or more");
        let pooling = match self.attention {
            AemAttention::Gated => {
                let settings = AbmilSettings { width: self.width, attention_width: self.attention_width, ..Default::default() };
                Pooling::Gated(settings.build(path, features))
            }
            AemAttention::MultiHead => {
                check_heads(self.width, self.heads)?;
                let attention = path / "attention";
                Pooling::MultiHead {
                    embed: Linear::new(&(path / "embed"), features, self.width, false),
                    query: queries(path, 1, self.width),
                    scores: HeadScores::new(&attention, self.width, self.heads),
                    readout: HeadReadout::new(&attention, self.width, self.heads),
                }
            }
        };
        Ok(Aem { pooling, settings: self.clone(), weight })
    }
}

/// ABMIL or a multi-head query with an entropy term.
pub struct Aem {
    pooling: Pooling,
    settings: AemSettings,
    /// λ now.
    weight: f64,
}

enum Pooling {
    Gated(Abmil),
    MultiHead { embed: Linear, query: Tensor, scores: HeadScores, readout: HeadReadout },
}

impl Aggregator for Aem {
    fn pool_filled(&self, bags: &Tensor, mask: &Tensor, train: bool, targets: Option<&Tensor>) -> Pooled {
        let mut pooled = match &self.pooling {
            Pooling::Gated(abmil) => abmil.pool_filled(bags, mask, train, targets),
            Pooling::MultiHead { embed, query, scores, readout } => {
                let hidden = embed.forward(bags).relu(); // [B,N,E]
                let (attention, scores) = attend(scores.scores(query, &hidden), mask); // [B,H,N]
                let embedding = readout.read(&attention, &hidden, train);
                Pooled { embedding, attention: Some(attention), scores: Some(scores), terms: Vec::new() }
            }
        };
        if let (Some(_), Some(scores)) = (targets, &pooled.scores) {
            pooled.terms.push(("negative-entropy", negative_entropy(scores, mask) * self.weight));
        }
        pooled
    }

    fn width(&self) -> i64 {
        self.settings.width
    }

    fn before_step(&mut self, passed: f64) {
        self.weight = match self.settings.annealing {
            Annealing::None => self.settings.entropy_weight,
            Annealing::Cosine => self.settings.entropy_weight * 0.5 * (1.0 + (PI * passed).cos()),
        };
    }
}

/// Names of the released multi-head model; the gated one has ABMIL's.
pub const RELEASED: ReleasedNames = ReleasedNames {
    source: "dazhangyu123/AEM MHA",
    pairs: &[
        ("q", "queries"),
        ("dimreduction.fc1", "embed"),
        ("attention.q_proj", "attention.query"),
        ("attention.k_proj", "attention.key"),
        ("attention.v_proj", "attention.value"),
        ("attention.out_proj", "attention.out"),
        ("attention.layer_norm", "attention.norm"),
        ("classifier.fc", "head"),
    ],
    unused: &[],
};

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, nn::VarStore};

    #[test]
    fn golden_negative_entropy() {
        let all = Tensor::ones([1, 3], (Kind::Bool, Device::Cpu));
        for (scores, expected) in
            [([0.95195448, 0.46211716, 1.2702979], -1.0484251984), ([0.58275337, 0.44461085, 0.92866218], -1.0769217898)]
        {
            let found = negative_entropy(&Tensor::from_slice(&scores).view([1, 1, 3]), &all).double_value(&[]);
            assert!((found - expected).abs() < 1e-8, "{found} is not {expected}");
        }
    }

    #[test]
    fn an_attention_of_0_is_no_nan_and_padding_counts_for_nothing() {
        let scores = Tensor::from_slice(&[0.0, -1e4, f64::NEG_INFINITY]).view([1, 1, 3]).set_requires_grad(true);
        let term = negative_entropy(&scores, &Tensor::from_slice(&[true, true, false]).view([1, 3]));
        term.backward();
        assert_eq!(term.double_value(&[]), 0.0);
        assert!(scores.grad().isfinite().all().int64_value(&[]) == 1);
    }

    #[test]
    fn annealing_ends_at_0() {
        let store = VarStore::new(Device::Cpu);
        let mut aem = AemSettings { annealing: Annealing::Cosine, ..Default::default() }.build(&store.root(), 4).expect("AEM");
        let weight = |aem: &mut Aem, passed| {
            aem.before_step(passed);
            aem.weight
        };
        assert_eq!(weight(&mut aem, 0.0), 0.1);
        assert!((weight(&mut aem, 0.5) - 0.05).abs() < 1e-15);
        assert!(weight(&mut aem, 0.999) < 1e-6);
    }
}
