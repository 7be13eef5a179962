//! NCMI: a normalised-conditional-mutual-information loss on the embedding, instead of cross-entropy on logits.
//!
//! The embedding, centred and normalised, becomes a distribution over its own E coordinates; it is pulled to its class's
//! centroid distribution (CMI) and pushed from the others (SEP). Source: the NCMI paper, eqs 3–10; the released code where
//! the text is silent. No head: classes are told apart by the nearest centroid, or by a linear probe.
//!
//! Memory of a step: some `[B,E]` and `[C,E]` matrices; neither `[B,C,E]` nor even `[B,C]` is ever built, see [`ratios`].

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

use super::{Loss, Moment, Site, Terms, full_precision};
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
    /// Where the centroid distributions Q_c start.
    pub init: Init,
    /// How they move.
    pub centroids: Centroids,
    /// In `alternating`: on which output of the model they move.
    pub centroid_update: CentroidUpdate,
    /// Learning rate of the centroids' own SGD (mode `alternating`).
    pub centroid_learning_rate: f64,
    /// Momentum of the same.
    pub centroid_momentum: f64,
    /// Share of the former centroid kept at each step (mode `ema`).
    pub centroid_decay: f64,
    /// When the centroids start to move.
    pub centroid_start: Start,
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
            init: Init::Identity,
            centroids: Centroids::Alternating,
            centroid_update: CentroidUpdate::Simultaneous,
            centroid_learning_rate: 1.0,
            centroid_momentum: 0.9,
            centroid_decay: 0.999,
            centroid_start: Start::Share(0.125),
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
    /// Towards the mean distribution of their class's samples in each batch, as the authors' earlier CMIC-DL does.
    Ema,
}

/// On which output of the model the centroids' own SGD steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CentroidUpdate {
    /// On the one that the model steps on: one backward pass for both.
    Simultaneous,
    /// On that of the model that has just stepped, the same batch forward once more.
    GaussSeidel,
}

/// Where the centroid parameters R `[C,E]` start: each row holds 10 on some coordinates and 0 on the others, plus 1e-6, so
/// that a distribution is twice as high on its own coordinates as elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Class c owns coordinate c, as released. Needs E ≥ C.
    Identity,
    /// Class c owns E/C (rounded down) coordinates of its own. Needs E ≥ C.
    BlockCode,
    /// Each class owns a random half of the coordinates; works with fewer coordinates than classes.
    RandomCode,
}

/// From when on the centroids move.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Start {
    /// A whole number: from this epoch on, counted from 1.
    Epoch(usize),
    /// A fraction: after this share of the epochs.
    Share(f64),
}

