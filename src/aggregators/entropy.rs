//! Negative entropy of attention, the regulariser of AEM.

use tch::{Kind, Tensor};

/// Σ_n α_n ln α_n of `scores [B,K,N]` (−∞ on padding), mean over branches and bags: a scalar.
///
/// From the log-soft-max, so that an attention of 0 costs no NaN. Source: AEM's released training loop.
pub(super) fn negative_entropy(scores: &Tensor, mask: &Tensor) -> Tensor {
    let log = at_least_single(scores).log_softmax(-1, None::<Kind>);
    let summands = log.exp() * log.masked_fill(&mask.logical_not().unsqueeze(1), 0.0);
    summands.sum_dim_intlist(-1, false, None::<Kind>).mean(None::<Kind>)
}

/// In f32 where mixed precision computed in less: terms of an objective are sums of many small numbers.
pub(super) fn at_least_single(tensor: &Tensor) -> Tensor {
    match tensor.kind() {
        Kind::Half | Kind::BFloat16 => tensor.to_kind(Kind::Float),
        _ => tensor.shallow_clone(),
    }
}
