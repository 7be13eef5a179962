//! k nearest neighbours (kNN) by cosine on frozen embeddings: nothing is trained, so that the embedding alone is judged.
//!
//! p_c = Σ_{i ∈ N_k, y_i = c} exp(s_i/τ) / Σ_{i ∈ N_k} exp(s_i/τ), s_i the cosine to training sample i and N_k the k largest.
//! Source: Wu et al. 2018 (instance discrimination), §3.4; τ = 0.07 is theirs.

use std::cmp::Ordering;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use crate::ground::interrupt;
use crate::ground::progress::Progress;

/// Cosines that are held at once, 16 MiB of f32, unless one query alone has more training samples.
///
/// Beside them memory holds unit-length copies of the embeddings and k neighbours of 16 bytes for each query.
const COSINES_AT_ONCE: usize = 1 << 22;
/// An embedding shorter than this has no direction: its cosine to everything is 0.
const SHORTEST: f64 = 1e-12;

/// Settings of `[probe.knn]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct KnnSettings {
    /// Leave nearest neighbours out: n test and N training samples cost n·N·E operations, which is days for ImageNet on a processor.
    pub skip: bool,
    /// Candidates for k; the one with the best macro-F1 on the validation rows is taken. More than the training samples means all.
    pub grid: Vec<usize>,
    /// k where there are no validation rows.
    pub neighbours: usize,
    /// τ: cosines are divided by it before the exponential.
    pub temperature: f64,
}

impl Default for KnnSettings {
    fn default() -> Self {
        // METHOD: Wu et al. take k = 200 of ImageNet's 1.3 million images; cohorts of slides are often smaller than that.
        Self { skip: false, grid: vec![1, 5, 10, 20, 50], neighbours: 20, temperature: 0.07 }
    }
}

impl KnnSettings {
    /// The values of k to try, each once and none above `samples`: the grid, or `neighbours` where nothing can choose.
    ///
    /// # Errors
    /// A k of 0, an empty grid, a temperature that is not positive.
    pub fn candidates(&self, samples: usize, with_validation: bool) -> Result<Vec<usize>> {
        ensure!(self.temperature > 0.0, "probe.knn.temperature is {}; it must be above 0", self.temperature);
        ensure!(!self.grid.is_empty(), "probe.knn.grid is empty; give at least one k");
        ensure!(self.neighbours > 0 && !self.grid.contains(&0), "probe.knn: k is 0; give 1 or more neighbours");
        let wanted = if with_validation { self.grid.clone() } else { vec![self.neighbours] };
        let mut candidates = Vec::new();
        for k in wanted.into_iter().map(|k| k.min(samples)) {
            if !candidates.contains(&k) {
                candidates.push(k);
            }
        }
        Ok(candidates)
    }
}

/// A training sample near a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// −1 to 1.
    pub cosine: f32,
    /// Row among the training samples.
    pub row: usize,
}

/// The training samples that vote.
pub struct Knn {
    units: Tensor,
    targets: Vec<usize>,
    classes: usize,
    temperature: f64,
}

impl Knn {
    /// `embeddings [n,E]`, `targets [n]`, C classes.
    ///
    /// # Errors
    /// No embeddings, or one that is not finite.
    pub fn new(embeddings: &Tensor, targets: Vec<usize>, classes: usize, temperature: f64) -> Result<Self> {
        ensure!(!targets.is_empty(), "nearest neighbours: there are no training embeddings");
        Ok(Self { units: units(embeddings)?, targets, classes, temperature })
    }

    /// The `k` nearest training samples of each of `queries [q,E]`, nearest first; of equally near ones the first row.
    ///
    /// # Errors
    /// A query that is not finite, or an interruption.
    pub fn neighbours(&self, queries: &Tensor, k: usize) -> Result<Vec<Vec<Neighbour>>> {
        let samples = self.targets.len();
        let k = k.min(samples);
        let queries = units(queries)?;
        let mut found = Vec::with_capacity(queries.size()[0] as usize);
        let progress = Progress::new("samples", queries.size()[0] as usize);
        for block in queries.split((COSINES_AT_ONCE / samples).max(1) as i64, 0) {
            interrupt::check()?;
            let cosines = no_grad(|| block.matmul(&self.units.transpose(0, 1))).contiguous();
            let mut flat = vec![0f32; cosines.numel()];
            cosines.copy_data(&mut flat, cosines.numel());
            found.extend(flat.chunks_exact(samples).map(|row| nearest(row, k)));
            progress.add(block.size()[0] as usize, "nearest neighbours");
        }
        progress.finish();
        Ok(found)
    }

    /// Votes `[q][C]` of the first `k` neighbours of each query, as shares. A class with no neighbour has exactly 0.
    ///
    /// Between classes of equal votes the first one is decided for, as everywhere.
    pub fn probabilities(&self, neighbours: &[Vec<Neighbour>], k: usize) -> Vec<Vec<f64>> {
        neighbours.iter().map(|nearest| self.votes(&nearest[..k.min(nearest.len())])).collect()
    }

