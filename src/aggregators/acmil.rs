//! ACMIL: several attention branches that must differ, each with a classifier; the strongest tiles are masked at random.
//! Source: Zhang et al. 2024 (ACMIL) and its code.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn};

use super::gated::GatedAttention;
use super::likelihood::branch_cross_entropy;
use super::multi_head::{HeadReadout, HeadScores, check_heads, queries};
use super::released::ReleasedNames;
use super::{Aggregator, Pooled};
use crate::ground::linear::Linear;

/// Added to the norms of a cosine similarity, the framework's own.
const COSINE_EPSILON: f64 = 1e-8;

/// Settings of ACMIL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AcmilSettings {
    /// What attends.
    pub attention: AcmilAttention,
    /// K: branches.
    pub branches: i64,
    /// E: width of the first layer.
    pub width: i64,
    /// Width of the gated attention's hidden layer.
    pub attention_width: i64,
    /// Heads of the multi-head attention.
    pub heads: i64,
    /// Tiles with the highest scores of each branch that may be masked while training; 0 for none.
    pub masked_tiles: i64,
    /// Share of these that is masked, in `[0,1)`.
    pub masked_share: f64,
    /// Weight of the branches' similarity.
    pub diversity_weight: f64,
    /// Weight of the branch classifiers' cross-entropy.
    pub branch_weight: f64,
}

/// What attends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AcmilAttention {
    /// One gated attention with K scores a tile.
    Gated,
    /// K learnt queries, each with its own multi-head attention.
    MultiHead,
}

impl Default for AcmilSettings {
    fn default() -> Self {
        Self {
            attention: AcmilAttention::Gated,
            branches: 5,
            width: 128,
            attention_width: 128,
            heads: 8,
            masked_tiles: 10,
            masked_share: 0.6,
            diversity_weight: 1.0,
            branch_weight: 1.0,
        }
    }
}

impl AcmilSettings {
    /// Builds ACMIL for features of width `features` (D) and `classes` (C).
    ///
    /// # Errors
    /// A setting out of its range.
    pub fn build(&self, path: &nn::Path, features: i64, classes: i64) -> Result<Acmil> {
        ensure!(self.branches >= 1, "acmil: branches is {}; it must be at least 1", self.branches);
        let share = self.masked_share;
        ensure!((0.0..1.0).contains(&share), "acmil: masked-share is {share}; it must be 0 or more and less than 1");
        ensure!(self.masked_tiles >= 0, "acmil: masked-tiles is {}; it must be 0 or more", self.masked_tiles);
        let (branch, bag, head) = (path / "branch", path / "bag", path / "branch-head");
        let pooling = match self.attention {
            AcmilAttention::Gated => {
                Pooling::Gated(GatedAttention::new(&(path / "attention"), self.width, self.attention_width, self.branches, true, 0.0))
            }
            AcmilAttention::MultiHead => {
                check_heads(self.width, self.heads)?;
                let branches = (0..self.branches).map(|k| &branch / k);
                Pooling::MultiHead {
                    queries: queries(path, self.branches, self.width),
                    branches: branches
                        .map(|path| (HeadScores::new(&path, self.width, self.heads), HeadReadout::new(&path, self.width, self.heads)))
                        .collect(),
                    bag: HeadReadout::new(&bag, self.width, self.heads),
                }
            }
        };
        Ok(Acmil {
            embed: Linear::new(&(path / "embed"), features, self.width, false),
            pooling,
            heads: (0..self.branches).map(|k| Linear::new(&(&head / k), self.width, classes, true)).collect(),
            settings: self.clone(),
        })
    }
}

/// ACMIL.
pub struct Acmil {
    embed: Linear,
    pooling: Pooling,
    /// Classifier of each branch.
    heads: Vec<Linear>,
    settings: AcmilSettings,
}

enum Pooling {
    Gated(GatedAttention),
    MultiHead { queries: Tensor, branches: Vec<(HeadScores, HeadReadout)>, bag: HeadReadout },
}

