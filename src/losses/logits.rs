//! What the losses on logits share: the soft-max decides, and is the output distribution.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::{Loss, Terms, full_precision};
use crate::ground::batch::Output;

/// A loss that is a function of logits and, for some, of the embedding beneath.
pub(super) trait Objective: Clone + Send + 'static {
    /// Refuses settings out of their range.
    ///
    /// # Errors
    /// Names the setting and its value.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// `logits [B,C]`, `embedding [B,E]`, `targets [B]`; the mean over the batch.
    fn terms(&self, logits: &Tensor, embedding: &Tensor, targets: &Tensor) -> Terms;
}

/// Makes an [`Objective`] a [`Loss`].
pub(super) struct OnLogits<T>(T);

impl<T: Objective> OnLogits<T> {
    pub(super) fn build(objective: &T) -> Result<Box<dyn Loss>> {
        objective.check()?;
        Ok(Box::new(Self(objective.clone())))
    }
}

impl<T: Objective> Loss for OnLogits<T> {
    fn forward(&mut self, output: &Output, targets: &Tensor) -> Terms {
        self.0.terms(&logits(output), &full_precision(&output.embedding), targets)
    }

    fn log_distribution(&self, output: &Output) -> Tensor {
        logits(output).log_softmax(-1, None::<Kind>)
    }

    fn probabilities(&self, output: &Output) -> Tensor {
        self.log_distribution(output).exp()
    }
}

fn logits(output: &Output) -> Tensor {
    full_precision(output.head.as_ref().expect("a model trained on logits is built with a classification head"))
}

/// log p_y of each sample `[B]`, p the soft-max of `logits [B,C]`.
pub(super) fn log_probability_of(logits: &Tensor, targets: &Tensor) -> Tensor {
    own(&logits.log_softmax(-1, None::<Kind>), targets)
}

/// The entry of each row's label: `values [B,C]`, `targets [B]` → `[B]`.
pub(super) fn own(values: &Tensor, targets: &Tensor) -> Tensor {
    values.gather(1, &targets.unsqueeze(1), false).squeeze_dim(1)
}

/// The mean over the batch.
pub(super) fn mean(values: &Tensor) -> Tensor {
    values.mean(None::<Kind>)
}
