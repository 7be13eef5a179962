//! NCMI: a normalised-conditional-mutual-information loss on the embedding, instead of cross-entropy on logits.
//!
//! The embedding, centred and normalised, becomes a distribution over its own E coordinates; it is pulled to its class's
//! centroid distribution (CMI) and pushed from the others (SEP). Source: the NCMI paper, eqs 3–10; the released code where
//! the text is silent. No head: classes are told apart by the nearest centroid, or by a linear probe.
//!
//! Memory of a step: some `[B,E]` and `[C,E]` matrices; neither `[B,C,E]` nor even `[B,C]` is ever built ([`block`]).

use anyhow::{Result, ensure};
use tch::{Kind, Tensor, no_grad};

use super::{Loss, Moment, Site, Terms, full_precision};
use crate::ground::batch::Output;
use crate::ground::distributions::{class_means, divergence_to_centroids, kl_matrix, nearest_centroid_probabilities};

mod block;
mod codes;
mod settings;

use block::Mapped;
pub use block::{Ratios, ratios};
pub use codes::identity_code;
pub use settings::{Centring, CentroidUpdate, Centroids, Init, Length, NcmiSettings, Reduction, SepFloor, Start};

const LENGTH_EPSILON: f64 = 1e-12;
/// A sample nearer to the centre than this share of the centre's length has no direction; it is left out of the loss.
const NO_DIRECTION: f64 = 1e-6;
/// Below every SEP that means something; keeps the ratio finite.
const SMALLEST_SEP: f64 = 1e-10;

impl NcmiSettings {
    pub(super) fn build(&self, site: &Site) -> Result<Box<dyn Loss>> {
        ensure!(self.temperature > 0.0, "train.loss.temperature must be positive, not {}", self.temperature);
        for (name, decay) in [("centre-decay", self.centre_decay), ("centroid-decay", self.centroid_decay)] {
            ensure!((0.0..=1.0).contains(&decay), "train.loss.{name} must be in 0…1, not {decay}");
        }
        let code = self.init.centroids(site.classes, site.width)?;
        Ok(Box::new(self.on(site, &code)))
    }

    /// Builds NCMI from given centroid parameters `[C,E]`, without the checks.
    pub fn on(&self, site: &Site, centroids: &Tensor) -> Ncmi {
        let path = &site.path;
        let size = [site.classes, site.width];
        let tensor = |name: &str, value: Tensor| path.add(name, value.to_kind(path.kind()).to_device(path.device()), false);
        let zeros = |name: &str, size: &[i64]| tensor(name, Tensor::zeros(size, (Kind::Float, tch::Device::Cpu)));
        Ncmi {
            settings: self.clone(),
            classes: site.classes,
            averages: (self.centroids == Centroids::Ema).then(|| tensor("centroid-averages", self.output_map.log(centroids).exp())),
            centroids: tensor("centroids", centroids.shallow_clone()),
            velocity: zeros("centroids-velocity", &size),
            centre: zeros("centre", &[site.width]),
            centre_known: zeros("centre-known", &[1]),
            means: zeros("evaluation-centroids", &size),
            counts: zeros("evaluation-counts", &[site.classes]),
            pending: Pending::default(),
        }
    }
}

/// The loss and its state; every tensor that outlives a step is in the store and so in the checkpoint.
pub struct Ncmi {
    settings: NcmiSettings,
    classes: i64,
    /// R `[C,E]`: Q = map(R). No centring, length or temperature applies to R.
    centroids: Tensor,
    velocity: Tensor,
    /// Q `[C,E]` in mode `ema`, where R only gives the start.
    averages: Option<Tensor>,
    /// μ `[E]`, and 1 once it has a value.
    centre: Tensor,
    centre_known: Tensor,
    /// Class means of the training set's distributions `[C,E]`, and class sizes `[C]`.
    means: Tensor,
    counts: Tensor,
    pending: Pending,
}

/// What the batches since the last step say of the centroids.
#[derive(Default)]
struct Pending {
    /// Σ over batches of B · ∂loss/∂R, or in mode `ema` Σ of the distributions by class; `[C,E]`.
    sum: Option<Tensor>,
    /// Σ B
    samples: f64,
}