/// What the branches make of a batch.
struct Read {
    /// `[B,H,K,N]`; H = 1 for gated attention.
    scores: Tensor,
    /// Its soft-max.
    attention: Tensor,
    /// `[B,K,E]`
    tokens: Tensor,
    /// `[B,E]`
    embedding: Tensor,
}

impl Acmil {
    fn read(&self, bags: &Tensor, mask: &Tensor, train: bool) -> Read {
        let hidden = self.embed.forward(bags).relu(); // [B,N,E]
        let scores = match &self.pooling {
            Pooling::Gated(attention) => attention.scores(&hidden, train).unsqueeze(1),
            Pooling::MultiHead { queries, branches, .. } => {
                let of = |k: usize| branches[k].0.scores(&queries.get(k as i64), &hidden);
                Tensor::stack(&(0..branches.len()).map(of).collect::<Vec<_>>(), 2)
            }
        };
        let scores = scores.masked_fill(&mask.logical_not().unsqueeze(1).unsqueeze(1), f64::NEG_INFINITY);
        let scores = if train { self.mask_strongest(&scores, mask) } else { scores };
        let attention = scores.softmax(-1, None::<Kind>);
        let mean = attention.mean_dim(2, false, None::<Kind>); // [B,H,N]
        let (tokens, embedding) = match &self.pooling {
            Pooling::Gated(_) => (attention.squeeze_dim(1).matmul(&hidden), mean.matmul(&hidden).squeeze_dim(1)),
            Pooling::MultiHead { branches, bag, .. } => {
                let of = |(k, branch): (usize, &(HeadScores, HeadReadout))| branch.1.read(&attention.select(2, k as i64), &hidden, train);
                let tokens: Vec<Tensor> = branches.iter().enumerate().map(of).collect();
                (Tensor::stack(&tokens, 1), bag.read(&mean, &hidden, train))
            }
        };
        Read { scores, attention, tokens, embedding }
    }

    /// Stochastic top-K masking of `[B,H,K,N]`: of each row's strongest tiles a random share gets the score −∞.
    fn mask_strongest(&self, scores: &Tensor, mask: &Tensor) -> Tensor {
        let (heads, branches) = (scores.size()[1], scores.size()[2]);
        let counts = mask.sum_dim_intlist(1, false, Kind::Int64);
        let rows = (0..scores.size()[0]).map(|bag| {
            let scores = scores.get(bag);
            let strongest = self.settings.masked_tiles.min(counts.int64_value(&[bag]));
            let masked = (strongest as f64 * self.settings.masked_share) as i64;
            if masked == 0 {
                return scores;
            }
            let (_, tiles) = scores.topk(strongest, -1, true, true);
            let drawn = Tensor::rand([heads, branches, strongest], (Kind::Float, scores.device())).topk(masked, -1, true, false).1;
            scores.scatter_value(-1, &tiles.gather(-1, &drawn, false), f64::NEG_INFINITY)
        });
        Tensor::stack(&rows.collect::<Vec<_>>(), 0)
    }

    /// Logits of the branch classifiers `[B,K,C]`, in evaluation mode.
    pub fn branch_logits(&self, bags: &Tensor, mask: &Tensor) -> Tensor {
        self.classify(&self.read(bags, mask, false).tokens)
    }

    fn classify(&self, tokens: &Tensor) -> Tensor {
        let of = |(k, head): (usize, &Linear)| head.forward(&tokens.select(1, k as i64));
        Tensor::stack(&self.heads.iter().enumerate().map(of).collect::<Vec<_>>(), 1)
    }
}

/// Mean cosine of all pairs of branches, per head and bag: `[B,H,K,N]` → scalar; `None` for one branch.
fn similarity(attention: &Tensor) -> Option<Tensor> {
    let branches = attention.size()[2];
    let pairs = (0..branches).flat_map(|a| (a + 1..branches).map(move |b| (a, b)));
    let cosines: Vec<Tensor> =
        pairs.map(|(a, b)| Tensor::cosine_similarity(&attention.select(2, a), &attention.select(2, b), -1, COSINE_EPSILON)).collect();
    (!cosines.is_empty()).then(|| Tensor::stack(&cosines, 0).mean(None::<Kind>))
}

