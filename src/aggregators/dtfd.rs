//! DTFD-MIL: a bag's tiles fall into groups at random; a first tier pools each group, a second tier pools what the groups distil.
//! Source: Zhang et al. 2022 (DTFD-MIL) and its code.

use anyhow::{Result, ensure};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, nn};

use super::gated::GatedAttention;
use super::likelihood::cross_entropy;
use super::released::ReleasedNames;
use super::{Aggregator, Pooled, ragged};
use crate::ground::linear::Linear;
use crate::ground::seed;

/// Settings of DTFD-MIL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DtfdSettings {
    /// E: width of the first layer and of what the groups distil.
    pub width: i64,
    /// Width of both attentions' hidden layers.
    pub attention_width: i64,
    /// Groups; a bag with fewer tiles has as many groups as tiles.
    pub groups: i64,
    /// What a group hands on.
    pub distillation: Distilled,
    /// Tiles that all groups hand on together; each at least one of each kind.
    pub instances: i64,
    /// Weight of the first tier's cross-entropy.
    pub first_tier_weight: f64,
    /// Whether the second tier's gradient stops before the first tier.
    ///
    /// METHOD: the released code discards that gradient, so this is on; off, the two tiers are trained through.
    pub separate_tiers: bool,
}

/// What a group hands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distilled {
    /// Its embedding.
    Afs,
    /// The tiles with the highest class-activation probability of the last class.
    MaxS,
    /// Those and the ones with the lowest.
    MaxMinS,
}

impl Default for DtfdSettings {
    fn default() -> Self {
        Self {
            width: 512,
            attention_width: 128,
            groups: 4,
            distillation: Distilled::Afs,
            instances: 4,
            first_tier_weight: 1.0,
            separate_tiers: true,
        }
    }
}

impl DtfdSettings {
    /// Builds DTFD-MIL for features of width `features` (D) and `classes` (C).
    ///
    /// # Errors
    /// No groups or instances; a weight that is no weight.
    pub fn build(&self, path: &nn::Path, features: i64, classes: i64) -> Result<Dtfd> {
        ensure!(self.groups >= 1, "dtfd: groups is {}; it must be at least 1", self.groups);
        ensure!(self.instances >= 1, "dtfd: instances is {}; it must be at least 1", self.instances);
        let weight = self.first_tier_weight;
        ensure!(weight >= 0.0 && weight.is_finite(), "dtfd: first-tier-weight is {weight}; it must be 0 or more");
        let attention = |name: &str| GatedAttention::new(&(path / name), self.width, self.attention_width, 1, true, 0.0);
        Ok(Dtfd {
            embed: Linear::new(&(path / "embed"), features, self.width, false),
            first: attention("first"),
            classifier: Linear::new(&(path / "classifier"), self.width, classes, true),
            second: attention("second"),
            settings: self.clone(),
        })
    }
}

/// DTFD-MIL.
pub struct Dtfd {
    embed: Linear,
    first: GatedAttention,
    classifier: Linear,
    second: GatedAttention,
    settings: DtfdSettings,
}

/// What DTFD-MIL makes of one bag.
pub struct Tiers {
    /// First-tier scores before the soft-max, `[N]`, in the order of the tiles.
    pub scores: Tensor,
    /// Of each group, `[G,C]`.
    pub logits: Tensor,
    /// What the second tier pools, `[M,E]`.
    pub distilled: Tensor,
    /// `[E]`
    pub embedding: Tensor,
    /// Weight of each tile in the embedding, `[N]`, sums to 1.
    pub attention: Tensor,
}

/// What one group hands on.
struct Handed {
    /// `[m,E]`
    features: Tensor,
    /// How each row of `features` divides over the bag's tiles: positions and weights, `[m,t]` each.
    tiles: Tensor,
    weights: Tensor,
}

