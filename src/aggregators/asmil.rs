//! ASMIL: several query tokens whose attention follows a slowly moving copy's, read as normalised sigmoids.
//! Source: the ASMIL paper and its code, from which `anchor` and `distillation` depart where that has faults.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn, no_grad};

use super::entropy::at_least_single;
use super::likelihood::branch_cross_entropy;
use super::multi_head::{HeadReadout, HeadScores, check_heads, queries};
use super::released::ReleasedNames;
use super::{Aggregator, Pooled};
use crate::ground::distributions::NSF_EPSILON;
use crate::ground::linear::Linear;

/// Added to the online attention before its logarithm, as released.
const LOG_EPSILON: f64 = 1e-8;

/// Settings of ASMIL; `configs/asmil-repo.toml` has those of the released code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AsmilSettings {
    /// K: query tokens.
    pub tokens: i64,
    /// Tokens left out at random for each bag while training; fewer than `tokens`.
    pub dropped_tokens: i64,
    /// E: width of every layer.
    pub width: i64,
    /// H: heads of every attention.
    pub heads: i64,
    /// How the anchor starts and moves.
    pub anchor: Anchor,
    /// Share of the anchor that a step keeps.
    pub anchor_decay: f64,
    /// Divides the anchor's scores.
    pub temperature: f64,
    /// How the distillation is summed over tiles.
    pub distillation: Distillation,
    /// Weight of the distillation.
    pub distillation_weight: f64,
    /// Weight of the tokens' own classifiers; 0, as released, for none.
    pub branch_weight: f64,
}

/// How the anchor starts and moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Anchor {
    /// A copy of the model that follows it by an exponential moving average after every step.
    Moving,
    /// Random weights that never move.
    ///
    /// METHOD: what the released code does, since its update applies only to tensors that hold NaN.
    Frozen,
}

/// How the distillation is summed over tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distillation {
    /// Sum over tiles, mean over heads and tokens: a cross-entropy.
    Sum,
    /// Mean over tiles too, as released: 1/N of it, which is next to nothing for a slide.
    Mean,
}

impl Default for AsmilSettings {
    fn default() -> Self {
        Self {
            tokens: 8,
            dropped_tokens: 2,
            width: 128,
            heads: 8,
            anchor: Anchor::Moving,
            anchor_decay: 0.999,
            temperature: 0.5,
            distillation: Distillation::Sum,
            distillation_weight: 1.0,
            branch_weight: 0.0,
        }
    }
}

impl AsmilSettings {
    /// Builds ASMIL for features of width `features` (D) and `classes` (C).
    ///
    /// # Errors
    /// A setting out of its range.
    pub fn build(&self, path: &nn::Path, features: i64, classes: i64) -> Result<Asmil> {
        ensure!(
            (0..self.tokens).contains(&self.dropped_tokens),
            "asmil: dropped-tokens is {} of {} tokens; at least one must be left",
            self.dropped_tokens,
            self.tokens
        );
        ensure!(self.temperature > 0.0, "asmil: temperature is {}; it must be above 0", self.temperature);
        let decay = self.anchor_decay;
        ensure!((0.0..=1.0).contains(&decay), "asmil: anchor-decay is {decay}; it must lie in 0 to 1");
        check_heads(self.width, self.heads)?;
        let (branch, bag, head) = (path / "branch", path / "bag", path / "branch-head");
        let online = Attender::new(path, features, self);
        let anchor = Attender::new(&(path / "anchor"), features, self);
        for (tensor, online) in anchor.tensors().into_iter().zip(online.tensors()) {
            let mut tensor = tensor.set_requires_grad(false);
            if self.anchor == Anchor::Moving {
                no_grad(|| tensor.copy_(online));
            }
        }
        let heads = if self.branch_weight > 0.0 { self.tokens } else { 0 };
        Ok(Asmil {
            online,
            anchor,
            readouts: (0..self.tokens).map(|k| HeadReadout::new(&(&branch / k), self.width, self.heads)).collect(),
            class_token: path.zeros("class-token", &[self.width]),
            bag: (HeadScores::new(&bag, self.width, self.heads), HeadReadout::new(&bag, self.width, self.heads)),
            branch_heads: (0..heads).map(|k| Linear::new(&(&head / k), self.width, classes, true)).collect(),
            settings: self.clone(),
        })
    }
}

