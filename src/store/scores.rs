//! `scores.json`: what `wsi probe` says of one trained model, and all that `wsi report` reads of it.
//!
//! Folders are named relative to the probe's own folder, so that a tree of runs can be moved or copied as a whole.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{digest, files};
use crate::ground::interval::{Interval, null_is_nan};

/// The file's name inside a probe folder.
pub const FILE: &str = "scores.json";

/// The layout below; a reader refuses a newer one. Files of layout 1 have no `metrics` and no `selections` and are read without them.
pub const SCHEMA: u32 = 2;

/// How an embedding becomes a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Linear probe: a linear classifier fitted to the frozen embeddings of the training set.
    Lp,
    /// The objective's own rule: soft-max head for cross-entropy, nearest trained centroid for NCMI.
    Own,
    /// Centroid comparison: the nearest class mean of the training set's output distributions.
    Cc,
    /// Nearest neighbours: the votes of the nearest frozen embeddings of the training set, by cosine.
    Knn,
}

impl Decision {
    /// Every rule, in the order in which results are shown.
    pub const ALL: [Self; 4] = [Self::Lp, Self::Own, Self::Cc, Self::Knn];

    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lp => "lp",
            Self::Own => "own",
            Self::Cc => "cc",
            Self::Knn => "knn",
        }
    }

    /// The rule called `name` in files.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|decision| decision.name() == name)
    }
}

/// How the cohort was divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SplitKind {
    /// Each of `folds` parts is the test set once.
    KFold,
    /// One test set, drawn once.
    Holdout,
    /// The test set is named by a column of the labels table (a centre, an official split).
    Column,
    /// Each value of a column (a centre) is the test set once; pooled as folds are.
    LeaveOneOut,
    /// A test set drawn anew in each of `folds` repeats; averaged as seeds are, never pooled.
    MonteCarlo,
    /// The parts are named by a file; `folds` files with disjoint test sets are pooled.
    File,
}

/// Which division a model was trained and tested on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// In words: `4-fold by patient, fold 0 of 4, seed 0`.
    pub name: String,
    /// Digest of the split file.
    pub digest: String,
    /// How it was made.
    pub kind: SplitKind,
    /// Which part was tested or which draw this is, from 0; 0 where there is one.
    pub fold: usize,
    /// Number of parts or draws; 1 where there is one test set.
    pub folds: usize,
}

/// One number of a scored test set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// NaN where undefined.
    #[serde(deserialize_with = "null_is_nan")]
    pub value: f64,
    /// Why it is undefined; absent where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undefined: Option<String>,
    /// What it is, in one line: label set, ties, bins.
    pub definition: String,
}

/// Scores of one decision rule on the test set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecisionScores {
    /// Mean of the per-class F1 over the classes that occur in labels or predictions.
    pub macro_f1: Interval,
    /// Mean of the one-vs-rest areas under the ROC curve over the classes for which it is defined.
    pub macro_auc: Interval,
    /// `[C]`; 0 for a class that neither occurs nor is predicted.
    pub per_class_f1: Vec<f64>,
    /// `[C][C]`, rows are labels, columns predictions.
    pub confusion: Vec<Vec<u64>>,
    /// Classes left out of `macro_auc` because the test set has none of them, or nothing else.
    #[serde(default)]
    pub auc_classes_undefined: usize,
    /// Everything else there is to say of the test set, by name.
    #[serde(default)]
    pub metrics: BTreeMap<String, Figure>,
}

/// What a probe with hyper-parameters chose, and on what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// The chosen values by name.
    pub chosen: BTreeMap<String, f64>,
    /// How many candidates were tried.
    pub candidates: usize,
    /// What chose, in words; never the test rows.
    pub by: String,
    /// Macro-F1 of the chosen candidate on the validation rows; absent where there are none.
    #[serde(default)]
    pub validation_macro_f1: Option<f64>,
}

