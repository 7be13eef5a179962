//! DSMIL: the tile with the highest score of each class, and an attention on how similar every tile is to it.
//! Source: Li et al. 2021 and its code; `cross-entropy` and the linear query are ACMIL's version.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Reduction, Tensor, nn};

use super::branches::Branches;
use super::entropy::negative_entropy;
use super::likelihood::cross_entropy;
use super::released::ReleasedNames;
use super::{Aggregator, Pooled, attend};
use crate::ground::linear::Linear;

/// Settings of DSMIL; the defaults are the original's network with ACMIL's likelihood.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DsmilSettings {
    /// Width of the queries that are compared.
    pub query_width: i64,
    /// Whether a query is Linear–ReLU–Linear–tanh, as in the original, or one linear layer.
    pub nonlinear: bool,
    /// What the instance scores minimise.
    pub likelihood: Likelihood,
    /// Weight of the loss on the highest instance scores, which trains what selects the critical tiles; the objective gets
    /// 1 − this.
    pub instance_weight: f64,
    /// λ: weight of the attention's negative entropy, mean over classes; 0 for none.
    pub entropy_weight: f64,
    /// How the embeddings of the classes become one.
    ///
    /// METHOD: the mean keeps E = D; with `flatten` a linear head is exactly the original's convolution over classes.
    pub branches: Branches,
}

/// What the instance scores minimise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Likelihood {
    /// Cross-entropy over classes.
    CrossEntropy,
    /// Binary cross-entropy of each class, as in the original.
    Binary,
}

impl Likelihood {
    /// `logits [B,C]`, `targets [B]` → scalar mean.
    pub fn of(self, logits: &Tensor, targets: &Tensor) -> Tensor {
        match self {
            Self::CrossEntropy => cross_entropy(logits, targets),
            Self::Binary => {
                let own = targets.one_hot(logits.size()[1]).to_kind(logits.kind());
                logits.binary_cross_entropy_with_logits(&own, None::<Tensor>, None::<Tensor>, Reduction::Mean)
            }
        }
    }
}

impl Default for DsmilSettings {
    fn default() -> Self {
        Self {
            query_width: 128,
            nonlinear: true,
            likelihood: Likelihood::CrossEntropy,
            instance_weight: 0.5,
            entropy_weight: 0.0,
            branches: Branches::Mean,
        }
    }
}

impl DsmilSettings {
    /// Builds DSMIL for features of width `features` (D) and `classes` (C).
    ///
    /// # Errors
    /// A weight out of its range.
    pub fn build(&self, path: &nn::Path, features: i64, classes: i64) -> Result<Dsmil> {
        let weight = self.instance_weight;
        ensure!((0.0..=1.0).contains(&weight), "dsmil: instance-weight is {weight}; it must lie in 0 to 1");
        let weight = self.entropy_weight;
        ensure!(weight >= 0.0 && weight.is_finite(), "dsmil: entropy-weight is {weight}; it must be 0 or more");
        let query = path / "query";
        let mut layers = vec![Linear::new(&(&query / 0), features, self.query_width, true)];
        if self.nonlinear {
            layers.push(Linear::new(&(&query / 1), self.query_width, self.query_width, true));
        }
        Ok(Dsmil {
            instance: Linear::new(&(path / "instance"), features, classes, true),
            query: layers,
            width: self.branches.width(classes, features),
            settings: self.clone(),
        })
    }
}

/// DSMIL.
pub struct Dsmil {
    instance: Linear,
    query: Vec<Linear>,
    width: i64,
    settings: DsmilSettings,
}

/// The instance stream.
pub struct Selection {
    /// `[B,N,C]`, −∞ on padding.
    pub logits: Tensor,
    /// Highest of each class, `[B,C]`.
    pub highest: Tensor,
    /// Its tile, `[B,C]`.
    pub critical: Tensor,
}

impl Dsmil {
    /// The instance stream of `bags [B,N,D]`.
    pub fn select(&self, bags: &Tensor, mask: &Tensor) -> Selection {
        let logits = self.instance.forward(bags).masked_fill(&mask.logical_not().unsqueeze(-1), f64::NEG_INFINITY);
        let (highest, critical) = logits.max_dim(1, false);
        Selection { logits, highest, critical }
    }