impl Pending {
    fn add(&mut self, value: Tensor, samples: f64) {
        self.sum = Some(match self.sum.take() {
            Some(sum) => sum + value,
            None => value,
        });
        self.samples += samples;
    }
}

/// A batch on its way through the loss.
struct Passage {
    /// (z − μ) / ‖z − μ‖ `[B,E]`, and ‖z − μ‖ `[B,1]`.
    unit: Tensor,
    length: Tensor,
    /// 1 where a sample has a direction, else 0, `[B]`.
    kept: Tensor,
    /// Unit over T `[B,E]`.
    x: Tensor,
}

impl Ncmi {
    /// `embedding [B,E]`, whose rows are divided by their `norm`.
    fn pass(&self, embedding: &Tensor, norm: f64) -> Passage {
        let centred = embedding - &self.centre;
        let length = centred.norm_scalaropt_dim(norm, [-1i64], true);
        let kept = length.squeeze_dim(-1).greater_tensor(&(self.centre.norm() * NO_DIRECTION)).to_kind(embedding.kind());
        let length = length.clamp_min(LENGTH_EPSILON);
        let unit = centred / &length;
        let x = &unit / self.settings.temperature;
        Passage { unit, length, kept, x }
    }

    fn move_centre(&mut self, batch_mean: &Tensor) {
        let decay = self.settings.centre_decay;
        // The first value is taken as it is: without a former one nothing is kept.
        let keep = &self.centre_known * decay;
        let take = 1.0 - &self.centre_known + &self.centre_known * (1.0 - decay);
        let moved = &self.centre * keep + batch_mean * take;
        self.centre.copy_(&moved);
        let _ = self.centre_known.fill_(1.0);
    }

    /// A scalar, or no floor; `shifted [C,E]` are the logarithms of Q but for a constant.
    fn sep_floor(&self, shifted: &Tensor) -> Option<Tensor> {
        match self.settings.sep_floor {
            SepFloor::Off => None,
            SepFloor::Auto if self.classes == 2 => {
                let log_q = shifted.log_softmax(-1, None::<Kind>);
                let between = kl_matrix(&log_q, &log_q);
                Some(between.get(0).get(1).minimum(&between.get(1).get(0)) * (0.05 / 2.0))
            }
            SepFloor::Auto => Some(shifted.new_full([0i64; 0], SMALLEST_SEP, (shifted.kind(), shifted.device()))),
        }
    }

    /// Q
    fn centroids(&self) -> Mapped {
        match &self.averages {
            Some(averages) => Mapped::of_log(&averages.clamp_min(f64::from(f32::MIN_POSITIVE)).log()),
            None => Mapped::new(self.settings.output_map, &self.centroids),
        }
    }

    /// The loss of a batch, its parts and its gradient to the embedding `[B,E]`; notes what the centroids will need.
    fn value(&mut self, embedding: &Tensor, targets: &Tensor) -> (Tensor, Tensor, [Tensor; 2]) {
        let passage = self.pass(embedding, 2.0);
        let mapped = Mapped::new(self.settings.output_map, &passage.x);
        let centroids = block::Targets::new(self.centroids());
        let ratios = Ratios::new(&mapped, &centroids, targets);
        let value = block::Value::new(&ratios, &passage.kept, self.settings.reduction, self.sep_floor(&centroids.q.shifted));

        let to_x = mapped.backward(&value.to_distributions(&mapped, &ratios, self.classes));
        let gradient = block::through_length(&passage.unit, &(&passage.length * self.settings.temperature), &to_x);

        let samples = targets.size()[0] as f64;
        match self.settings.centroids {
            Centroids::Alternating => {
                let gradient = centroids.q.backward(&value.to_centroids(&mapped, &centroids, targets));
                self.pending.add(gradient * samples, samples);
            }
            Centroids::Ema => {
                self.pending.add(block::per_class(&(&mapped.p * passage.kept.unsqueeze(1)), targets, self.classes), samples);
            }
            Centroids::Fixed => {}
        }
        let counted = passage.kept.sum(None::<Kind>).clamp_min(1.0);
        let mean = |values: &Tensor| (values * &passage.kept).sum(None::<Kind>) / &counted;
        (value.total, gradient, [mean(&ratios.cmi), mean(&ratios.sep)])
    }

