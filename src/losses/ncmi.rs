//! NCMI: a normalised-conditional-mutual-information loss on the embedding, instead of cross-entropy on logits.
//!
//! The embedding, centred and normalised, becomes a distribution over its own E coordinates; it is pulled to its class's
//! centroid distribution (CMI) and pushed from the others (SEP). Source: the NCMI paper, eqs 3–10; the released code where
//! the text is silent. No head: classes are told apart by the nearest centroid, or by a linear probe.
//!
//! Memory of a step: `[B,E]` and `[C,E]` matrices and two `[B,C]` ones; `[B,C,E]` is never built.

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

use super::{Loss, Moment, Site, Terms};
use crate::ground::batch::Output;
use crate::ground::distributions::{OutputMap, class_means, divergence_to_centroids, kl_matrix, nearest_centroid_probabilities};

/// Settings of NCMI; the defaults are the paper's, with the temperature that the released logs favour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct NcmiSettings {
    /// How the embedding becomes a distribution.
    pub output_map: OutputMap,
    /// T: the unit-length embedding is divided by it.
    pub temperature: f64,
    /// Where the running centre starts.
    pub centring: Centring,
    /// ρ: share of the former centre kept at each step.
    pub centre_decay: f64,
    /// How per-sample terms become one number.
    pub reduction: Reduction,
    /// How the centroid distributions Q_c move.
    pub centroids: Centroids,
    /// Learning rate of the centroids' own SGD (mode `alternating`).
    pub centroid_learning_rate: f64,
    /// Momentum of the same.
    pub centroid_momentum: f64,
    /// Share of the epochs after which the centroids start to move.
    pub centroid_start: f64,
    /// Lower bound of SEP, see [`SepFloor`].
    pub sep_floor: SepFloor,
    /// How embeddings are normalised when the evaluation centroids are made.
    pub centroid_length: Length,
}

impl Default for NcmiSettings {
    fn default() -> Self {
        Self {
            output_map: OutputMap::Nsf,
            temperature: 0.2,
            centring: Centring::Sweep,
            centre_decay: 0.999999,
            reduction: Reduction::MeanOfRatios,
            centroids: Centroids::Alternating,
            centroid_learning_rate: 1.0,
            centroid_momentum: 0.9,
            centroid_start: 0.125,
            sep_floor: SepFloor::Auto,
            centroid_length: Length::L2,
        }
    }
}

/// Where the running centre starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Centring {
    /// No centre.
    Off,
    /// The first batch's mean, as released. Useless with one sample a step: its centred embedding is exactly 0.
    FirstBatch,
    /// Mean over training samples under the initial model, before the first step.
    Sweep,
}

/// How per-sample CMI_b and SEP_b become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduction {
    /// mean_b (CMI_b / SEP_b), the released code.
    MeanOfRatios,
    /// mean_b CMI_b / mean_b SEP_b, the literal reading of eqs 8–10.
    RatioOfMeans,
}

/// How the centroid distributions move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Centroids {
    /// By their own SGD, from `centroid-start` on (paper, eq. 10 and algorithm 1).
    Alternating,
    /// Never: what the released code does, since it detaches them.
    Fixed,
}

/// With two classes SEP has one term, 0 for a sample on the wrong centroid, and the ratio explodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SepFloor {
    /// For two classes: 5 % of the smallest divergence between centroids, over C; else 1e-10.
    Auto,
    /// None, as released.
    Off,
}

/// The norm by which embeddings are divided when the evaluation centroids are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Length {
    /// As everywhere else.
    L2,
    /// L1, as the released code does by an argument in the wrong place; only to reproduce its numbers.
    L1Repo,
}

/// Added to CMI_b, as released.
const CMI_EPSILON: f64 = 1e-10;
const LENGTH_EPSILON: f64 = 1e-12;
/// A sample nearer to the centre than this share of the centre's length has no direction; it is left out of the loss.
const NO_DIRECTION: f64 = 1e-6;

/// Initial centroid parameters `[C,E]`: 10 on the class's own coordinate, plus 1e-6 everywhere; in f32, as released.
///
/// With fewer coordinates than classes the identity is cropped, which gives equal rows; [`NcmiSettings`] refuses that.
pub fn identity_code(classes: i64, width: i64) -> Tensor {
    Tensor::eye_m(classes, width, (Kind::Float, tch::Device::Cpu)) * 10.0 + 1e-6
}