    /// `[..,D]` → `[..,Q]`
    fn queries(&self, tiles: &Tensor) -> Tensor {
        let first = self.query[0].forward(tiles);
        self.query.get(1).map_or_else(|| first.shallow_clone(), |second| second.forward(&first.relu()).tanh())
    }
}

impl Aggregator for Dsmil {
    fn pool_filled(&self, bags: &Tensor, mask: &Tensor, _train: bool, targets: Option<&Tensor>) -> Pooled {
        let selection = self.select(bags, mask);
        let queries = self.queries(bags); // [B,N,Q]
        let at = selection.critical.unsqueeze(-1).expand([-1, -1, queries.size()[2]], false);
        let critical = queries.gather(1, &at, false); // [B,C,Q]
        let scores = critical.matmul(&queries.transpose(1, 2)) / (queries.size()[2] as f64).sqrt();
        let (attention, scores) = attend(scores, mask); // [B,C,N]
        let mut terms = Vec::new();
        if let Some(targets) = targets {
            let loss = self.settings.likelihood.of(&selection.highest, targets);
            terms.push(("critical-instance", loss * self.settings.instance_weight));
            if self.settings.entropy_weight > 0.0 {
                terms.push(("negative-entropy", negative_entropy(&scores, mask) * self.settings.entropy_weight));
            }
        }
        let embedding = self.settings.branches.join(&attention.matmul(bags));
        Pooled { embedding, attention: Some(attention), scores: Some(scores), terms }
    }

    fn width(&self) -> i64 {
        self.width
    }

    fn objective_weight(&self) -> f64 {
        1.0 - self.settings.instance_weight
    }
}

/// Names of the released implementations. The bag classifier's `[C,C,D]` convolution is the head `[C,C·D]` of `flatten`.
pub const RELEASED: ReleasedNames = ReleasedNames {
    source: "binli123/dsmil-wsi MILNet, dazhangyu123/ACMIL DSMIL",
    pairs: &[
        ("i_classifier.fc.0", "instance"),
        ("b_classifier.q", "query.0"),
        ("b_classifier.q.0", "query.0"),
        ("b_classifier.q.2", "query.1"),
        ("b_classifier.fcc", "head"),
    ],
    unused: &[],
};

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, nn::VarStore, no_grad};

    fn close(a: &Tensor, b: &[f64]) {
        let a = Vec::<f64>::try_from(a.flatten(0, -1)).expect("values");
        assert!(a.len() == b.len() && a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-8), "{a:?} is not {b:?}");
    }

    #[test]
    fn golden_critical_tiles_and_their_attention() {
        let mut store = VarStore::new(Device::Cpu);
        store.set_kind(Kind::Double);
        let settings = DsmilSettings { query_width: 2, nonlinear: false, branches: Branches::Flatten, ..Default::default() };
        let model = settings.build(&store.root(), 2, 2).expect("DSMIL");
        for (layer, weight) in [(&model.instance, [1.0, 0.0, -0.5, 2.0]), (&model.query[0], [1.0, 0.0, 0.0, 1.0])] {
            no_grad(|| {
                layer.weight.shallow_clone().copy_(&Tensor::from_slice(&weight).view([2, 2]));
                let _ = layer.bias.as_ref().expect("bias").shallow_clone().zero_();
            });
        }
        let bag = Tensor::from_slice(&[2.0f64, 0.0, 0.0, 1.0, 1.0, 1.0]).view([1, 3, 2]);
        let all = Tensor::ones([1, 3], (Kind::Bool, Device::Cpu));
        let selection = model.select(&bag, &all);
        assert_eq!(Vec::<i64>::try_from(selection.critical.flatten(0, -1)).expect("tiles"), [0, 1]);
        close(&selection.highest, &[2.0, 2.0]);
        let pooled = model.pool(&bag, &all, false, Some(&Tensor::from_slice(&[1i64])));
        close(
            &pooled.attention.expect("attention").transpose(1, 2),
            &[0.76791794, 0.19777581, 0.04538836, 0.40111209, 0.1866937, 0.40111209],
        );
        close(&pooled.embedding, &[1.72252957, 0.23208206, 0.79666372, 0.80222419]);
        let bag_logits = Tensor::from_slice(&[1.72252957f64, 1.02874579]).view([1, 2]);
        let loss = cross_entropy(&bag_logits, &Tensor::from_slice(&[1i64])) * model.objective_weight() + &pooled.terms[0].1;
        close(&loss, &[0.8960919594]);
    }
}