impl Dtfd {
    /// One bag `[N,D]` whose tiles are taken in `order [N]` and cut into groups, the first ones a tile longer.
    pub fn tiers(&self, tiles: &Tensor, order: &Tensor) -> Tiers {
        let hidden = self.embed.forward(tiles).relu(); // [N,E]
        let scores = self.first.scores(&hidden, false).squeeze_dim(0); // [N]
        let count = hidden.size()[0];
        let groups = self.settings.groups.min(count);
        let (mut start, mut logits, mut handed) = (0, Vec::new(), Vec::new());
        for group in 0..groups {
            let length = count / groups + i64::from(group < count % groups);
            let members = order.narrow(0, start, length);
            start += length;
            let (own, attention) = (hidden.index_select(0, &members), scores.index_select(0, &members).softmax(-1, None::<Kind>));
            let embedding = attention.unsqueeze(0).matmul(&own); // [1,E]
            logits.push(self.classifier.forward(&embedding));
            handed.push(self.distil(&members, &own, &attention, embedding));
        }
        let joined = Tensor::cat(&handed.iter().map(|group| &group.features).collect::<Vec<_>>(), 0);
        let distilled = if self.settings.separate_tiers { joined.detach() } else { joined };
        let weights = self.second.scores(&distilled, false).softmax(-1, None::<Kind>); // [1,M]
        Tiers {
            scores,
            logits: Tensor::cat(&logits, 0),
            embedding: weights.matmul(&distilled).squeeze_dim(0),
            attention: over_tiles(&weights.squeeze_dim(0), &handed, count),
            distilled,
        }
    }

    /// What a group of tiles hands on: positions `members [n]`, `own [n,E]`, `attention [n]`, `embedding [1,E]`.
    fn distil(&self, members: &Tensor, own: &Tensor, attention: &Tensor, embedding: Tensor) -> Handed {
        if self.settings.distillation == Distilled::Afs {
            return Handed { features: embedding, tiles: members.unsqueeze(0), weights: attention.unsqueeze(0) };
        }
        let order = self.by_last_class(own, attention);
        let each = (self.settings.instances / self.settings.groups).max(1).min(order.size()[0]);
        let best = order.narrow(0, 0, each);
        let chosen = match self.settings.distillation {
            Distilled::MaxMinS => Tensor::cat(&[best, order.narrow(0, order.size()[0] - each, each)], 0),
            _ => best,
        };
        let tiles = members.index_select(0, &chosen).unsqueeze(1);
        Handed { features: own.index_select(0, &chosen), weights: attention.ones_like().narrow(0, 0, 1).expand_as(&tiles), tiles }
    }

    /// Tiles of a group by the class-activation probability of the last class, highest first.
    ///
    /// METHOD: the classifier's bias is left out and only the last class counts, as released.
    fn by_last_class(&self, own: &Tensor, attention: &Tensor) -> Tensor {
        let activation = (own * attention.unsqueeze(1)).matmul(&self.classifier.weight.transpose(0, 1)); // [n,C]
        activation.softmax(-1, None::<Kind>).select(1, -1).argsort(-1, true)
    }

    /// METHOD: evaluation groups the tiles by a fixed shuffle of their number, so that a bag has one embedding.
    fn order(&self, count: i64, train: bool, device: Device) -> Tensor {
        if train {
            return Tensor::randperm(count, (Kind::Int64, device));
        }
        let mut order: Vec<i64> = (0..count).collect();
        order.shuffle(&mut seed::stream(0, "dtfd/groups"));
        Tensor::from_slice(&order).to_device(device)
    }
}

/// Second-tier weights `[M]` spread over the tiles that each row stands for: `[N]`, without gradient.
fn over_tiles(weights: &Tensor, handed: &[Handed], count: i64) -> Tensor {
    let weights = weights.detach();
    let mut start = 0;
    let mut sum = weights.new_zeros([count], (weights.kind(), weights.device()));
    for group in handed {
        let rows = group.tiles.size()[0];
        let share = weights.narrow(0, start, rows).unsqueeze(1) * group.weights.detach();
        sum = sum.index_add(0, &group.tiles.flatten(0, -1), &share.flatten(0, -1));
        start += rows;
    }
    sum
}