impl Aggregator for Acmil {
    fn pool_filled(&self, bags: &Tensor, mask: &Tensor, train: bool, targets: Option<&Tensor>) -> Pooled {
        let read = self.read(bags, mask, train);
        let mut terms = Vec::new();
        if let Some(targets) = targets {
            if let Some(similarity) = similarity(&read.attention) {
                terms.push(("diversity", similarity * self.settings.diversity_weight));
            }
            terms.push(("branches", branch_cross_entropy(&self.classify(&read.tokens), targets) * self.settings.branch_weight));
        }
        Pooled { embedding: read.embedding, attention: Some(read.attention.flatten(1, 2)), scores: Some(read.scores.flatten(1, 2)), terms }
    }

    fn width(&self) -> i64 {
        self.settings.width
    }
}

/// Names of the released models with gated and with multi-head attention.
pub const RELEASED: [ReleasedNames; 2] = [
    ReleasedNames {
        source: "dazhangyu123/ACMIL ACMIL_GA",
        pairs: &[
            ("dimreduction.fc1", "embed"),
            ("attention.attention_V.0", "attention.tanh"),
            ("attention.attention_U.0", "attention.gate"),
            ("attention.attention_weights", "attention.score"),
            ("classifier.{k}.fc", "branch-head.{k}"),
            ("Slide_classifier.fc", "head"),
        ],
        unused: &[],
    },
    ReleasedNames {
        source: "dazhangyu123/ACMIL ACMIL_MHA",
        pairs: &[
            ("q", "queries"),
            ("dimreduction.fc1", "embed"),
            ("sub_attention.{k}.q_proj", "branch.{k}.query"),
            ("sub_attention.{k}.k_proj", "branch.{k}.key"),
            ("sub_attention.{k}.v_proj", "branch.{k}.value"),
            ("sub_attention.{k}.out_proj", "branch.{k}.out"),
            ("sub_attention.{k}.layer_norm", "branch.{k}.norm"),
            ("bag_attention.v_proj", "bag.value"),
            ("bag_attention.out_proj", "bag.out"),
            ("bag_attention.layer_norm", "bag.norm"),
            ("classifier.{k}.fc", "branch-head.{k}"),
            ("Slide_classifier.fc", "head"),
        ],
        unused: &[],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, nn::VarStore};

    #[test]
    fn a_share_of_the_strongest_tiles_is_masked_and_padding_stays_out() {
        tch::manual_seed(3);
        let store = VarStore::new(Device::Cpu);
        let settings = AcmilSettings { branches: 2, masked_tiles: 5, masked_share: 0.6, ..Default::default() };
        let model = settings.build(&store.root(), 4, 2).expect("ACMIL");
        let mask = Tensor::from_slice(&[true, true, true, true, true, true, true, true, true, false, false, false]).view([2, 6]);
        let scores = Tensor::arange(24, (Kind::Float, Device::Cpu)).view([2, 1, 2, 6]);
        let scores = scores.masked_fill(&mask.logical_not().unsqueeze(1).unsqueeze(1), f64::NEG_INFINITY);
        let masked = model.mask_strongest(&scores, &mask).isneginf().sum_dim_intlist(-1, false, Kind::Int64);
        // Six tiles: 3 of the strongest 5. Three tiles and three of padding: 1 of 3.
        assert_eq!(Vec::<i64>::try_from(masked.flatten(0, -1)).expect("counts"), [3, 3, 4, 4]);
        let weakest = model.mask_strongest(&scores, &mask).get(0).select(-1, 0).isneginf();
        assert_eq!(weakest.any().int64_value(&[]), 0);
    }
}
