//! CLAM: gated attention with one branch (SB) or one a class (MB), and a loss on the tiles with the most and least attention.
//! Source: Lu et al. 2021 and its code.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn};

use super::branches::Branches;
use super::gated::GatedAttention;
use super::likelihood::cross_entropy;
use super::released::ReleasedNames;
use super::{Aggregator, Pooled, attend, ragged};
use crate::ground::linear::Linear;

/// Settings of CLAM; the defaults are the original's `small` model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ClamSettings {
    /// Width of the first layer and of a branch.
    pub width: i64,
    /// Width of the attention's hidden layer.
    pub attention_width: i64,
    /// Gated or plain attention.
    pub gated: bool,
    /// Share of units dropped while training, after the first layer and in the attention.
    pub dropout: f64,
    /// k: tiles with the most, and with the least, attention that the instance loss takes; of a smaller bag all.
    pub instances: i64,
    /// Whether classes exclude each other, so that the strongest tiles of every other class's branch are negatives.
    pub subtyping: bool,
    /// What the instance classifiers minimise.
    pub instance_loss: InstanceLoss,
    /// Weight of the instance loss; the objective gets 1 − this.
    pub instance_weight: f64,
    /// How the branches of the multi-branch model become one embedding.
    pub branches: Branches,
}

/// What the instance classifiers minimise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceLoss {
    /// Cross-entropy.
    CrossEntropy,
    /// Smooth top-1 SVM with τ = α = 1: ln Σ_j exp(z_j + [j ≠ y]) − z_y. Source: Berrada et al. 2018.
    SmoothSvm,
}

impl Default for ClamSettings {
    fn default() -> Self {
        Self {
            width: 512,
            attention_width: 256,
            gated: true,
            dropout: 0.25,
            instances: 8,
            subtyping: true,
            instance_loss: InstanceLoss::CrossEntropy,
            instance_weight: 0.3,
            branches: Branches::Flatten,
        }
    }
}

impl ClamSettings {
    /// Builds CLAM-SB for features of width `features` (D) and `classes` (C).
    ///
    /// # Errors
    /// No instances; a weight outside `[0,1]`.
    pub fn build_single(&self, path: &nn::Path, features: i64, classes: i64) -> Result<Clam> {
        self.build(path, features, classes, 1)
    }

    /// Builds CLAM-MB.
    ///
    /// # Errors
    /// No instances; a weight outside `[0,1]`.
    pub fn build_multi(&self, path: &nn::Path, features: i64, classes: i64) -> Result<Clam> {
        self.build(path, features, classes, classes)
    }

    fn build(&self, path: &nn::Path, features: i64, classes: i64, branches: i64) -> Result<Clam> {
        ensure!(self.instances >= 1, "clam: instances is {}; it must be at least 1", self.instances);
        let weight = self.instance_weight;
        ensure!((0.0..=1.0).contains(&weight), "clam: instance-weight is {weight}; it must lie in 0 to 1");
        let instance = path / "instance";
        Ok(Clam {
            embed: Linear::new(&(path / "embed"), features, self.width, true),
            attention: GatedAttention::new(&(path / "attention"), self.width, self.attention_width, branches, self.gated, self.dropout),
            instance: (0..classes).map(|class| Linear::new(&(&instance / class), self.width, 2, true)).collect(),
            branches,
            settings: self.clone(),
        })
    }
}

/// CLAM with one branch or one a class.
pub struct Clam {
    embed: Linear,
    attention: GatedAttention,
    /// Of each class: negative, positive.
    instance: Vec<Linear>,
    branches: i64,
    settings: ClamSettings,
}

/// The tiles of one bag that the instance loss reads, in the order of the classes.
pub struct Instances {
    /// Mean loss, without its weight.
    pub loss: Tensor,
    /// 1 or 0 for each tile.
    pub labels: Tensor,
    /// What the instance classifiers say.
    pub predictions: Tensor,
}

impl Clam {
    fn hidden(&self, bags: &Tensor, train: bool) -> Tensor {
        self.embed.forward(bags).relu().dropout(self.settings.dropout, train)
    }

    /// The instance loss of one bag `[N,D]` of class `class`, in evaluation mode.
    pub fn instances_of(&self, tiles: &Tensor, class: usize) -> Instances {
        let hidden = self.hidden(tiles, false);
        self.instances(&hidden, &self.attention.scores(&hidden, false), class)
    }

    /// Tiles with the most and the least attention, `[K,k]` each, for scores `[K,N]`.
    pub fn extremes(&self, scores: &Tensor) -> (Tensor, Tensor) {
        let count = self.settings.instances.min(scores.size()[1]);
        (scores.topk(count, -1, true, true).1, scores.topk(count, -1, false, true).1)
    }

