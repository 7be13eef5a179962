//! How frozen embeddings are judged: a linear probe, nearest neighbours, and the comparison with class centroids.

use serde::{Deserialize, Serialize};

use crate::metrics::bootstrap::{Bounds, RESAMPLES};

pub mod centroid;
pub mod decide;
pub mod knn;
pub mod linear;
mod selection;

/// Settings of `[probe]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProbeSettings {
    /// Which model is judged.
    pub checkpoint: Checkpoint,
    /// Name of the comparison that this run belongs to; runs of one group differ in fold and seed only.
    pub group: String,
    /// Resamples of the bootstrap.
    pub resamples: usize,
    /// How the bounds of intervals are read off the resamples.
    pub interval: Bounds,
    /// Whether predictions.csv holds the probability of every class, which `wsi report` needs; for many classes and many images they are
    /// gigabytes. Scores are the same without them.
    pub keep_probabilities: bool,
    /// The linear probe.
    pub linear: linear::LinearProbeSettings,
    /// Nearest neighbours.
    pub knn: knn::KnnSettings,
}

impl Default for ProbeSettings {
    fn default() -> Self {
        Self {
            checkpoint: Checkpoint::Best,
            group: String::new(),
            resamples: RESAMPLES,
            interval: Bounds::Percentile,
            keep_probabilities: true,
            linear: linear::LinearProbeSettings::default(),
            knn: knn::KnnSettings::default(),
        }
    }
}

/// Which model is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checkpoint {
    /// The best on the validation rows; the last where there are none.
    Best,
    /// The last epoch's.
    Last,
}