/// What scores tiles, in the model and in its anchor.
struct Attender {
    embed: Linear,
    /// `[K,E]`
    queries: Tensor,
    scores: Vec<HeadScores>,
}

impl Attender {
    fn new(path: &nn::Path, features: i64, settings: &AsmilSettings) -> Self {
        let branch = path / "branch";
        Self {
            embed: Linear::new(&(path / "embed"), features, settings.width, false),
            queries: queries(path, settings.tokens, settings.width),
            scores: (0..settings.tokens).map(|k| HeadScores::new(&(&branch / k), settings.width, settings.heads)).collect(),
        }
    }

    /// `[B,N,D]` → `[B,N,E]`
    fn hidden(&self, bags: &Tensor) -> Tensor {
        self.embed.forward(bags).relu()
    }

    /// `hidden [B,N,E]` → `[B,H,K,N]`
    fn scores(&self, hidden: &Tensor) -> Tensor {
        let of = |(k, scores): (usize, &HeadScores)| scores.scores(&self.queries.get(k as i64), hidden);
        Tensor::stack(&self.scores.iter().enumerate().map(of).collect::<Vec<_>>(), 2)
    }

    fn tensors(&self) -> Vec<&Tensor> {
        let layers = self.scores.iter().flat_map(|scores| [&scores.query, &scores.key]);
        let layers = layers.flat_map(|layer| std::iter::once(&layer.weight).chain(&layer.bias));
        [&self.embed.weight, &self.queries].into_iter().chain(layers).collect()
    }
}

/// ASMIL.
pub struct Asmil {
    online: Attender,
    anchor: Attender,
    readouts: Vec<HeadReadout>,
    class_token: Tensor,
    bag: (HeadScores, HeadReadout),
    branch_heads: Vec<Linear>,
    settings: AsmilSettings,
}

impl Asmil {
    /// The anchor's scores `[B,H·K,N]`, heads first, without gradient.
    pub fn anchor_scores(&self, bags: &Tensor) -> Tensor {
        no_grad(|| self.anchor.scores(&self.anchor.hidden(bags)).flatten(1, 2))
    }

    /// The anchor's queries `[K,E]`.
    pub fn anchor_queries(&self) -> &Tensor {
        &self.anchor.queries
    }

    /// Logits of the tokens' classifiers `[B,K,C]`, in evaluation mode; needs `branch_weight` above 0.
    pub fn branch_logits(&self, bags: &Tensor, mask: &Tensor) -> Tensor {
        let hidden = self.online.hidden(bags);
        let attention = masked(&self.online.scores(&hidden), mask).softmax(-1, None::<Kind>);
        self.classify(&self.tokens(&attention, &hidden, false))
    }

    /// `attention [B,H,K,N]`, `hidden [B,N,E]` → `[B,K,E]`
    fn tokens(&self, attention: &Tensor, hidden: &Tensor, train: bool) -> Tensor {
        let of = |(k, readout): (usize, &HeadReadout)| readout.read(&attention.select(2, k as i64), hidden, train);
        Tensor::stack(&self.readouts.iter().enumerate().map(of).collect::<Vec<_>>(), 1)
    }

    fn classify(&self, tokens: &Tensor) -> Tensor {
        let of = |(k, head): (usize, &Linear)| head.forward(&tokens.select(1, k as i64));
        Tensor::stack(&self.branch_heads.iter().enumerate().map(of).collect::<Vec<_>>(), 1)
    }

