//! Distributions on the embedding's coordinates: NSF, soft-max, and Kullback–Leibler divergences that keep their digits.
//!
//! NCMI's training loss, its evaluation and the centroid comparison of any model share these four functions.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Added to the sum of sigmoids, as the reference does; the golden values hold with it only.
pub const NSF_EPSILON: f64 = 1e-8;

/// How a real vector becomes a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputMap {
    /// Normalised sigmoid (NCMI paper, eq. 3): σ(x_k) / Σ_j σ(x_j).
    Nsf,
    /// Soft-max (eq. 4), the ablation.
    Softmax,
}

impl OutputMap {
    /// Logarithm of the distribution, row by row: `x [R,m]` → `[R,m]`. Never underflows.
    pub fn log(self, x: &Tensor) -> Tensor {
        match self {
            Self::Nsf => {
                let normaliser = (x.sigmoid().sum_dim_intlist(-1, true, None::<Kind>) + NSF_EPSILON).log();
                x.log_sigmoid() - normaliser
            }
            Self::Softmax => x.log_softmax(-1, None::<Kind>),
        }
    }
}

/// KL(p_a ‖ q_b) for all pairs: `log_p [A,m]`, `log_q [B,m]` → `[A,B]`.
///
/// Two matrices, never `[A,B,m]`. Both logarithms are shifted by log m first: the shift cancels, but without it f32 loses
/// four digits, since neighbouring centroids differ by about 1e-3 nats while their logarithms are about log m.
pub fn kl_matrix(log_p: &Tensor, log_q: &Tensor) -> Tensor {
    let shift = (*log_p.size().last().expect("a distribution has a last dimension") as f64).ln();
    let p = log_p.exp();
    let own = (&p * (log_p + shift)).sum_dim_intlist(-1, true, None::<Kind>);
    own - p.matmul(&(log_q + shift).transpose(-2, -1))
}

/// Mean distribution of each class: `log_p [n,m]`, `targets [n]` → `[C,m]` and the count of each class `[C]`.
///
/// The row of an absent class is 0. Source: NCMI paper eq. 6; the sum is divided by its own total, as released.
pub fn class_means(log_p: &Tensor, targets: &Tensor, classes: i64) -> (Tensor, Tensor) {
    let one_hot = targets.one_hot(classes).to_kind(log_p.kind());
    let sums = one_hot.transpose(0, 1).matmul(&log_p.exp());
    let totals = sums.sum_dim_intlist(-1, true, None::<Kind>);
    (&sums / totals.clamp_min(f64::MIN_POSITIVE.max(1e-30)), one_hot.sum_dim_intlist(0, false, None::<Kind>))
}

/// Centroid comparison: divergences `[n,C]` of each row to each centroid; +∞ for an absent class, which then never wins.
///
/// `centroids [C,m]` as of [`class_means`], `counts [C]`.
pub fn divergence_to_centroids(log_p: &Tensor, centroids: &Tensor, counts: &Tensor) -> Tensor {
    // A soft-max centroid may hold exact zeros; 1e-30 keeps their logarithm finite (methods: floor before the log).
    let divergence = kl_matrix(log_p, &centroids.clamp_min(1e-30).log());
    divergence.masked_fill(&counts.eq(0.0).unsqueeze(0), f64::INFINITY)
}

/// Scores whose order is that of the nearest centroid: soft-max over classes of −KL/τ, τ the row's mean KL. `[n,C]` → `[n,C]`
///
/// METHOD: any decreasing map per row keeps the decision; this one is scale-free, so scores of different rows are comparable.
pub fn nearest_centroid_probabilities(divergence: &Tensor) -> Tensor {
    let finite = divergence.isfinite();
    let known = divergence.where_scalarother(&finite, 0.0);
    let count = finite.to_kind(divergence.kind()).sum_dim_intlist(-1, true, None::<Kind>);
    let scale = (known.sum_dim_intlist(-1, true, None::<Kind>) / count).clamp_min(1e-30);
    (-divergence / scale).softmax(-1, None::<Kind>)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: &Tensor, b: &[f64], tolerance: f64) {
        let a = Vec::<f64>::try_from(a.to_kind(Kind::Double).flatten(0, -1)).expect("values");
        assert_eq!(a.len(), b.len());
        for (x, y) in a.iter().zip(b) {
            assert!((x - y).abs() <= tolerance, "{x} is not {y}");
        }
    }

    #[test]
    fn output_maps_meet_the_golden_values() {
        let x = Tensor::from_slice(&[1.0, 0.0, -1.0, 2.0]).view([1, 4]);
        close(&OutputMap::Nsf.log(&x).exp(), &[0.30706463, 0.21001370, 0.11296276, 0.36995890], 1e-8);
        close(&OutputMap::Nsf.log(&x), &[-1.18069703, -1.56058252, -2.18069703, -0.99436335], 2e-8);
        close(&OutputMap::Softmax.log(&x).exp(), &[0.23688282, 0.08714432, 0.03205860, 0.64391426], 1e-8);
    }

    #[test]
    fn shifted_divergences_equal_the_direct_sum() {
        tch::manual_seed(3);
        let log_p = OutputMap::Nsf.log(&Tensor::randn([5, 64], (Kind::Double, tch::Device::Cpu)));
        let log_q = OutputMap::Nsf.log(&Tensor::randn([7, 64], (Kind::Double, tch::Device::Cpu)));
        let direct = (log_p.exp().unsqueeze(1) * (log_p.unsqueeze(1) - log_q.unsqueeze(0))).sum_dim_intlist(-1, false, None::<Kind>);
        assert!((kl_matrix(&log_p, &log_q) - direct).abs().max().double_value(&[]) < 1e-12);
    }

    #[test]
    fn an_absent_class_never_wins() {
        let log_p = Tensor::from_slice(&[0.7, 0.3, 0.2, 0.8]).view([2, 2]).log();
        let (centroids, counts) = class_means(&log_p, &Tensor::from_slice(&[0i64, 2]), 3);
        let divergence = divergence_to_centroids(&log_p, &centroids, &counts);
        assert!(divergence.double_value(&[0, 1]).is_infinite());
        let decision = Vec::<i64>::try_from(nearest_centroid_probabilities(&divergence).argmax(-1, false)).expect("indices");
        assert_eq!(decision, [0, 2]);
    }
}
