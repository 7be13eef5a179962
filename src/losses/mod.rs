//! Objectives: what a model is trained for, and how its output is then read as probabilities.
//!
//! `docs/losses.md` has the formula, the source and the known discrepancies of each.

use anyhow::Result;
use tch::{Tensor, nn};

use crate::ground::batch::Output;

pub mod anticlass;
pub mod cross_entropy;
pub mod focal;
pub mod label_smoothing;
mod logits;
pub mod ncmi;
pub mod opl;
pub mod poly;
pub mod square;
pub mod squentropy;
pub mod supcon;

use logits::OnLogits;

crate::registry! {
    /// Losses, by the `name` in `[train.loss]`.
    pub enum LossSettings {
        "cross-entropy" => CrossEntropy(cross_entropy::CrossEntropySettings),
        "label-smoothing" => LabelSmoothing(label_smoothing::LabelSmoothingSettings),
        "focal" => Focal(focal::FocalSettings),
        "poly" => Poly(poly::PolySettings),
        "squentropy" => Squentropy(squentropy::SquentropySettings),
        "square" => Square(square::SquareSettings),
        "anticlass" => Anticlass(anticlass::AnticlassSettings),
        "supcon" => SupCon(supcon::SupConSettings),
        "opl" => Opl(opl::OplSettings),
        "ncmi" => Ncmi(ncmi::NcmiSettings),
    } default "ncmi"
}

impl LossSettings {
    /// Builds the chosen loss.
    ///
    /// # Errors
    /// A setting out of its range; fewer than two classes; an embedding too narrow for the classes.
    pub fn build(&self, site: &Site) -> Result<Box<dyn Loss>> {
        anyhow::ensure!(site.classes >= 2, "{} needs at least 2 classes, the labels have {}", self.name(), site.classes);
        match self {
            Self::CrossEntropy(settings) => OnLogits::build(settings),
            Self::LabelSmoothing(settings) => OnLogits::build(settings),
            Self::Focal(settings) => OnLogits::build(settings),
            Self::Poly(settings) => OnLogits::build(settings),
            Self::Squentropy(settings) => OnLogits::build(settings),
            Self::Square(settings) => OnLogits::build(settings),
            Self::Anticlass(settings) => OnLogits::build(settings),
            Self::SupCon(settings) => settings.build(site),
            Self::Opl(settings) => OnLogits::build(settings),
            Self::Ncmi(settings) => settings.build(site),
        }
    }

    /// What the model puts on top of the embedding for this loss.
    pub fn head(&self) -> Head {
        match self {
            Self::Ncmi(_) => Head::None,
            Self::SupCon(settings) => Head::Contrast { width: settings.head_width },
            _ => Head::Classes,
        }
    }
}

/// What a model puts on top of the embedding while it is trained; probes never see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// Nothing: the loss works on the embedding.
    None,
    /// A linear layer to C logits.
    Classes,
    /// Linear–ReLU–Linear to vectors of this width, for contrasting.
    Contrast {
        /// Coordinates of a vector.
        width: i64,
    },
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
#[derive(Debug)]
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
///
/// Every loss works in f32 or f64 whatever the kind of the output it gets: half precision loses the digits it lives on.
pub trait Loss: Send {
    /// Random views of each sample that a training batch holds: with 2, rows `[0,B)` are the first view and `[B,2B)` the second.
    fn views(&self) -> usize {
        1
    }

    /// Called once before the first step with embeddings `[n,E]` of training samples under the initial model, no gradient.
    fn start(&mut self, _embeddings: &Tensor) {}

    /// Whether [`Loss::start`] wants embeddings.
    fn wants_start(&self) -> bool {
        false
    }

    /// The training loss of a batch; `targets [B]` are class indices. May update running state (a centre).
    fn forward(&mut self, output: &Output, targets: &Tensor) -> Terms;

    /// After the optimiser's step: update the loss's own parameters, if it has any.
    fn step(&mut self, _moment: &Moment) {}

    /// Whether [`Loss::revise`] wants the same batch again after the optimiser's step.
    fn wants_revision(&self, _moment: &Moment) -> bool {
        false
    }

    /// In place of [`Loss::step`], with the stepped model's output of the same batch, no gradient to the model.
    fn revise(&mut self, _output: &Output, _targets: &Tensor, _moment: &Moment) {}

    /// Logarithm of the output distribution, `[B,m]`: what CMI, Γ and centroid comparison are computed on.
    fn log_distribution(&self, output: &Output) -> Tensor;

    /// Once per epoch, after it: output and targets `[n]` of the whole training set in evaluation mode, without gradient.
    fn refresh(&mut self, _swept: &Output, _targets: &Tensor) {}

    /// Whether [`Loss::probabilities`] needs [`Loss::refresh`].
    fn wants_refresh(&self) -> bool {
        false
    }

    /// Whether the objective's own rule is centroid comparison on its output distribution, so that it is no third rule.
    fn decides_by_centroids(&self) -> bool {
        false
    }

    /// Class probabilities `[B,C]` by the objective's own decision rule.
    fn probabilities(&self, output: &Output) -> Tensor;
}

/// f64 stays, everything else becomes f32.
fn full_precision(tensor: &Tensor) -> Tensor {
    if tensor.kind() == tch::Kind::Double { tensor.shallow_clone() } else { tensor.to_kind(tch::Kind::Float) }
}