    /// `hidden [n,W]`, `scores [K,n]` of one bag.
    ///
    /// METHOD: a bag smaller than k gives all its tiles, as positives and as negatives; the original fails on it.
    fn instances(&self, hidden: &Tensor, scores: &Tensor, class: usize) -> Instances {
        let (top, bottom) = self.extremes(scores);
        let (mut losses, mut labels, mut predictions) = (Vec::new(), Vec::new(), Vec::new());
        for (other, classifier) in self.instance.iter().enumerate() {
            if other != class && !self.settings.subtyping {
                continue;
            }
            let branch = if self.branches == 1 { 0 } else { other as i64 };
            let top = top.get(branch);
            let (tiles, label) = if other == class {
                let label = Tensor::cat(&[top.ones_like(), top.zeros_like()], 0);
                (Tensor::cat(&[top, bottom.get(branch)], 0), label)
            } else {
                let label = top.zeros_like();
                (top, label)
            };
            let logits = classifier.forward(&hidden.index_select(0, &tiles));
            losses.push(self.settings.instance_loss.of(&logits, &label));
            predictions.push(logits.argmax(-1, false));
            labels.push(label);
        }
        // Without subtyping there is one loss, and no division by C.
        Instances {
            loss: Tensor::stack(&losses, 0).mean(None::<Kind>),
            labels: Tensor::cat(&labels, 0),
            predictions: Tensor::cat(&predictions, 0),
        }
    }
}

impl InstanceLoss {
    /// `logits [n,2]`, `labels [n]` → scalar mean.
    fn of(self, logits: &Tensor, labels: &Tensor) -> Tensor {
        match self {
            Self::CrossEntropy => cross_entropy(logits, labels),
            Self::SmoothSvm => {
                let own = labels.one_hot(2).to_kind(logits.kind());
                let margin: Tensor = 1.0 - &own;
                let best = (logits + margin).logsumexp(-1, false);
                (best - (logits * own).sum_dim_intlist(-1, false, None::<Kind>)).mean(None::<Kind>)
            }
        }
    }
}

impl Aggregator for Clam {
    fn pool_filled(&self, bags: &Tensor, mask: &Tensor, train: bool, targets: Option<&Tensor>) -> Pooled {
        let hidden = self.hidden(bags, train); // [B,N,W]
        let (attention, scores) = attend(self.attention.scores(&hidden, train), mask); // [B,K,N]
        let branches = attention.matmul(&hidden); // [B,K,W]
        let terms = targets.map(|targets| {
            let bags = ragged::split(&hidden, mask);
            let rows = ragged::split(&scores.transpose(1, 2), mask);
            let losses: Vec<Tensor> = (0..targets.size()[0])
                .zip(bags.iter().zip(&rows))
                .map(|(bag, (hidden, scores))| self.instances(hidden, &scores.transpose(0, 1), targets.int64_value(&[bag]) as usize).loss)
                .collect();
            ("instance", Tensor::stack(&losses, 0).mean(None::<Kind>) * self.settings.instance_weight)
        });
        Pooled {
            embedding: self.settings.branches.join(&branches),
            attention: Some(attention),
            scores: Some(scores),
            terms: terms.into_iter().collect(),
        }
    }

    fn width(&self) -> i64 {
        self.settings.branches.width(self.branches, self.settings.width)
    }

    fn objective_weight(&self) -> f64 {
        1.0 - self.settings.instance_weight
    }
}

/// Names of the released implementation; the multi-branch one has `classifiers.{k}`.
pub const RELEASED: ReleasedNames = ReleasedNames {
    source: "mahmoodlab/CLAM CLAM_SB and CLAM_MB",
    pairs: &[
        ("attention_net.0", "embed"),
        ("attention_net.3.attention_a.0", "attention.tanh"),
        ("attention_net.3.attention_b.0", "attention.gate"),
        ("attention_net.3.attention_c", "attention.score"),
        ("attention_net.3.module.0", "attention.tanh"),
        ("attention_net.3.module.3", "attention.score"),
        ("classifiers", "head"),
        ("classifiers.{k}", "head.{k}"),
        ("instance_classifiers.{k}", "instance.{k}"),
    ],
    unused: &[],
};

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, nn::VarStore, no_grad};

    #[test]
    fn golden_instance_loss() {
        let mut store = VarStore::new(Device::Cpu);
        store.set_kind(Kind::Double);
        let settings = ClamSettings { width: 2, attention_width: 2, instances: 1, ..Default::default() };
        let model = settings.build_single(&store.root(), 2, 3).expect("CLAM");
        for (classifier, weight) in model.instance.iter().zip([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]]) {
            no_grad(|| {
                classifier.weight.shallow_clone().copy_(&Tensor::from_slice(&weight).view([2, 2]));
                let _ = classifier.bias.as_ref().expect("bias").shallow_clone().zero_();
            });
        }
        let hidden = Tensor::from_slice(&[1.0f64, 0.0, 0.0, 1.0, 1.0, 1.0, -1.0, 0.0]).view([4, 2]);
        let scores = Tensor::from_slice(&[0.1f64, 2.0, -1.0, 0.5]).view([1, 4]);
        let loss = model.instances(&hidden, &scores, 1).loss.double_value(&[]);
        assert!((loss - 0.8765759364).abs() < 1e-9, "{loss}");
    }
}