    /// A random subset of each bag's tokens `[B,K,E]` → `[B,K−dropped,E]`.
    fn thin(&self, tokens: &Tensor) -> Tensor {
        let (bags, count, width) = tokens.size3().expect("tokens have three dimensions");
        let kept = count - self.settings.dropped_tokens;
        let (_, drawn) = Tensor::rand([bags, count], (Kind::Float, tokens.device())).topk(kept, -1, true, false);
        tokens.gather(1, &drawn.unsqueeze(-1).expand([bags, kept, width], false), false)
    }
}

/// −∞ on padding: `[B,H,K,N]`.
fn masked(scores: &Tensor, mask: &Tensor) -> Tensor {
    scores.masked_fill(&mask.logical_not().unsqueeze(1).unsqueeze(1), f64::NEG_INFINITY)
}

/// The anchor's scores `[B,K,N]` as distributions over the bag's tiles: NSF of scores / temperature.
pub fn anchor_target(scores: &Tensor, mask: &Tensor, temperature: f64) -> Tensor {
    let sigmoid = (scores / temperature).sigmoid() * mask.unsqueeze(1).to_kind(scores.kind());
    &sigmoid / (sigmoid.sum_dim_intlist(-1, true, None::<Kind>) + NSF_EPSILON)
}

/// Cross-entropy −Σ_n target ln(attention + 1e-8) of `[B,K,N]`, mean over rows and bags: a scalar.
pub fn distil(attention: &Tensor, target: &Tensor, mask: &Tensor, how: Distillation) -> Tensor {
    let (attention, target) = (at_least_single(attention), at_least_single(target));
    let rows = -(target * (attention + LOG_EPSILON).log()).sum_dim_intlist(-1, false, None::<Kind>); // [B,K]
    match how {
        Distillation::Sum => rows.mean(None::<Kind>),
        Distillation::Mean => {
            let tiles = mask.sum_dim_intlist(1, true, None::<Kind>).to_kind(rows.kind());
            (rows / tiles).mean(None::<Kind>)
        }
    }
}

impl Aggregator for Asmil {
    fn pool_filled(&self, bags: &Tensor, mask: &Tensor, train: bool, targets: Option<&Tensor>) -> Pooled {
        let settings = &self.settings;
        let hidden = self.online.hidden(bags);
        let scores = masked(&self.online.scores(&hidden), mask); // [B,H,K,N]
        let attention = scores.softmax(-1, None::<Kind>);
        let tokens = self.tokens(&attention, &hidden, train); // [B,K,E]
        let read = if train && settings.dropped_tokens > 0 { self.thin(&tokens) } else { tokens.shallow_clone() };
        let over_tokens = self.bag.0.scores(&self.class_token, &read).softmax(-1, None::<Kind>);
        let embedding = self.bag.1.read(&over_tokens, &read, train);
        let attention = attention.flatten(1, 2);
        let mut terms = Vec::new();
        if let Some(targets) = targets {
            let target = anchor_target(&self.anchor_scores(bags), mask, settings.temperature);
            let distillation = distil(&attention, &target, mask, settings.distillation);
            terms.push(("distillation", distillation * settings.distillation_weight));
            if settings.branch_weight > 0.0 {
                terms.push(("branches", branch_cross_entropy(&self.classify(&tokens), targets) * settings.branch_weight));
            }
        }
        Pooled { embedding, attention: Some(attention), scores: Some(scores.flatten(1, 2)), terms }
    }

    fn width(&self) -> i64 {
        self.settings.width
    }

    fn after_step(&mut self) {
        if self.settings.anchor == Anchor::Moving {
            let decay = self.settings.anchor_decay;
            for (anchor, online) in self.anchor.tensors().into_iter().zip(self.online.tensors()) {
                no_grad(|| anchor.shallow_clone().copy_(&(anchor * decay + online * (1.0 - decay))));
            }
        }
    }
}