impl NcmiSettings {
    pub(super) fn build(&self, site: &Site) -> Result<Box<dyn Loss>> {
        ensure!(site.classes >= 2, "NCMI needs at least 2 classes, the labels have {}", site.classes);
        ensure!(self.temperature > 0.0, "train.loss.temperature must be positive, not {}", self.temperature);
        if site.width < site.classes {
            bail!(
                "NCMI's identity code needs an embedding at least as wide as there are classes: {} coordinates for {} classes; widen train.model",
                site.width,
                site.classes
            );
        }
        Ok(Box::new(self.on(site, &identity_code(site.classes, site.width))))
    }

    /// Builds NCMI from given centroid parameters `[C,E]`, without the checks.
    pub fn on(&self, site: &Site, centroids: &Tensor) -> Ncmi {
        let path = &site.path;
        let size = [site.classes, site.width];
        // tch's own zeros are f32 whatever the store's kind.
        let buffer = |name: &str, size: &[i64]| path.add(name, Tensor::zeros(size, (path.kind(), path.device())), false);
        Ncmi {
            settings: self.clone(),
            classes: site.classes,
            centroids: path.var_copy("centroids", &centroids.to_kind(path.kind())),
            velocity: buffer("centroids-velocity", &size),
            moved: buffer("centroids-moved", &[1]),
            centre: buffer("centre", &[site.width]),
            centre_known: buffer("centre-known", &[1]),
            means: buffer("evaluation-centroids", &size),
            counts: buffer("evaluation-counts", &[site.classes]),
        }
    }
}

/// The loss and its state; every tensor is in the store and so in the checkpoint.
pub struct Ncmi {
    settings: NcmiSettings,
    classes: i64,
    /// R `[C,E]`: Q = map(R). No centring, length or temperature applies to R.
    centroids: Tensor,
    velocity: Tensor,
    moved: Tensor,
    /// μ `[E]`
    centre: Tensor,
    centre_known: Tensor,
    /// Class means of the training set's distributions `[C,E]`, and class sizes `[C]`.
    means: Tensor,
    counts: Tensor,
}

/// CMI_b and SEP_b of a batch, `[B]` each.
#[derive(Debug)]
pub struct Ratios {
    /// KL(p_b ‖ Q_y) + 1e-10
    pub cmi: Tensor,
    /// Mean over all C classes of KL(Q_c ‖ p_b), the own class counted as 0.
    pub sep: Tensor,
}

/// `log_p [B,E]`, `log_q [C,E]`, `targets [B]`. Source: methods of the paper, eqs 9–10 as the released code computes them.
pub fn ratios(log_p: &Tensor, log_q: &Tensor, targets: &Tensor) -> Ratios {
    let own = targets.unsqueeze(1);
    let cmi = kl_matrix(log_p, log_q).gather(1, &own, false).squeeze_dim(1) + CMI_EPSILON;
    let away = kl_matrix(log_q, log_p).transpose(0, 1);
    let sep = away.scatter_value(1, &own, 0.0).mean_dim(1, false, None::<Kind>);
    Ratios { cmi, sep }
}

impl Ncmi {
    /// The centred embedding of unit `norm` over T: `[B,E]`, and which rows have a direction `[B]`.
    fn direction(&self, embedding: &Tensor, norm: f64) -> (Tensor, Tensor) {
        let centred = embedding - &self.centre;
        let length = centred.norm_scalaropt_dim(norm, [-1i64], true);
        let far = no_grad(|| length.squeeze_dim(-1).greater_tensor(&(self.centre.norm() * NO_DIRECTION)));
        (centred / length.clamp_min(LENGTH_EPSILON) / self.settings.temperature, far)
    }

    fn move_centre(&mut self, batch_mean: &Tensor) {
        no_grad(|| {
            if self.centre_known.double_value(&[0]) == 0.0 {
                self.centre.copy_(batch_mean);
                let _ = self.centre_known.fill_(1.0);
            } else {
                let moved = &self.centre * self.settings.centre_decay + batch_mean * (1.0 - self.settings.centre_decay);
                self.centre.copy_(&moved);
            }
        });
    }

