//! The loss of a batch with its gradients, by hand.
//!
//! Autograd would keep some forty matrices for backward and walk over each several times; the derivatives are short, so they
//! are written out. Source: eqs 9–10 of the paper as the released code computes them; the golden vectors hold values and
//! gradients of both.
//!
//! The divergences to all centroids are never needed one by one: Σ_c KL(Q_c ‖ p) = Σ_c Σ_k Q_ck log Q_ck − Σ_k (Σ_c Q_ck) log p_k.
//! So a batch costs O((B + C)·E) time and memory instead of the O(B·C·E) time of two matrix products: at most 10 matrices `[B,E]`
//! and 8 `[C,E]` live at once.

use tch::{Kind, Tensor};

use super::settings::Reduction;
use crate::ground::distributions::{NSF_EPSILON, OutputMap};

/// Added to CMI_b, as released.
const CMI_EPSILON: f64 = 1e-10;
/// Under the logarithm of a sigmoid; a normal number in f32.
const SMALLEST_SIGMOID: f64 = 1e-37;

/// Rows of real numbers as distributions, and what their gradients need again.
pub(super) struct Mapped {
    /// log p + log E `[R,E]`: shifted, or f32 would lose four digits (as in `kl_matrix`).
    pub(super) shifted: Tensor,
    /// p `[R,E]`
    pub(super) p: Tensor,
    /// NSF: σ(−x) = d log σ(x) / dx `[R,E]`.
    slope: Option<Tensor>,
}

impl Mapped {
    /// `x [R,E]`. Agrees with [`OutputMap::log`] down to probabilities of 1e-37 times the largest, with fewer passes over memory.
    pub(super) fn new(map: OutputMap, x: &Tensor) -> Self {
        match map {
            OutputMap::Nsf => {
                let sigmoid = x.sigmoid();
                let normaliser = sigmoid.sum_dim_intlist(-1, true, None::<Kind>) + NSF_EPSILON;
                let mut shifted = sigmoid.clamp_min(SMALLEST_SIGMOID).log_();
                let _ = shifted.g_sub_(&(normaliser.log() - shift(x)));
                Self { shifted, p: sigmoid / normaliser, slope: Some(x.neg().sigmoid_()) }
            }
            OutputMap::Softmax => Self::of_log(&x.log_softmax(-1, None::<Kind>)),
        }
    }

    /// From logarithms `[R,E]`, which [`Mapped::backward`] then leaves as they are but for their sum.
    pub(super) fn of_log(log_p: &Tensor) -> Self {
        Self { shifted: log_p + shift(log_p), p: log_p.exp(), slope: None }
    }

    /// From ∂/∂log p `[R,E]` to ∂/∂x.
    pub(super) fn backward(&self, of_log: &Tensor) -> Tensor {
        let mut rest = of_log - &self.p * of_log.sum_dim_intlist(-1, true, None::<Kind>);
        match &self.slope {
            Some(slope) => rest.g_mul_(slope),
            None => rest,
        }
    }
}

/// Distributions of the centroids with their sums.
pub(super) struct Targets {
    /// log Q + log E, and Q, `[C,E]`.
    pub(super) q: Mapped,
    /// Σ_k Q_ck (log Q_ck + log E) `[C]`
    negative_entropy: Tensor,
    /// Σ_c Q_c `[1,E]`
    sum: Tensor,
}

impl Targets {
    pub(super) fn new(q: Mapped) -> Self {
        Self { negative_entropy: row_sums(&q.p * &q.shifted), sum: q.p.sum_dim_intlist(0, true, None::<Kind>), q }
    }

    fn classes(&self) -> i64 {
        self.q.p.size()[0]
    }
}

/// CMI_b and SEP_b of a batch, `[B]` each, and what their gradients need again.
#[derive(Debug)]
pub struct Ratios {
    /// KL(p_b ‖ Q_y) + 1e-10
    pub cmi: Tensor,
    /// Mean over all C classes of KL(Q_c ‖ p_b), the own class counted as 0.
    pub sep: Tensor,
    /// log(p / Q_y) and Σ_{c ≠ y} Q_c, `[B,E]`.
    log_ratio: Tensor,
    others: Tensor,
}

/// `log_p [B,E]`, `log_q [C,E]`, `targets [B]`.
pub fn ratios(log_p: &Tensor, log_q: &Tensor, targets: &Tensor) -> Ratios {
    Ratios::new(&Mapped::of_log(log_p), &Targets::new(Mapped::of_log(log_q)), targets)
}

