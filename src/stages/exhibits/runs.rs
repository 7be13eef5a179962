//! What an exhibit reads of a run: its scores, its settings and what its training said of itself; never the predictions.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::stages::settings_of;
use crate::store::run::{self, Summary};
use crate::store::scores::{Decision, ScoreFile};

/// A run: trained, and probed where the pipeline probes.
#[derive(Debug)]
pub(super) struct Finished {
    /// Name of its folder.
    pub name: String,
    pub seed: u64,
    /// Of the training, all of them.
    settings: Value,
    /// Absent where nothing was probed.
    pub scores: Option<ScoreFile>,
    /// Of the training.
    pub train: Summary,
    pub train_folder: PathBuf,
    /// Of the probe, or of the training where nothing was probed.
    pub summary: Summary,
}

impl Finished {
    /// Reads a probe folder and the training that it names, or a training.
    ///
    /// # Errors
    /// A folder that is no finished run, or damaged.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let summary = run::summary(folder)?.with_context(|| format!("'{}' is no finished run", folder.display()))?;
        let scores = if summary.stage == "probe" { Some(ScoreFile::read(folder)?) } else { None };
        let train_folder = scores.as_ref().map_or_else(|| folder.to_owned(), |scores| folder.join(&scores.train_folder));
        let train = run::finished(&train_folder, "train")?;
        let config = settings_of(&train_folder)?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, seed: config.seed, settings: serde_json::to_value(config)?, scores, train, train_folder, summary })
    }

    /// A setting of the training by its dotted name; null if there is none.
    pub(super) fn setting(&self, key: &str) -> &Value {
        key.split('.').fold(&self.settings, |value, part| &value[part])
    }

    /// A figure of `metrics::panel`, NaN where it is undefined or the run has no such rule.
    pub(super) fn figure(&self, decision: Decision, name: &str) -> f64 {
        let decisions = self.scores.as_ref().map(|scores| &scores.decisions);
        decisions.and_then(|all| all.get(&decision)?.metrics.get(name)).map_or(f64::NAN, |figure| figure.value)
    }

    /// Classes, training and test images.
    pub(super) fn data(&self) -> [u64; 3] {
        ["classes", "train", "test"].map(|name| self.train.figures[name].as_u64().unwrap_or(0))
    }
}

/// Runs by ascending seed.
///
/// # Errors
/// Two of one seed: what chose them does not tell two recipes apart.
pub(super) fn by_seed<'a>(mut runs: Vec<&'a Finished>, what: &str) -> Result<Vec<&'a Finished>> {
    runs.sort_by_key(|run| run.seed);
    let seeds: BTreeSet<u64> = runs.iter().map(|run| run.seed).collect();
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
pub(super) fn read(folders: &[PathBuf]) -> Result<Vec<Finished>> {
    folders.iter().map(|folder| Finished::read(folder).with_context(|| format!("the run '{}'", folder.display()))).collect()
}

#[cfg(test)]
pub(super) mod made_up {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::ground::interval::Interval;
    use crate::store::scores::{DecisionScores, Figure, Information, SCHEMA, Split, SplitKind};

    /// A run with these settings, and one figure of one decision.
    pub(in super::super) fn run(seed: u64, settings: Value, decision: Decision, name: &str, value: f64) -> Finished {
        let summary = Summary {
            version: "0".into(),
            stage: "probe".into(),
            digest: format!("{seed}"),
            inputs: BTreeMap::new(),
            status: "done".into(),
            failed: BTreeMap::new(),
            seconds: 1.0,
            figures: json!({"classes": 2, "train": 4, "test": 2}),
        };
        let figure = Figure { value, undefined: None, definition: String::new() };
        let point = Interval::point(value);
        let of = DecisionScores {
            macro_f1: point,
            macro_auc: point,
            per_class_f1: vec![0.0; 2],
            confusion: vec![vec![0; 2]; 2],
            auc_classes_undefined: 0,
            metrics: BTreeMap::from([(name.to_owned(), figure)]),
        };
        let scores = ScoreFile {
            schema: SCHEMA,
            seed,
            classes: vec!["a".into(), "b".into()],
            split: Split { name: "column".into(), digest: "0".into(), kind: SplitKind::Column, fold: 0, folds: 1 },
            protocol: "strict".into(),
            waivers: Vec::new(),
            parts: BTreeMap::new(),
            labels: "true".into(),
            loss: String::new(),
            aggregator: "none".into(),
            encoder: String::new(),
            epochs: 1,
            checkpoint: "last".into(),
            group: String::new(),
            macro_f1: point,
            macro_auc: point,
            decisions: BTreeMap::from([(decision, of)]),
            selections: BTreeMap::new(),
            information: Some(Information { cmi: 0.1 * value, gamma: 1.0, ncmi: 0.1 * value, variant: "centroid".into() }),
            interval: String::new(),
            settings: Value::Null,
            inputs: BTreeMap::new(),
            slides: 2,
            patients: 2,
            train_folder: ".".into(),
            tile_folder: None,
            bag_folder: None,
        };
        let train = Summary { stage: "train".into(), ..summary.clone() };
        Finished { name: format!("run-{seed}-{value}"), seed, settings, scores: Some(scores), train, train_folder: PathBuf::new(), summary }
    }
}
