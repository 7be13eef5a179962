//! Settings of NCMI.

use serde::{Deserialize, Serialize};

use crate::ground::distributions::OutputMap;
use crate::losses::Moment;

/// Settings of NCMI; the defaults are the paper's, with the temperature that the released logs favour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct NcmiSettings {
    /// How the embedding becomes a distribution.
    pub output_map: OutputMap,
    /// T: the unit-length embedding is divided by it.
    pub temperature: f64,
    /// Where the running centre starts.
    pub centring: Centring,
    /// ρ: share of the former centre kept at each step.
    pub centre_decay: f64,
    /// How per-sample terms become one number.
    pub reduction: Reduction,
    /// Where the centroid distributions Q_c start.
    pub init: Init,
    /// How they move.
    pub centroids: Centroids,
    /// In `alternating`: on which output of the model they move.
    pub centroid_update: CentroidUpdate,
    /// Learning rate of the centroids' own SGD (mode `alternating`).
    pub centroid_learning_rate: f64,
    /// Momentum of the same.
    pub centroid_momentum: f64,
    /// Share of the former centroid kept at each step (mode `ema`).
    pub centroid_decay: f64,
    /// When the centroids start to move.
    pub centroid_start: Start,
    /// Lower bound of SEP, see [`SepFloor`].
    pub sep_floor: SepFloor,
    /// How embeddings are normalised when the evaluation centroids are made.
    pub centroid_length: Length,
}

impl Default for NcmiSettings {
    fn default() -> Self {
        Self {
            output_map: OutputMap::Nsf,
            temperature: 0.2,
            centring: Centring::Sweep,
            centre_decay: 0.999999,
            reduction: Reduction::MeanOfRatios,
            init: Init::Identity,
            centroids: Centroids::Alternating,
            centroid_update: CentroidUpdate::Simultaneous,
            centroid_learning_rate: 1.0,
            centroid_momentum: 0.9,
            centroid_decay: 0.999,
            centroid_start: Start::Share(0.125),
            sep_floor: SepFloor::Auto,
            centroid_length: Length::L2,
        }
    }
}

/// Where the running centre starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Centring {
    /// No centre.
    Off,
    /// The first batch's mean, as released. Useless with one sample a step: its centred embedding is exactly 0.
    FirstBatch,
    /// Mean over training samples under the initial model, before the first step.
    Sweep,
}

/// How per-sample CMI_b and SEP_b become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduction {
    /// mean_b (CMI_b / SEP_b), the released code.
    MeanOfRatios,
    /// mean_b CMI_b / mean_b SEP_b, the literal reading of eqs 8–10.
    RatioOfMeans,
}

/// How the centroid distributions move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Centroids {
    /// By their own SGD, from `centroid-start` on (paper, eq. 10 and algorithm 1).
    Alternating,
    /// Never: what the released code does, since it detaches them.
    Fixed,
    /// Towards the mean distribution of their class's samples in each batch, as the authors' earlier CMIC-DL does.
    Ema,
}

/// On which output of the model the centroids' own SGD steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CentroidUpdate {
    /// On the one that the model steps on: one backward pass for both.
    Simultaneous,
    /// On that of the model that has just stepped, the same batch forward once more.
    GaussSeidel,
}

/// Where the centroid parameters R `[C,E]` start: each row holds 10 on some coordinates and 0 on the others, plus 1e-6, so
/// that a distribution is twice as high on its own coordinates as elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Class c owns coordinate c, as released. Needs E ≥ C.
    Identity,
    /// Class c owns E/C (rounded down) coordinates of its own. Needs E ≥ C.
    BlockCode,
    /// Each class owns a random half of the coordinates; works with fewer coordinates than classes.
    RandomCode,
}

/// From when on the centroids move.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Start {
    /// A whole number: from this epoch on, counted from 1.
    Epoch(usize),
    /// A fraction: after this share of the epochs.
    Share(f64),
}

impl Start {
    pub(super) fn has_come(self, moment: &Moment) -> bool {
        match self {
            Self::Epoch(first) => moment.epoch >= first,
            Self::Share(share) => moment.epoch as f64 > share * moment.epochs as f64,
        }
    }
}

/// With two classes SEP has one term, 0 for a sample on the wrong centroid, and the ratio explodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SepFloor {
    /// For two classes: 5 % of the smallest divergence between centroids, over C; else 1e-10.
    Auto,
    /// None, as released.
    Off,
}

/// The norm by which embeddings are divided when the evaluation centroids are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Length {
    /// As everywhere else.
    L2,
    /// L1, as the released code does by an argument in the wrong place; only to reproduce its numbers.
    L1Repo,
}