impl Ratios {
    pub(super) fn new(of: &Mapped, centroids: &Targets, targets: &Tensor) -> Self {
        let log_ratio = &of.shifted - centroids.q.shifted.index_select(0, targets);
        let cmi = row_sums(&of.p * &log_ratio) + CMI_EPSILON;
        let others = &centroids.sum - centroids.q.p.index_select(0, targets);
        let entropies = centroids.negative_entropy.sum(None::<Kind>) - centroids.negative_entropy.index_select(0, targets);
        let sep = (entropies - row_sums(&others * &of.shifted)) / centroids.classes() as f64;
        Self { cmi, sep, log_ratio, others }
    }
}

/// The loss of a batch and its slopes.
pub(super) struct Value {
    /// Scalar.
    pub(super) total: Tensor,
    /// ∂total/∂CMI_b and ∂total/∂SEP_b, `[B]`.
    cmi_slope: Tensor,
    sep_slope: Tensor,
}

impl Value {
    /// `kept [B]` is 1 for samples that count and 0 for others; SEP_b is held above `floor`, where it then has no slope.
    pub(super) fn new(of: &Ratios, kept: &Tensor, reduction: Reduction, floor: Option<Tensor>) -> Self {
        let weight = kept / kept.sum(None::<Kind>).clamp_min(1.0);
        let sep = floor.as_ref().map_or_else(|| of.sep.shallow_clone(), |floor| of.sep.maximum(floor));
        let (total, cmi_slope, mut sep_slope) = match reduction {
            Reduction::MeanOfRatios => {
                let slope = &weight / &sep;
                ((&slope * &of.cmi).sum(None::<Kind>), slope.shallow_clone(), -(&slope * &of.cmi) / &sep)
            }
            Reduction::RatioOfMeans => {
                // Where no sample counts both means are 0: the loss is 0 as well.
                let below = (&weight * &sep).sum(None::<Kind>).clamp_min(f64::MIN_POSITIVE.max(1e-30));
                let total = (&weight * &of.cmi).sum(None::<Kind>) / &below;
                let sep_slope = -&weight * &total / &below;
                (total, &weight / &below, sep_slope)
            }
        };
        if let Some(floor) = floor {
            sep_slope *= of.sep.ge_tensor(&floor).to_kind(of.sep.kind());
        }
        Self { total, cmi_slope, sep_slope }
    }

    /// ∂total/∂log p `[B,E]`
    pub(super) fn to_distributions(&self, of: &Mapped, ratios: &Ratios, classes: i64) -> Tensor {
        let mut pull = &ratios.log_ratio + 1.0;
        let _ = pull.g_mul_(&of.p).g_mul_(&self.cmi_slope.unsqueeze(1));
        pull.addcmul_(&ratios.others, &(&self.sep_slope / -(classes as f64)).unsqueeze(1))
    }

    /// ∂total/∂log Q `[C,E]`
    pub(super) fn to_centroids(&self, of: &Mapped, centroids: &Targets, targets: &Tensor) -> Tensor {
        let classes = centroids.classes();
        let slope = (&self.sep_slope / classes as f64).unsqueeze(1);
        // A centroid is pushed from every sample that is not its own: from all, less its own.
        let seen = &of.shifted * &slope;
        let mut push = &centroids.q.shifted + 1.0;
        let _ = push.g_mul_(&(slope.sum(None::<Kind>) - per_class(&slope, targets, classes)));
        let _ = push.g_add_(&per_class(&seen, targets, classes)).g_sub_(&seen.sum_dim_intlist(0, true, None::<Kind>));
        push.g_mul_(&centroids.q.p).g_sub_(&per_class(&(&of.p * self.cmi_slope.unsqueeze(1)), targets, classes))
    }
}

/// Sums of the rows of each class: `rows [B,E]` → `[C,E]`.
pub(super) fn per_class(rows: &Tensor, targets: &Tensor, classes: i64) -> Tensor {
    // One index for a whole row, which libtorch adds row by row instead of number by number.
    let index = targets.unsqueeze(1).expand_as(rows);
    rows.new_zeros([classes, rows.size()[1]], (rows.kind(), rows.device())).scatter_add(0, &index, rows)
}

/// From ∂/∂(v / ‖v‖) to ∂/∂v: `unit [B,E]`, `length [B,1]`.
pub(super) fn through_length(unit: &Tensor, length: &Tensor, slope: &Tensor) -> Tensor {
    (slope - unit * (unit * slope).sum_dim_intlist(-1, true, None::<Kind>)) / length
}

/// log E
fn shift(log: &Tensor) -> f64 {
    (log.size()[1] as f64).ln()
}

fn row_sums(x: Tensor) -> Tensor {
    x.sum_dim_intlist(-1, false, None::<Kind>)
}
