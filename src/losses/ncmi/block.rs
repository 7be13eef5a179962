//! The loss of a batch with its gradients, by hand.
//!
//! Autograd would keep some forty matrices for backward and walk over each several times; the derivatives are short, so they
//! are written out. Source: eqs 9–10 of the paper as the released code computes them; the golden vectors hold values and
//! gradients of both.
//!
//! The divergences to all centroids are never needed one by one: Σ_c KL(Q_c ‖ p) = Σ_c Σ_k Q_ck log Q_ck − Σ_k (Σ_c Q_ck) log p_k.
//! So a batch costs O((B + C)·E) time and memory instead of the O(B·C·E) time of two matrix products: at most 9 matrices `[B,E]`
//! and 8 `[C,E]` live at once.

use tch::{Kind, Tensor};

use super::settings::Reduction;
use crate::ground::distributions::OutputMap;

/// Added to CMI_b, as released.
const CMI_EPSILON: f64 = 1e-10;

/// Centroids as the loss needs them.
pub(super) struct Targets {
    /// log Q + log E `[C,E]`: shifted, or f32 would lose four digits (as in `kl_matrix`).
    shifted: Tensor,
    /// Q `[C,E]`
    q: Tensor,
    /// Σ_k Q_ck (log Q_ck + log E) `[C]`
    negative_entropy: Tensor,
    /// Σ_c Q_c `[1,E]`
    sum: Tensor,
}

impl Targets {
    /// `log_q [C,E]`
    pub(super) fn new(log_q: &Tensor) -> Self {
        let q = log_q.exp();
        let shifted = log_q + shift(log_q);
        Self { negative_entropy: row_sums(&q * &shifted), sum: q.sum_dim_intlist(0, true, None::<Kind>), shifted, q }
    }
}

/// CMI_b and SEP_b of a batch, `[B]` each, and what their gradients need again.
#[derive(Debug)]
pub struct Ratios {
    /// KL(p_b ‖ Q_y) + 1e-10
    pub cmi: Tensor,
    /// Mean over all C classes of KL(Q_c ‖ p_b), the own class counted as 0.
    pub sep: Tensor,
    /// p `[B,E]`, log p + log E, log(p / Q_y), Σ_{c ≠ y} Q_c.
    p: Tensor,
    shifted: Tensor,
    log_ratio: Tensor,
    others: Tensor,
}

/// `log_p [B,E]`, `log_q [C,E]`, `targets [B]`.
pub fn ratios(log_p: &Tensor, log_q: &Tensor, targets: &Tensor) -> Ratios {
    Ratios::new(log_p, &Targets::new(log_q), targets)
}

impl Ratios {
    pub(super) fn new(log_p: &Tensor, of: &Targets, targets: &Tensor) -> Self {
        let p = log_p.exp();
        let shifted = log_p + shift(log_p);
        let log_ratio = &shifted - of.shifted.index_select(0, targets);
        let cmi = row_sums(&p * &log_ratio) + CMI_EPSILON;
        let others = &of.sum - of.q.index_select(0, targets);
        let entropies = of.negative_entropy.sum(None::<Kind>) - of.negative_entropy.index_select(0, targets);
        let sep = (entropies - row_sums(&others * &shifted)) / of.q.size()[0] as f64;
        Self { cmi, sep, p, shifted, log_ratio, others }
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
            sep_slope = sep_slope * of.sep.ge_tensor(&floor).to_kind(of.sep.kind());
        }
        Self { total, cmi_slope, sep_slope }
    }

    /// ∂total/∂log p `[B,E]`
    pub(super) fn to_distributions(&self, of: &Ratios, classes: i64) -> Tensor {
        let pull = (&of.log_ratio + 1.0) * &of.p * self.cmi_slope.unsqueeze(1);
        pull - &of.others * (&self.sep_slope / classes as f64).unsqueeze(1)
    }

    /// ∂total/∂log Q `[C,E]`
    pub(super) fn to_centroids(&self, of: &Ratios, centroids: &Targets, targets: &Tensor) -> Tensor {
        let classes = centroids.q.size()[0];
        let slope = self.sep_slope.unsqueeze(1);
        let per_class = |rows: &Tensor| rows.new_zeros([classes, rows.size()[1]], (rows.kind(), rows.device())).index_add(0, targets, rows);
        // A centroid is pushed from every sample that is not its own: from all, less its own.
        let seen = &of.shifted * &slope;
        let push = (slope.sum(None::<Kind>) - per_class(&slope)) * (&centroids.shifted + 1.0) - seen.sum_dim_intlist(0, true, None::<Kind>)
            + per_class(&seen);
        &centroids.q * push / classes as f64 - per_class(&(&of.p * self.cmi_slope.unsqueeze(1)))
    }
}

/// From ∂/∂log map(x) to ∂/∂x, row by row: `x`, `log_p`, `slope` are `[R,m]`.
pub(super) fn through_map(map: OutputMap, x: &Tensor, log_p: &Tensor, slope: &Tensor) -> Tensor {
    let rest = slope - log_p.exp() * slope.sum_dim_intlist(-1, true, None::<Kind>);
    match map {
        // d log σ = 1 − σ = σ(−x)
        OutputMap::Nsf => rest * (-x).sigmoid(),
        OutputMap::Softmax => rest,
    }
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