    fn sep_floor(&self, log_q: &Tensor) -> Option<f64> {
        match self.settings.sep_floor {
            SepFloor::Off => None,
            SepFloor::Auto if self.classes == 2 => {
                let between = no_grad(|| kl_matrix(log_q, log_q));
                Some(0.05 * between.double_value(&[0, 1]).min(between.double_value(&[1, 0])) / 2.0)
            }
            SepFloor::Auto => Some(1e-10),
        }
    }
}

impl Loss for Ncmi {
    fn wants_start(&self) -> bool {
        self.settings.centring == Centring::Sweep && self.centre_known.double_value(&[0]) == 0.0
    }

    fn start(&mut self, embeddings: &Tensor) {
        self.move_centre(&embeddings.mean_dim(0, false, None::<Kind>));
    }

    fn forward(&mut self, output: &Output, targets: &Tensor) -> Terms {
        // METHOD: divergences between neighbouring centroids are about 1e-3 nats, so half precision is not enough here.
        let embedding =
            if output.embedding.kind() == Kind::Double { output.embedding.shallow_clone() } else { output.embedding.to_kind(Kind::Float) };
        if self.settings.centring != Centring::Off {
            self.move_centre(&embedding.detach().mean_dim(0, false, None::<Kind>));
        }
        let (direction, far) = self.direction(&embedding, 2.0);
        let kept = far.nonzero().squeeze_dim(1);
        if kept.size1().unwrap_or(0) == 0 {
            return Terms { total: embedding.sum(None::<Kind>) * 0.0, parts: Vec::new() };
        }
        let log_p = self.settings.output_map.log(&direction.index_select(0, &kept));
        let log_q = self.settings.output_map.log(&self.centroids);
        let log_q = if self.settings.centroids == Centroids::Fixed { log_q.detach() } else { log_q };
        let Ratios { cmi, sep } = ratios(&log_p, &log_q, &targets.index_select(0, &kept));
        let sep = match self.sep_floor(&log_q) {
            Some(floor) => sep.clamp_min(floor),
            None => sep,
        };
        let total = match self.settings.reduction {
            Reduction::MeanOfRatios => (&cmi / &sep).mean(None::<Kind>),
            Reduction::RatioOfMeans => cmi.mean(None::<Kind>) / sep.mean(None::<Kind>),
        };
        Terms { total, parts: vec![("cmi", cmi.detach().mean(None::<Kind>)), ("sep", sep.detach().mean(None::<Kind>))] }
    }

    fn step(&mut self, moment: &Moment) {
        let gradient = self.centroids.grad();
        let due = moment.epoch as f64 > self.settings.centroid_start * moment.epochs as f64;
        if self.settings.centroids == Centroids::Alternating && due && gradient.defined() {
            no_grad(|| {
                // PyTorch's SGD: the first velocity is the gradient itself.
                let first = self.moved.double_value(&[0]) == 0.0;
                let velocity = if first { gradient.copy() } else { &self.velocity * self.settings.centroid_momentum + &gradient };
                self.velocity.copy_(&velocity);
                let _ = self.moved.fill_(1.0);
                let _ = self.centroids.g_sub_(&(velocity * (self.settings.centroid_learning_rate * moment.rate_share)));
            });
        }
        self.centroids.zero_grad();
    }

    fn log_distribution(&self, output: &Output) -> Tensor {
        self.settings.output_map.log(&self.direction(&output.embedding, 2.0).0)
    }

    fn wants_refresh(&self) -> bool {
        true
    }

    fn refresh(&mut self, swept: &Output, targets: &Tensor) {
        no_grad(|| {
            let length = match self.settings.centroid_length {
                Length::L2 => 2.0,
                Length::L1Repo => 1.0,
            };
            let log_distributions = self.settings.output_map.log(&self.direction(&swept.embedding, length).0);
            let (means, counts) = class_means(&log_distributions, targets, self.classes);
            self.means.copy_(&means);
            self.counts.copy_(&counts);
        });
    }

    fn probabilities(&self, output: &Output) -> Tensor {
        nearest_centroid_probabilities(&divergence_to_centroids(&self.log_distribution(output), &self.means, &self.counts))
    }
}
