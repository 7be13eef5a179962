//! From a bag of tile features to one embedding. `docs/aggregators.md` has what each method is and where it departs from its source.

use anyhow::{Result, ensure};
use tch::{Kind, Tensor, nn};

pub mod abmil;
pub mod acmil;
pub mod aem;
pub mod asmil;
pub mod branches;
pub mod clam;
pub mod dsmil;
pub mod dtfd;
mod entropy;
mod gated;
mod likelihood;
pub mod max;
pub mod mean;
mod multi_head;
mod nystrom;
mod ragged;
pub mod released;
pub mod transmil;

crate::registry! {
    /// Aggregators, by the `name` in `[train.model.aggregator]`.
    pub enum AggregatorSettings {
        "abmil" => Abmil(abmil::AbmilSettings),
        "aem" => Aem(aem::AemSettings),
        "acmil" => Acmil(acmil::AcmilSettings),
        "asmil" => Asmil(asmil::AsmilSettings),
        "clam-sb" => ClamSb(clam::ClamSettings),
        "clam-mb" => ClamMb(clam::ClamSettings),
        "dsmil" => Dsmil(dsmil::DsmilSettings),
        "dtfd" => Dtfd(dtfd::DtfdSettings),
        "max" => Max(max::MaxSettings),
        "mean" => Mean(mean::MeanSettings),
        "transmil" => TransMil(transmil::TransMilSettings),
    } default "abmil"
}

impl AggregatorSettings {
    /// Builds the chosen aggregator for features of width `features` (D) and `classes` (C).
    ///
    /// # Errors
    /// A setting out of its range.
    pub fn build(&self, path: &nn::Path, features: i64, classes: i64) -> Result<Box<dyn Aggregator>> {
        ensure!(features >= 1, "{} needs features of at least 1 coordinate, the bags have {features}", self.name());
        ensure!(classes >= 2, "{} needs at least 2 classes, the labels have {classes}", self.name());
        Ok(match self {
            Self::Abmil(settings) => Box::new(settings.build(path, features)),
            Self::Aem(settings) => Box::new(settings.build(path, features)?),
            Self::Acmil(settings) => Box::new(settings.build(path, features, classes)?),
            Self::Asmil(settings) => Box::new(settings.build(path, features, classes)?),
            Self::ClamSb(settings) => Box::new(settings.build_single(path, features, classes)?),
            Self::ClamMb(settings) => Box::new(settings.build_multi(path, features, classes)?),
            Self::Dsmil(settings) => Box::new(settings.build(path, features, classes)?),
            Self::Dtfd(settings) => Box::new(settings.build(path, features, classes)?),
            Self::Max(settings) => Box::new(settings.build(path, features, classes)),
            Self::Mean(settings) => Box::new(settings.build(path, features)),
            Self::TransMil(settings) => Box::new(settings.build(path, features)?),
        })
    }
}

/// A named scalar, already weighted, that training adds to the objective.
pub type Term = (&'static str, Tensor);

/// What an aggregator makes of a batch of bags.
pub struct Pooled {
    /// `[B,E]`
    pub embedding: Tensor,
    /// `[B,K,N]`, each row sums to 1 over the bag's tiles and is 0 on padding; `None` where every tile counts the same.
    pub attention: Option<Tensor>,
    /// The same before the soft-max, −∞ on padding; `None` where the attention is no soft-max of one score a tile.
    pub scores: Option<Tensor>,
    /// The method's own terms; empty without targets.
    pub terms: Vec<Term>,
}

/// Pools bags. The amount of padding changes nothing; N = 1 works, a bag without tiles is a bug of the caller.
pub trait Aggregator: Send {
    /// `bags [B,N,D]`, `mask [B,N]` bool, true where a tile is. `train` switches dropout and whatever else is random.
    /// With `targets [B]`, class indices, the method's own terms of the objective are computed too.
    fn pool_filled(&self, bags: &Tensor, mask: &Tensor, train: bool, targets: Option<&Tensor>) -> Pooled;

    /// [`Aggregator::pool_filled`], which a bag without tiles never reaches.
    ///
    /// # Panics
    /// On a bag without tiles; datasets refuse it by its id.
    fn pool(&self, bags: &Tensor, mask: &Tensor, train: bool, targets: Option<&Tensor>) -> Pooled {
        let filled = mask.any_dim(1, false);
        let empty = filled.logical_not().nonzero().flatten(0, -1);
        assert!(empty.numel() == 0, "bag {} of the batch has no tiles; an aggregator needs at least 1", empty.int64_value(&[0]));
        self.pool_filled(bags, mask, train, targets)
    }

    /// E
    fn width(&self) -> i64;

    /// What the objective is multiplied with before the terms are added.
    fn objective_weight(&self) -> f64 {
        1.0
    }

    /// Before a step; `passed` is the share of all epochs that is done, in `[0,1)`.
    fn before_step(&mut self, _passed: f64) {}

    /// After the optimiser's step: moves what follows the parameters.
    fn after_step(&mut self) {}
}

/// Soft-max over tiles: `scores [B,K,N]`, `mask [B,N]` → attention (0 on padding) and masked scores.
fn attend(scores: Tensor, mask: &Tensor) -> (Tensor, Tensor) {
    let scores = scores.masked_fill(&mask.logical_not().unsqueeze(1), f64::NEG_INFINITY);
    (scores.softmax(-1, None::<Kind>), scores)
}