/// How concentrated the output distributions are within classes and how far apart between them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Information {
    /// Conditional mutual information, nats.
    #[serde(deserialize_with = "null_is_nan")]
    pub cmi: f64,
    /// Separation of the classes Γ, nats.
    #[serde(deserialize_with = "null_is_nan")]
    pub gamma: f64,
    /// CMI / Γ; NaN where Γ is 0.
    #[serde(deserialize_with = "null_is_nan")]
    pub ncmi: f64,
    /// Which definition of Γ: `centroid`, `pair_ce` or `pair_kl`.
    pub variant: String,
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoreFile {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Seed of the training run.
    pub seed: u64,
    /// Class names in index order.
    pub classes: Vec<String>,
    /// The division of the cohort.
    pub split: Split,
    /// By which rules the run was made: `strict`, or `paper` (the lineage's: the best validated epoch, no verdict by intervals).
    #[serde(default = "strict")]
    pub protocol: String,
    /// Leaks between the parts that were found and allowed: what, how many, and the reason that was given.
    #[serde(default)]
    pub waivers: Vec<String>,
    /// Slides of each class `[C]` in `train`, `valid` and `test`; empty in files that did not say so yet.
    #[serde(default)]
    pub parts: BTreeMap<String, Vec<usize>>,
    /// `true`, or how the labels were shuffled.
    pub labels: String,
    /// Objective.
    pub loss: String,
    /// Bag model.
    pub aggregator: String,
    /// Frozen network behind the bags.
    pub encoder: String,
    /// Passes over the training set.
    pub epochs: usize,
    /// Which checkpoint was probed: `last` or `best` (on the validation set).
    pub checkpoint: String,
    /// The sweep's label for runs that differ in fold and seed only; empty for a single run.
    #[serde(default)]
    pub group: String,
    /// Of the linear probe.
    pub macro_f1: Interval,
    /// Of the linear probe.
    pub macro_auc: Interval,
    /// Scores by decision rule.
    pub decisions: BTreeMap<Decision, DecisionScores>,
    /// What the probes with hyper-parameters chose, by decision rule.
    #[serde(default)]
    pub selections: BTreeMap<Decision, Selection>,
    /// Absent where the model has no output distribution.
    #[serde(default)]
    pub information: Option<Information>,
    /// How the intervals were made, in words.
    pub interval: String,
    /// The whole resolved configuration.
    pub settings: Value,
    /// Digest of each input by its role.
    pub inputs: BTreeMap<String, String>,
    /// Slides in the test set.
    pub slides: usize,
    /// Patients in the test set.
    pub patients: usize,
    /// The training run's folder, relative to this file's folder.
    pub train_folder: String,
    /// The tiling run's folder, relative to this file's folder; absent for bags from elsewhere and for images.
    #[serde(default)]
    pub tile_folder: Option<String>,
    /// The folder of the bags, relative to this file's folder; absent for images and in files that did not say so yet.
    #[serde(default)]
    pub bag_folder: Option<String>,
}

/// Takes out what repeats of a recipe differ in.
fn strip(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !["seed", "fold", "repeat"].contains(&key.as_str()));
            map.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

/// What files were before they said so.
fn strict() -> String {
    "strict".to_owned()
}

impl ScoreFile {
    /// Digest of the settings without any key called `seed`, `fold` or `repeat`: runs of one recipe have the same.
    ///
    /// # Errors
    /// None in practice: settings are plain data.
    pub fn recipe(&self) -> Result<String> {
        let mut settings = self.settings.clone();
        strip(&mut settings);
        digest::settings(&settings)
    }

    /// Writes `scores.json` into a probe folder.
    ///
    /// # Errors
    /// Names the file.
    pub fn write(&self, folder: &Path) -> Result<()> {
        files::write_bytes(&folder.join(FILE), (serde_json::to_string_pretty(self)? + "\n").as_bytes())
    }

    /// Reads `scores.json` of a probe folder.
    ///
    /// # Errors
    /// Names the file: unreadable, damaged, of a newer layout, or not in agreement with itself.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read '{}'", path.display()))?;
        let scores: Self = serde_json::from_str(&text)
            .with_context(|| format!("'{}' is damaged or no score file of this program; run `wsi probe` again", path.display()))?;
        if scores.schema > SCHEMA {
            bail!("'{}' has layout {}, this program reads up to {SCHEMA}; use the newer program", path.display(), scores.schema);
        }
        let count = scores.classes.len();
        for (decision, of) in &scores.decisions {
            if of.per_class_f1.len() != count || of.confusion.len() != count || of.confusion.iter().any(|row| row.len() != count) {
                bail!("'{}': decision '{}' does not have {count} classes; run `wsi probe` again", path.display(), decision.name());
            }
        }
        if scores.split.fold >= scores.split.folds {
            bail!("'{}': fold {} of {} folds; folds count from 0", path.display(), scores.split.fold, scores.split.folds);
        }
        Ok(scores)
    }
}