/// Names of the released model, whose checkpoint has no `student.`; the anchor's has no `anchor.`.
pub const RELEASED: ReleasedNames = ReleasedNames {
    source: "Linfeng-Ye/ASMIL",
    pairs: &[
        ("student.q", "queries"),
        ("student.cls", "class-token"),
        ("student.dimreduction.fc1", "embed"),
        ("student.sub_attention.{k}.q_proj", "branch.{k}.query"),
        ("student.sub_attention.{k}.k_proj", "branch.{k}.key"),
        ("student.sub_attention.{k}.v_proj", "branch.{k}.value"),
        ("student.sub_attention.{k}.out_proj", "branch.{k}.out"),
        ("student.sub_attention.{k}.layer_norm", "branch.{k}.norm"),
        ("student.bag_attention.q_proj", "bag.query"),
        ("student.bag_attention.k_proj", "bag.key"),
        ("student.bag_attention.v_proj", "bag.value"),
        ("student.bag_attention.out_proj", "bag.out"),
        ("student.bag_attention.layer_norm", "bag.norm"),
        ("student.classifier.{k}.fc", "branch-head.{k}"),
        ("student.Slide_classifier.fc", "head"),
        ("anchor.q", "anchor.queries"),
        ("anchor.dimreduction.fc1", "anchor.embed"),
        ("anchor.sub_attention.{k}.q_proj", "anchor.branch.{k}.query"),
        ("anchor.sub_attention.{k}.k_proj", "anchor.branch.{k}.key"),
    ],
    // Of the anchor only the scores are read.
    unused: &[
        "student.dimreduction.bn",
        "anchor.dimreduction.bn",
        "anchor.cls",
        "anchor.sub_attention.{k}.v_proj",
        "anchor.sub_attention.{k}.out_proj",
        "anchor.sub_attention.{k}.layer_norm",
        "anchor.bag_attention.q_proj",
        "anchor.bag_attention.k_proj",
        "anchor.bag_attention.v_proj",
        "anchor.bag_attention.out_proj",
        "anchor.bag_attention.layer_norm",
        "anchor.classifier.{k}.fc",
        "anchor.Slide_classifier.fc",
    ],
};

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, nn::VarStore};

    #[test]
    fn golden_distillation() {
        let mask = Tensor::ones([1, 3], (Kind::Bool, Device::Cpu));
        let scores = |values: [f64; 3]| Tensor::from_slice(&values).view([1, 1, 3]);
        let target = anchor_target(&scores([0.5, 0.0, 0.0]), &mask, 0.5);
        let found = Vec::<f64>::try_from(target.flatten(0, -1)).expect("values");
        assert!(found.iter().zip([0.4223188, 0.2888406, 0.2888406]).all(|(a, b)| (a - b).abs() < 1e-7), "{found:?}");
        let attention = scores([1.0, 0.0, -1.0]).softmax(-1, None::<Kind>);
        // The worked values are without the released 1e-8 in the logarithm and in NSF.
        for (how, expected) in [(Distillation::Sum, 1.2741277598), (Distillation::Mean, 0.4247092532)] {
            let found = distil(&attention, &target, &mask, how).double_value(&[]);
            assert!((found - expected).abs() < 1e-7, "{found} is not {expected}");
        }
    }

    #[test]
    fn the_anchor_starts_as_a_copy_follows_and_is_never_trained() {
        let store = VarStore::new(Device::Cpu);
        let mut model = AsmilSettings::default().build(&store.root(), 4, 2).expect("ASMIL");
        assert!(model.anchor.queries.equal(&model.online.queries));
        no_grad(|| {
            let _ = model.anchor.queries.shallow_clone().fill_(1.0);
            let _ = model.online.queries.shallow_clone().fill_(0.0);
        });
        no_grad(|| model.after_step());
        assert!((model.anchor.queries.mean(Kind::Double).double_value(&[]) - 0.999).abs() < 1e-6);
        let variables = store.variables();
        assert!(variables.iter().all(|(name, tensor)| tensor.requires_grad() != name.starts_with("anchor.")));
    }

    #[test]
    fn dropping_every_token_is_refused() {
        let settings = AsmilSettings { tokens: 2, dropped_tokens: 2, ..Default::default() };
        assert!(settings.build(&VarStore::new(Device::Cpu).root(), 4, 2).is_err());
    }
}
