//! Cross-entropy of a method's own classifiers, in the precision of their logits.

use tch::{Reduction, Tensor};

/// Mean of −log p_y: `logits [n,C]`, `targets [n]` → scalar.
pub(super) fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Tensor {
    logits.cross_entropy_loss(targets, None::<Tensor>, Reduction::Mean, -100, 0.0)
}

/// The same of branch classifiers, each against its bag's class: `logits [B,K,C]`, `targets [B]` → scalar.
pub(super) fn branch_cross_entropy(logits: &Tensor, targets: &Tensor) -> Tensor {
    let branches = logits.size()[1];
    cross_entropy(&logits.flatten(0, 1), &targets.repeat_interleave_self_int(branches, 0, None::<i64>))
}
