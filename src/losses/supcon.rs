//! Supervised contrastive loss: two random views of each sample, and every other vector of the same class is a positive.
//!
//! Source: Khosla et al. 2020, eq. 2 (L_out), and its released code. The contrasted vectors come from a projection head that
//! is dropped afterwards: probes and the nearest class mean read the embedding below it. Memory of a step: `[2B,2B]`.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

use super::{Loss, Site, Terms, full_precision};
use crate::ground::batch::Output;

/// Settings of the supervised contrastive loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SupConSettings {
    /// τ: cosines are divided by it.
    pub temperature: f64,
    /// The loss is multiplied by τ over this.
    pub base_temperature: f64,
    /// Coordinates of the contrasted vectors.
    pub head_width: i64,
    /// Which vectors are positives.
    pub positives: Positives,
}

impl Default for SupConSettings {
    fn default() -> Self {
        Self { temperature: 0.1, base_temperature: 0.07, head_width: 128, positives: Positives::Class }
    }
}

/// Which vectors are positives of an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positives {
    /// All others of its class.
    Class,
    /// The other view of the same sample only; labels play no part (Chen et al. 2020).
    Sample,
}

impl SupConSettings {
    pub(super) fn build(&self, site: &Site) -> Result<Box<dyn Loss>> {
        ensure!(self.temperature > 0.0, "train.loss.temperature must be positive, not {}", self.temperature);
        ensure!(self.base_temperature > 0.0, "train.loss.base-temperature must be positive, not {}", self.base_temperature);
        ensure!(self.head_width > 0, "train.loss.head-width must be positive, not {}", self.head_width);
        let buffer = |name: &str, size: &[i64]| site.path.add(name, Tensor::zeros(size, (site.path.kind(), site.path.device())), false);
        Ok(Box::new(SupCon {
            settings: self.clone(),
            means: buffer("class-means", &[site.classes, site.width]),
            counts: buffer("class-counts", &[site.classes]),
        }))
    }
}

/// The loss of vectors `[V·B,W]`, view after view, with `classes [V·B]`: −τ/τ_base · mean over anchors of the mean over
/// positives of log(exp(v·v⁺/τ) / Σ_{others} exp(v·v′/τ)). An anchor without a positive contributes 0.
pub fn contrast(vectors: &Tensor, classes: &Tensor, temperature: f64, base_temperature: f64) -> Tensor {
    let unit = direction(vectors);
    let similarity = unit.matmul(&unit.transpose(0, 1)) / temperature;
    let itself = Tensor::eye(similarity.size()[0], (Kind::Bool, similarity.device()));
    let log_share = &similarity - similarity.masked_fill(&itself, f64::NEG_INFINITY).logsumexp([1i64], true);
    let positives = classes.unsqueeze(0).eq_tensor(&classes.unsqueeze(1)).logical_and(&itself.logical_not());
    let count = positives.to_kind(unit.kind()).sum_dim_intlist(1, false, None::<Kind>);
    // Not a product with the mask: with one sample the excluded entry is −∞ and 0·∞ is no number.
    let sum = log_share.masked_fill(&positives.logical_not(), 0.0).sum_dim_intlist(1, false, None::<Kind>);
    (sum / count.clamp_min(1.0)).mean(None::<Kind>) * (-temperature / base_temperature)
}

struct SupCon {
    settings: SupConSettings,
    /// Mean of the training set's unit embeddings per class `[C,E]`, and class sizes `[C]`.
    means: Tensor,
    counts: Tensor,
}

/// Rows of unit length.
fn direction(vectors: &Tensor) -> Tensor {
    vectors / vectors.norm_scalaropt_dim(2.0, [-1i64], true).clamp_min(1e-12)
}

impl Loss for SupCon {
    fn views(&self) -> usize {
        2
    }

    fn forward(&mut self, output: &Output, targets: &Tensor) -> Terms {
        let vectors = full_precision(output.head.as_ref().expect("a model trained by contrast is built with a projection head"));
        let SupConSettings { temperature, base_temperature, .. } = self.settings;
        let classes = match self.settings.positives {
            Positives::Class => targets.shallow_clone(),
            Positives::Sample => {
                let samples = targets.size()[0] / 2;
                Tensor::arange(samples, (Kind::Int64, targets.device())).repeat([2])
            }
        };
        Terms { total: contrast(&vectors, &classes, temperature, base_temperature), parts: Vec::new() }
    }

    /// METHOD: the method has no output distribution; the soft-max over the coordinates of the unit embedding over τ stands
    /// in, so that CMI and Γ can be drawn beside those of other losses.
    fn log_distribution(&self, output: &Output) -> Tensor {
        (direction(&full_precision(&output.embedding)) / self.settings.temperature).log_softmax(-1, None::<Kind>)
    }

    fn wants_refresh(&self) -> bool {
        true
    }

    fn refresh(&mut self, swept: &Output, targets: &Tensor) {
        no_grad(|| {
            let unit = direction(&full_precision(&swept.embedding));
            let one_hot = targets.one_hot(self.counts.size()[0]).to_kind(unit.kind());
            self.counts.copy_(&one_hot.sum_dim_intlist(0, false, None::<Kind>));
            let sums = one_hot.transpose(0, 1).matmul(&unit);
            self.means.copy_(&(sums / self.counts.clamp_min(1.0).unsqueeze(1)));
        });
    }

    /// Nearest class mean: soft-max over classes of the cosine to the class's mean direction over τ; an absent class never wins.
    fn probabilities(&self, output: &Output) -> Tensor {
        let cosine = direction(&full_precision(&output.embedding)).matmul(&direction(&self.means).transpose(0, 1));
        let absent = self.counts.eq(0.0).unsqueeze(0);
        (cosine / self.settings.temperature).masked_fill(&absent, f64::NEG_INFINITY).softmax(-1, None::<Kind>)
    }
}
