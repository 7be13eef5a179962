//! From a bag of tile features to one embedding.

use tch::{Kind, Tensor, nn};

pub mod abmil;
mod mean;

crate::registry! {
    /// Aggregators, by the `name` in `[train.model.aggregator]`.
    pub enum AggregatorSettings {
        "abmil" => Abmil(abmil::AbmilSettings),
        "mean" => Mean(mean::MeanSettings),
    } default "abmil"
}

impl AggregatorSettings {
    /// Builds the chosen aggregator for features of width `features` (D).
    pub fn build(&self, path: &nn::Path, features: i64) -> Box<dyn Aggregator> {
        match self {
            Self::Abmil(settings) => Box::new(settings.build(path, features)),
            Self::Mean(settings) => Box::new(settings.build(path, features)),
        }
    }
}

/// What an aggregator makes of a batch of bags.
pub struct Pooled {
    /// `[B,E]`
    pub embedding: Tensor,
    /// `[B,K,N]`, each row sums to 1 over the bag's tiles and is 0 on padding; `None` where every tile counts the same.
    pub attention: Option<Tensor>,
    /// The same before the soft-max, −∞ on padding.
    pub scores: Option<Tensor>,
}

/// Pools bags. The order of tiles and the amount of padding change no embedding; N = 1 works, N = 0 is refused where bags are read.
pub trait Aggregator: Send {
    /// `bags [B,N,D]`, `mask [B,N]` bool, true where a tile is. `train` switches dropout.
    fn pool(&self, bags: &Tensor, mask: &Tensor, train: bool) -> Pooled;

    /// E
    fn width(&self) -> i64;
}

/// Soft-max over tiles: `scores [B,K,N]`, `mask [B,N]` → attention (0 on padding) and masked scores.
fn attend(scores: Tensor, mask: &Tensor) -> (Tensor, Tensor) {
    let scores = scores.masked_fill(&mask.logical_not().unsqueeze(1), f64::NEG_INFINITY);
    (scores.softmax(-1, None::<Kind>), scores)
}
