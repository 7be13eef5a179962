//! Centroid comparison (CC): the nearest class mean of the training set's output distributions, by KL(p ‖ s_c). Source: methods §1.8.

use tch::Tensor;

use crate::ground::distributions::{class_means, divergence_to_centroids, nearest_centroid_probabilities};

/// Class means of training distributions.
pub struct CentroidComparison {
    means: Tensor,
    counts: Tensor,
}

impl CentroidComparison {
    /// `log_distributions [n,m]`, `targets [n]`, C classes.
    pub fn new(log_distributions: &Tensor, targets: &Tensor, classes: usize) -> Self {
        let (means, counts) = class_means(log_distributions, targets, classes as i64);
        Self { means, counts }
    }

    /// `[n,m]` → `[n,C]`; the largest entry is the nearest centroid.
    pub fn probabilities(&self, log_distributions: &Tensor) -> Tensor {
        nearest_centroid_probabilities(&divergence_to_centroids(log_distributions, &self.means, &self.counts))
    }
}
