//! Objectives: what a model is trained for, and how its output is then read as probabilities.

use anyhow::Result;
use tch::{Tensor, nn};

use crate::ground::batch::Output;

mod cross_entropy;
pub mod ncmi;

crate::registry! {
    /// Losses, by the `name` in `[train.loss]`.
    pub enum LossSettings {
        "cross-entropy" => CrossEntropy(cross_entropy::CrossEntropySettings),
        "ncmi" => Ncmi(ncmi::NcmiSettings),
    } default "ncmi"
}

impl LossSettings {
    /// Builds the chosen loss.
    ///
    /// # Errors
    /// A loss that cannot work with this number of classes or this embedding width.
    pub fn build(&self, site: &Site) -> Result<Box<dyn Loss>> {
        match self {
            Self::CrossEntropy(settings) => settings.build(site),
            Self::Ncmi(settings) => settings.build(site),
        }
    }

    /// Whether the model needs a classification head (`logits`).
    pub fn needs_head(&self) -> bool {
        matches!(self, Self::CrossEntropy(_))
    }
}

/// Where a loss is built.
pub struct Site<'a> {
    /// The loss's own tensors live here, under `loss`, in the same store as the model's: a checkpoint needs no special case.
    pub path: nn::Path<'a>,
    /// C
    pub classes: i64,
    /// E
    pub width: i64,
}

/// A loss value and what it is made of.
pub struct Terms {
    /// Scalar to go backward from.
    pub total: Tensor,
    /// Named parts for the log, without gradient.
    pub parts: Vec<(&'static str, Tensor)>,
}

/// Where training stands.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Current epoch, from 1.
    pub epoch: usize,
    /// Epochs in all.
    pub epochs: usize,
    /// Current learning rate as a share of the initial one.
    pub rate_share: f64,
}

/// An objective. Implementors never touch the model's parameters: those are the optimiser's.
pub trait Loss: Send {
    /// Called once before the first step with embeddings `[n,E]` of training samples under the initial model, no gradient.
    fn start(&mut self, _embeddings: &Tensor) {}

    /// Whether [`Loss::start`] wants embeddings.
    fn wants_start(&self) -> bool {
        false
    }

    /// The training loss of a batch; `targets [B]` are class indices. May update running state (a centre).
    fn forward(&mut self, output: &Output, targets: &Tensor) -> Terms;

    /// After backward: update the loss's own parameters, if it has any.
    fn step(&mut self, _moment: &Moment) {}

    /// Logarithm of the output distribution, `[B,m]`: what CMI, Γ and centroid comparison are computed on.
    fn log_distribution(&self, output: &Output) -> Tensor;

    /// Once per epoch, after it: output and targets `[n]` of the whole training set in evaluation mode, without gradient.
    fn refresh(&mut self, _swept: &Output, _targets: &Tensor) {}

    /// Whether [`Loss::probabilities`] needs [`Loss::refresh`].
    fn wants_refresh(&self) -> bool {
        false
    }

    /// Class probabilities `[B,C]` by the objective's own decision rule.
    fn probabilities(&self, output: &Output) -> Tensor;
}