impl Start {
    fn has_come(self, moment: &Moment) -> bool {
        match self {
            Self::Epoch(first) => moment.epoch >= first,
            Self::Share(share) => moment.epoch as f64 > share * moment.epochs as f64,
        }
    }
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

/// A coordinate that a class owns, and what is added to all.
const HIGH: f64 = 10.0;
const OFFSET: f64 = 1e-6;

/// [`Init::Identity`], in f32 as released.
///
/// With fewer coordinates than classes the identity is cropped, which gives equal rows; [`NcmiSettings`] refuses that.
pub fn identity_code(classes: i64, width: i64) -> Tensor {
    Tensor::eye_m(classes, width, CODE) * HIGH + OFFSET
}

/// [`Init::BlockCode`]
fn block_code(classes: i64, width: i64) -> Tensor {
    let owner = Tensor::arange(width, CODE).divide_scalar_mode((width / classes) as f64, "floor").unsqueeze(0);
    owner.eq_tensor(&Tensor::arange(classes, CODE).unsqueeze(1)).to_kind(Kind::Float) * HIGH + OFFSET
}

/// [`Init::RandomCode`], drawn from libtorch's generator, which the stream `initial-weights` has seeded.
fn random_code(classes: i64, width: i64) -> Result<Tensor> {
    for _ in 0..100 {
        let rank = Tensor::rand([classes, width], CODE).argsort(1, false).argsort(1, false);
        let code = rank.lt(width / 2).to_kind(Kind::Float);
        if code.unique_dim(0, false, false, false).0.size()[0] == classes {
            return Ok(code * HIGH + OFFSET);
        }
    }
    bail!("NCMI: {width} coordinates give too few different random codes for {classes} classes; widen train.model")
}

const CODE: (Kind, tch::Device) = (Kind::Float, tch::Device::Cpu);

impl NcmiSettings {
    pub(super) fn build(&self, site: &Site) -> Result<Box<dyn Loss>> {
        ensure!(self.temperature > 0.0, "train.loss.temperature must be positive, not {}", self.temperature);
        for (name, decay) in [("centre-decay", self.centre_decay), ("centroid-decay", self.centroid_decay)] {
            ensure!((0.0..=1.0).contains(&decay), "train.loss.{name} must be in 0…1, not {decay}");
        }
        let (classes, width) = (site.classes, site.width);
        if width < classes && self.init != Init::RandomCode {
            bail!(
                "NCMI's init '{}' needs an embedding at least as wide as there are classes: {width} coordinates for {classes} classes; \
                 widen train.model, or set train.loss.init = \"random-code\"",
                if self.init == Init::Identity { "identity" } else { "block-code" },
            );
        }
        let code = match self.init {
            Init::Identity => identity_code(classes, width),
            Init::BlockCode => block_code(classes, width),
            Init::RandomCode => random_code(classes, width)?,
        };
        Ok(Box::new(self.on(site, &code)))
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
            averages: (self.centroids == Centroids::Ema).then(|| {
                let initial = self.output_map.log(centroids).exp().to_kind(path.kind()).to_device(path.device());
                path.add("centroid-averages", initial, false)
            }),
            pending: None,
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
    /// Q `[C,E]` in mode `ema`, where R only gives the start.
    averages: Option<Tensor>,
    /// In mode `ema`: sums of the distributions `[C,E]` since the last step.
    pending: Option<Tensor>,
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

/// `log_p [B,E]`, `log_q [C,E]`, `targets [B]`. Source: eqs 9–10 of the paper as the released code computes them.
///
/// The divergences to all centroids are never needed one by one: Σ_c KL(Q_c ‖ p) = Σ_c Σ_k Q_ck log Q_ck − Σ_k (Σ_c Q_ck) log p_k.
/// So a batch costs O((B + C)·E) time and memory instead of O(B·C·E) time. As in
/// [`kl_matrix`](crate::ground::distributions::kl_matrix), logarithms are shifted by log E, or f32 would lose four digits.
pub fn ratios(log_p: &Tensor, log_q: &Tensor, targets: &Tensor) -> Ratios {
    let classes = log_q.size()[0] as f64;
    let shift = (log_q.size()[1] as f64).ln();
    let (log_p, log_q) = (log_p + shift, log_q + shift);
    let (p, q) = ((&log_p - shift).exp(), (&log_q - shift).exp());
    let sum = |x: Tensor| x.sum_dim_intlist(-1, false, None::<Kind>);
    let negative_entropy = sum(&q * &log_q);
    let own_q = q.index_select(0, targets);
    let cmi = sum(&p * (&log_p - log_q.index_select(0, targets))) + CMI_EPSILON;
    let others_q = q.sum_dim_intlist(0, true, None::<Kind>) - own_q;
    let others_entropy = negative_entropy.sum(None::<Kind>) - negative_entropy.index_select(0, targets);
    let sep = (others_entropy - sum(others_q * &log_p)) / classes;
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

impl Ncmi {
    /// log Q `[C,E]`, with gradient to R only in mode `alternating`.
    fn log_centroids(&self) -> Tensor {
        match &self.averages {
            Some(averages) => averages.clamp_min(f64::MIN_POSITIVE.max(1e-30)).log(),
            None if self.settings.centroids == Centroids::Alternating => self.settings.output_map.log(&self.centroids),
            None => self.settings.output_map.log(&self.centroids).detach(),
        }
    }

    /// The loss of distributions that have a direction.
    fn terms(&self, log_p: &Tensor, log_q: &Tensor, targets: &Tensor) -> Terms {
        let Ratios { cmi, sep } = ratios(log_p, log_q, targets);
        let sep = match self.sep_floor(log_q) {
            Some(floor) => sep.clamp_min(floor),
            None => sep,
        };
        let total = match self.settings.reduction {
            Reduction::MeanOfRatios => (&cmi / &sep).mean(None::<Kind>),
            Reduction::RatioOfMeans => cmi.mean(None::<Kind>) / sep.mean(None::<Kind>),
        };
        Terms { total, parts: vec![("cmi", cmi.detach().mean(None::<Kind>)), ("sep", sep.detach().mean(None::<Kind>))] }
    }

    /// log p `[B′,E]` and targets `[B′]` of the samples that have a direction; `None` if none has.
    fn distributions(&self, embedding: &Tensor, targets: &Tensor) -> Option<(Tensor, Tensor)> {
        let (direction, far) = self.direction(embedding, 2.0);
        let kept = far.nonzero().squeeze_dim(1);
        (kept.size()[0] > 0).then(|| (self.settings.output_map.log(&direction.index_select(0, &kept)), targets.index_select(0, &kept)))
    }

    /// One step of the centroids' own SGD as PyTorch defines it: the first velocity is the gradient itself.
    fn descend(&mut self, rate_share: f64) {
        let gradient = self.centroids.grad();
        if !gradient.defined() {
            return;
        }
        no_grad(|| {
            let first = self.moved.double_value(&[0]) == 0.0;
            let velocity = if first { gradient.copy() } else { &self.velocity * self.settings.centroid_momentum + &gradient };
            self.velocity.copy_(&velocity);
            let _ = self.moved.fill_(1.0);
            let _ = self.centroids.g_sub_(&(velocity * (self.settings.centroid_learning_rate * rate_share)));
        });
    }

    /// Q_c ← g·Q_c + (1−g)·mean of the class's distributions since the last step; absent classes stay.
    fn average(&mut self) {
        let (Some(averages), Some(sums)) = (&mut self.averages, self.pending.take()) else { return };
        no_grad(|| {
            // Distributions sum to 1: the sum of a class's sums is its number of samples.
            let counts = sums.sum_dim_intlist(-1, true, None::<Kind>);
            let decay = self.settings.centroid_decay;
            let moved = &*averages * decay + &sums / counts.clamp_min(1e-30) * (1.0 - decay);
            let moved = moved.where_self(&counts.gt(0.5), averages);
            averages.copy_(&(&moved / moved.sum_dim_intlist(-1, true, None::<Kind>)));
        });
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
        let embedding = full_precision(&output.embedding);
        if self.settings.centring != Centring::Off {
            self.move_centre(&embedding.detach().mean_dim(0, false, None::<Kind>));
        }
        let Some((log_p, targets)) = self.distributions(&embedding, targets) else {
            return Terms { total: embedding.sum(None::<Kind>) * 0.0, parts: Vec::new() };
        };
        if self.averages.is_some() {
            let sums = targets.one_hot(self.classes).to_kind(log_p.kind()).transpose(0, 1).matmul(&log_p.detach().exp());
            self.pending = Some(self.pending.take().map_or(sums.shallow_clone(), |former| former + &sums));
        }
        self.terms(&log_p, &self.log_centroids(), &targets)
    }

    fn step(&mut self, moment: &Moment) {
        if self.settings.centroid_start.has_come(moment) {
            match self.settings.centroids {
                Centroids::Alternating => self.descend(moment.rate_share),
                Centroids::Ema => self.average(),
                Centroids::Fixed => {}
            }
        }
        self.pending = None;
        self.centroids.zero_grad();
    }

    fn wants_revision(&self, moment: &Moment) -> bool {
        self.settings.centroids == Centroids::Alternating
            && self.settings.centroid_update == CentroidUpdate::GaussSeidel
            && self.settings.centroid_start.has_come(moment)
    }

    fn revise(&mut self, output: &Output, targets: &Tensor, moment: &Moment) {
        self.centroids.zero_grad();
        if let Some((log_p, targets)) = self.distributions(&full_precision(&output.embedding.detach()), targets) {
            self.terms(&log_p, &self.log_centroids(), &targets).total.backward();
            self.descend(moment.rate_share);
        }
        self.centroids.zero_grad();
    }

    fn log_distribution(&self, output: &Output) -> Tensor {
        self.settings.output_map.log(&self.direction(&full_precision(&output.embedding), 2.0).0)
    }

    fn wants_refresh(&self) -> bool {
        true
    }

    fn decides_by_centroids(&self) -> bool {
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