    fn votes(&self, nearest: &[Neighbour]) -> Vec<f64> {
        let mut votes = vec![0.0; self.classes];
        // The nearest one weighs 1: the shares are the same, and no temperature overflows.
        let highest = nearest.first().map_or(0.0, |first| f64::from(first.cosine));
        for neighbour in nearest {
            votes[self.targets[neighbour.row]] += ((f64::from(neighbour.cosine) - highest) / self.temperature).exp();
        }
        let sum: f64 = votes.iter().sum();
        votes.into_iter().map(|vote| vote / sum).collect()
    }
}

fn nearest(cosines: &[f32], k: usize) -> Vec<Neighbour> {
    let nearer = |a: &Neighbour, b: &Neighbour| match b.cosine.total_cmp(&a.cosine) {
        Ordering::Equal => a.row.cmp(&b.row),
        different => different,
    };
    let mut all: Vec<Neighbour> = cosines.iter().enumerate().map(|(row, &cosine)| Neighbour { cosine, row }).collect();
    if k < all.len() {
        all.select_nth_unstable_by(k, nearer);
        all.truncate(k);
    }
    all.sort_unstable_by(nearer);
    all
}

/// Rows of unit length, f32, on the CPU.
fn units(embeddings: &Tensor) -> Result<Tensor> {
    let embeddings = embeddings.detach().to_device(Device::Cpu).to_kind(Kind::Float);
    ensure!(
        embeddings.isfinite().all().int64_value(&[]) == 1,
        "nearest neighbours: an embedding is not finite; train again with a lower learning rate"
    );
    let lengths = embeddings.square().sum_dim_intlist(-1, true, None::<Kind>).sqrt().clamp_min(SHORTEST);
    Ok(embeddings / lengths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[[f32; 2]]) -> Tensor {
        Tensor::from_slice(&values.concat()).view([values.len() as i64, 2])
    }

    fn probabilities(knn: &Knn, queries: &Tensor, k: usize) -> Vec<Vec<f64>> {
        knn.probabilities(&knn.neighbours(queries, k).unwrap(), k)
    }

    #[test]
    fn votes_are_weighted_as_worked_by_hand() {
        // Cosines to [1,0]: 1, 0.8, 0, −1. At τ = 0.5 and k = 3 the weights are e², e^1.6, 1; at k = 2 class 2 has no vote.
        let training = rows(&[[2.0, 0.0], [0.4, 0.3], [0.0, 5.0], [-1.0, 0.0]]);
        let knn = Knn::new(&training, vec![0, 1, 2, 2], 3, 0.5).unwrap();
        let query = rows(&[[7.0, 0.0]]);
        let weights = [2f64.exp(), 1.6f64.exp(), 1.0];
        let found = probabilities(&knn, &query, 3);
        for (p, weight) in found[0].iter().zip(weights) {
            assert!((p - weight / weights.iter().sum::<f64>()).abs() < 1e-7, "{found:?}");
        }
        let two = probabilities(&knn, &query, 2);
        assert!((two[0][0] - 1.0 / (1.0 + (-0.4f64).exp())).abs() < 1e-7 && two[0][2] == 0.0, "{two:?}");
    }

    #[test]
    fn of_equally_near_samples_the_first_row_counts() {
        let training = rows(&[[0.0, 1.0], [3.0, 0.0], [1.0, 0.0], [2.0, 0.0]]);
        let knn = Knn::new(&training, vec![0, 1, 2, 0], 3, 0.07).unwrap();
        let found = knn.neighbours(&rows(&[[1.0, 0.0]]), 2).unwrap();
        assert_eq!(found[0].iter().map(|n| n.row).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn blocks_change_nothing() {
        tch::manual_seed(4);
        let samples = COSINES_AT_ONCE / 3;
        let training = Tensor::randn([samples as i64, 2], (Kind::Float, Device::Cpu));
        let targets = (0..samples).map(|row| row % 5).collect();
        let knn = Knn::new(&training, targets, 5, 0.07).unwrap();
        let queries = Tensor::randn([7, 2], (Kind::Float, Device::Cpu));
        let together = knn.neighbours(&queries, 10).unwrap();
        for (query, expected) in together.iter().enumerate() {
            assert_eq!(&knn.neighbours(&queries.narrow(0, query as i64, 1), 10).unwrap()[0], expected);
        }
    }

    #[test]
    fn k_is_capped_and_embeddings_that_are_not_finite_are_refused() {
        let settings = KnnSettings::default();
        assert_eq!(settings.candidates(12, true).unwrap(), [1, 5, 10, 12]);
        assert_eq!(settings.candidates(12, false).unwrap(), [12]);
        assert_eq!(settings.candidates(500, false).unwrap(), [20]);
        assert!(KnnSettings { grid: vec![0], ..settings }.candidates(5, true).unwrap_err().to_string().contains("k is 0"));
        let error = Knn::new(&rows(&[[f32::NAN, 0.0]]), vec![0], 2, 0.07).err().unwrap().to_string();
        assert!(error.contains("not finite"), "{error}");
        // Without a direction every cosine is 0: all vote alike.
        let knn = Knn::new(&rows(&[[1.0, 0.0], [0.0, 1.0]]), vec![0, 1], 2, 0.07).unwrap();
        assert_eq!(probabilities(&knn, &rows(&[[0.0, 0.0]]), 2), [[0.5, 0.5]]);
    }
}