    /// ∂loss/∂R `[C,E]`, mean over the batches since the last step; `None` unless the centroids learn (mode `alternating`).
    pub fn centroid_gradient(&self) -> Option<Tensor> {
        let sum = self.pending.sum.as_ref().filter(|_| self.settings.centroids == Centroids::Alternating)?;
        Some(sum / self.pending.samples)
    }

    /// One step of the centroids' own SGD as PyTorch defines it.
    fn descend(&mut self, rate_share: f64) {
        let Some(gradient) = self.centroid_gradient() else { return };
        // The first velocity is the gradient itself, since the former one is 0.
        let velocity = &self.velocity * self.settings.centroid_momentum + gradient;
        self.velocity.copy_(&velocity);
        let _ = self.centroids.g_sub_(&(velocity * (self.settings.centroid_learning_rate * rate_share)));
    }

    /// Q_c ← g·Q_c + (1−g)·mean of the class's distributions since the last step; absent classes stay.
    fn average(&mut self) {
        let (Some(averages), Some(sums)) = (&mut self.averages, &self.pending.sum) else { return };
        // Distributions sum to 1: the sum of a class's sums is its number of samples.
        let counts = sums.sum_dim_intlist(-1, true, None::<Kind>);
        let decay = self.settings.centroid_decay;
        let moved = &*averages * decay + sums / counts.clamp_min(f64::from(f32::MIN_POSITIVE)) * (1.0 - decay);
        let moved = moved.where_self(&counts.gt(0.5), averages);
        averages.copy_(&(&moved / moved.sum_dim_intlist(-1, true, None::<Kind>)));
    }
}

impl Loss for Ncmi {
    fn wants_start(&self) -> bool {
        self.settings.centring == Centring::Sweep && self.centre_known.double_value(&[0]) == 0.0
    }

    fn start(&mut self, embeddings: &Tensor) {
        no_grad(|| self.move_centre(&embeddings.mean_dim(0, false, None::<Kind>)));
    }

    fn forward(&mut self, output: &Output, targets: &Tensor) -> Terms {
        // METHOD: divergences between neighbouring centroids are about 1e-3 nats, so half precision is not enough here.
        let embedding = full_precision(&output.embedding);
        let (total, gradient, [cmi, sep]) = no_grad(|| {
            if self.settings.centring != Centring::Off {
                self.move_centre(&embedding.mean_dim(0, false, None::<Kind>));
            }
            self.value(&embedding, targets)
        });
        // Its value is `total` to the last bit, its derivative `gradient`.
        let total = total + ((&embedding - embedding.detach()) * gradient).sum(None::<Kind>);
        Terms { total, parts: vec![("cmi", cmi), ("sep", sep)] }
    }

    fn step(&mut self, moment: &Moment) {
        if self.settings.centroid_start.has_come(moment) {
            no_grad(|| match self.settings.centroids {
                Centroids::Alternating => self.descend(moment.rate_share),
                Centroids::Ema => self.average(),
                Centroids::Fixed => {}
            });
        }
        self.pending = Pending::default();
    }

    fn wants_revision(&self, moment: &Moment) -> bool {
        self.settings.centroids == Centroids::Alternating
            && self.settings.centroid_update == CentroidUpdate::GaussSeidel
            && self.settings.centroid_start.has_come(moment)
    }

    fn revise(&mut self, output: &Output, targets: &Tensor, moment: &Moment) {
        self.pending = Pending::default();
        no_grad(|| {
            let _ = self.value(&full_precision(&output.embedding), targets);
            self.descend(moment.rate_share);
        });
        self.pending = Pending::default();
    }

    fn log_distribution(&self, output: &Output) -> Tensor {
        self.settings.output_map.log(&self.pass(&full_precision(&output.embedding), 2.0).x)
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
            let log_p = self.settings.output_map.log(&self.pass(&full_precision(&swept.embedding), length).x);
            let (means, counts) = class_means(&log_p, targets, self.classes);
            self.means.copy_(&means);
            self.counts.copy_(&counts);
        });
    }

    fn probabilities(&self, output: &Output) -> Tensor {
        nearest_centroid_probabilities(&divergence_to_centroids(&self.log_distribution(output), &self.means, &self.counts))
    }
}
