//! What an exhibit reads of a run: its scores, its settings and what its training said of itself; never the predictions.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::store::run::{self, Summary};
use crate::store::scores::{Decision, ScoreFile};

/// A probed run.
#[derive(Debug)]
pub(super) struct Finished {
    /// Name of the probe's folder.
    pub name: String,
    pub scores: ScoreFile,
    /// Of the training.
    pub train: Summary,
    pub train_folder: PathBuf,
    /// Of the probe.
    pub digest: String,
    /// Of the program that probed.
    pub version: String,
}

impl Finished {
    /// Reads a probe folder and the summary of the training that it names.
    ///
    /// # Errors
    /// A folder that is no finished run, or damaged.
    pub(super) fn read(probe: &Path) -> Result<Self> {
        let summary = run::finished(probe, "probe")?;
        let scores = ScoreFile::read(probe)?;
        let train_folder = probe.join(&scores.train_folder);
        let train = run::finished(&train_folder, "train")?;
        let name = probe.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, scores, train, train_folder, digest: summary.digest, version: summary.version })
    }

    /// A setting of the training by its dotted name; null if there is none.
    pub(super) fn setting(&self, key: &str) -> &Value {
        key.split('.').fold(&self.scores.settings["train"], |value, part| &value[part])
    }

    /// A figure of `metrics::panel`, NaN where it is undefined or the run has no such rule.
    pub(super) fn figure(&self, decision: Decision, name: &str) -> f64 {
        self.scores.decisions.get(&decision).and_then(|of| of.metrics.get(name)).map_or(f64::NAN, |figure| figure.value)
    }
}

/// Runs by ascending seed.
///
/// # Errors
/// Two of one seed: what chose them does not tell two recipes apart.
pub(super) fn by_seed<'a>(mut runs: Vec<&'a Finished>, what: &str) -> Result<Vec<&'a Finished>> {
    runs.sort_by_key(|run| run.scores.seed);
    let seeds: BTreeSet<u64> = runs.iter().map(|run| run.scores.seed).collect();
    let names = || runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ");
    ensure!(
        seeds.len() == runs.len(),
        "[page.exhibit]: '{what}' names several runs of one seed, which differ in a setting that its `where` leaves open: {}",
        names()
    );
    Ok(runs)
}

/// Reads every folder.
///
/// # Errors
/// As [`Finished::read`].
pub(super) fn read(probes: &[PathBuf]) -> Result<Vec<Finished>> {
    probes.iter().map(|probe| Finished::read(probe).with_context(|| format!("the run '{}'", probe.display()))).collect()
}