impl Aggregator for Dtfd {
    fn pool_filled(&self, bags: &Tensor, mask: &Tensor, train: bool, targets: Option<&Tensor>) -> Pooled {
        let bags = ragged::split(bags, mask);
        let tiers: Vec<Tiers> = bags.iter().map(|tiles| self.tiers(tiles, &self.order(tiles.size()[0], train, tiles.device()))).collect();
        let terms = targets.map(|targets| {
            let of = |(bag, tiers): (i64, &Tiers)| {
                let target = targets.narrow(0, bag, 1).expand([tiers.logits.size()[0]], false);
                cross_entropy(&tiers.logits, &target)
            };
            let losses: Vec<Tensor> = (0..).zip(&tiers).map(of).collect();
            ("first-tier", Tensor::stack(&losses, 0).mean(None::<Kind>) * self.settings.first_tier_weight)
        });
        let attention: Vec<Tensor> = tiers.iter().map(|tiers| tiers.attention.unsqueeze(0)).collect();
        let embeddings: Vec<&Tensor> = tiers.iter().map(|tiers| &tiers.embedding).collect();
        Pooled {
            embedding: Tensor::stack(&embeddings, 0),
            attention: Some(ragged::join(&attention, mask)),
            scores: None,
            terms: terms.into_iter().collect(),
        }
    }

    fn width(&self) -> i64 {
        self.settings.width
    }
}

/// Names of the released model; the checkpoint's four dictionaries are the prefixes.
pub const RELEASED: ReleasedNames = ReleasedNames {
    source: "hrzhang1123/DTFD-MIL",
    pairs: &[
        ("dim_reduction.fc1", "embed"),
        ("attention.attention_V.0", "first.tanh"),
        ("attention.attention_U.0", "first.gate"),
        ("attention.attention_weights", "first.score"),
        ("classifier.fc", "classifier"),
        ("att_classifier.attention.attention_V.0", "second.tanh"),
        ("att_classifier.attention.attention_U.0", "second.gate"),
        ("att_classifier.attention.attention_weights", "second.score"),
        ("att_classifier.classifier.fc", "head"),
    ],
    unused: &[],
};

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{nn::VarStore, no_grad};

    #[test]
    fn golden_order_of_a_group() {
        let mut store = VarStore::new(Device::Cpu);
        store.set_kind(Kind::Double);
        let model = DtfdSettings { width: 2, attention_width: 2, ..Default::default() }.build(&store.root(), 2, 2).expect("DTFD");
        no_grad(|| model.classifier.weight.shallow_clone().copy_(&Tensor::from_slice(&[1.0f64, 0.0, 0.0, 2.0]).view([2, 2])));
        let own = Tensor::from_slice(&[1.0f64, 0.0, 0.0, 1.0, 1.0, 1.0]).view([3, 2]);
        let attention = Tensor::from_slice(&[1.0f64, 0.0, 2.0]).softmax(-1, None::<Kind>);
        assert_eq!(Vec::<i64>::try_from(model.by_last_class(&own, &attention)).expect("tiles"), [2, 1, 0]);
    }

    #[test]
    fn the_second_tier_trains_the_first_only_where_asked() {
        for separate_tiers in [true, false] {
            let store = VarStore::new(Device::Cpu);
            let model = DtfdSettings { separate_tiers, ..Default::default() }.build(&store.root(), 4, 2).expect("DTFD");
            let bag = Tensor::ones([1, 6, 4], (Kind::Float, Device::Cpu));
            model.pool(&bag, &bag.select(2, 0).gt(0.0), true, None).embedding.square().sum(Kind::Float).backward();
            let embed = store.variables()["embed.weight"].grad();
            assert_eq!(embed.defined(), !separate_tiers);
        }
    }
}
