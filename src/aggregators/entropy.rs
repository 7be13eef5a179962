//! Negative entropy of attention, the regulariser of AEM.

use tch::{Kind, Tensor};

/// Σ_n α_n ln α_n of `scores [B,K,N]` (−∞ on padding), mean over branches and bags: a scalar.
///
/// From the log-soft-max, so that an attention of 0 costs no NaN. Source: AEM's released training loop.
pub(super) fn negative_entropy(scores: &Tensor, mask: &Tensor) -> Tensor {
    let log = scores.log_softmax(-1, None::<Kind>);
    let summands = log.exp() * log.masked_fill(&mask.logical_not().unsqueeze(1), 0.0);
    summands.sum_dim_intlist(-1, false, None::<Kind>).mean(None::<Kind>)
}
