//! `pooled.json`: the report's table for machines: one row per recipe and decision rule over all folds and seeds.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::files;
use super::scores::{Decision, Information};
use crate::ground::interval::{Interval, null_is_nan};

/// The file's name inside a report folder.
pub const FILE: &str = "pooled.json";

/// One recipe under one decision rule. Each slide counts once per repeat: out-of-fold predictions are pooled, then scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The sweep's label; may be empty.
    pub group: String,
    /// Objective.
    pub loss: String,
    /// Bag model.
    pub aggregator: String,
    /// Frozen network behind the bags.
    pub encoder: String,
    /// `true`, or how the labels were shuffled.
    pub labels: String,
    /// The division in words, without fold and seed.
    pub split: String,
    /// Passes over the training set; 0 is an untrained model.
    pub epochs: usize,
    /// `last` or `best`.
    pub checkpoint: String,
    /// `strict`, or `paper` for the published scripts' rules, without intervals.
    pub protocol: String,
    /// The decision rule.
    pub decision: Decision,
    /// Mean over repeats of the macro-F1 of the pooled predictions.
    pub macro_f1: Interval,
    /// Mean over repeats of the macro-AUC of the pooled predictions.
    pub macro_auc: Interval,
    /// Macro-F1 of each repeat, in the order of `repeats`.
    pub macro_f1_per_repeat: Vec<f64>,
    /// Their standard deviation, apart from the interval, which is about patients; NaN with one repeat.
    #[serde(deserialize_with = "null_is_nan")]
    pub macro_f1_sd_over_seeds: f64,
    /// Mean over repeats.
    pub accuracy: f64,
    /// Mean over repeats.
    pub balanced_accuracy: f64,
    /// `[C]`, mean over repeats.
    pub per_class_f1: Vec<f64>,
    /// `[C][C]`, rows are labels, summed over repeats.
    pub confusion: Vec<Vec<u64>>,
    /// Classes without an AUC: none of the test slides, or all of them, are theirs.
    pub auc_classes_undefined: usize,
    /// Mean over runs of CMI, Γ and NCMI; absent where no run measured them.
    pub information: Option<Information>,
    /// Class names in index order.
    pub classes: Vec<String>,
    /// The repeats: `seed 0`, or `seed 0, stream 3` for shuffled labels.
    pub repeats: Vec<String>,
    /// Number of repeats.
    pub seeds: usize,
    /// Folds found, the fewest of any repeat.
    pub folds: usize,
    /// Folds of the division.
    pub folds_expected: usize,
    /// Different slides tested.
    pub slides: usize,
    /// Different patients tested.
    pub patients: usize,
}

/// Two recipes on the same slides, in the same folds and seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// What is compared, for example `NCMI-LP`.
    pub first: String,
    /// Against what, for example `CE+LP`.
    pub second: String,
    /// The sweep's labels of both.
    pub groups: [String; 2],
    /// Bag model of both; `none` for images.
    pub aggregator: String,
    /// Where: division, bag model, encoder.
    pub setting: String,
    /// Of the first, on the slides that both have.
    pub first_macro_f1: f64,
    /// Of the second, on the slides that both have.
    pub second_macro_f1: f64,
    /// First minus second, absolute.
    pub macro_f1: Interval,
    /// First minus second, absolute.
    pub macro_auc: Interval,
    /// Two-sided, of the macro-F1, by permuting patients; NaN where the difference is undefined.
    #[serde(deserialize_with = "null_is_nan")]
    pub p: f64,
    /// As `p`, corrected for the comparisons in the file as [`Pooled::test`] says.
    #[serde(deserialize_with = "null_is_nan")]
    pub p_adjusted: f64,
    /// Exchanges of patients behind `p`, the data as they are included.
    pub arrangements: usize,
    /// Whether these are all there are.
    pub exact: bool,
    /// Repeats that both have.
    pub seeds: usize,
    /// Different slides in both.
    pub slides: usize,
    /// Different patients in both.
    pub patients: usize,
}

/// How far the attention of a recipe's models agrees with what people drew; means over slides and seeds, whole patients resampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    /// The recipe: `NCMI`.
    pub recipe: String,
    /// Where: division, bag model, encoder.
    pub setting: String,
    /// Per-slide area under the ROC curve of attention, tiles inside against tiles outside.
    pub auroc: Interval,
    /// Per-slide average precision of the same.
    pub average_precision: Interval,
    /// Share of slides with a drawing whose tile of highest attention is inside.
    pub pointing: Interval,
    /// Mean over runs of the FROC score; NaN where no run has one.
    #[serde(deserialize_with = "null_is_nan")]
    pub froc: f64,
    /// Seeds of the models.
    pub seeds: usize,
    /// Different slides with tiles inside what was drawn, and outside.
    pub slides: usize,
    /// Different patients of these.
    pub patients: usize,
}

/// The attention of two recipes on the same slides, in the same folds and seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttentionDifference {
    /// The one: `NCMI`.
    pub first: String,
    /// The other: `CE`.
    pub second: String,
    /// Where: division, bag model, encoder.
    pub setting: String,
    /// Mean per-slide AUROC of the first, where both are defined.
    pub first_auroc: f64,
    /// As `first_auroc`, of the second.
    pub second_auroc: f64,
    /// First minus second, absolute.
    pub auroc: Interval,
    /// Seeds that both have.
    pub seeds: usize,
    /// Different slides that both looked at.
    pub slides: usize,
    /// Different patients of these.
    pub patients: usize,
}

/// How many slides of each class stand in each part of a division.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    /// The division, of the first run: `4-fold by patient, fold 0 of 4, seed 0`.
    pub split: String,
    /// Digest of who is in which part.
    pub digest: String,
    /// Class names in index order.
    pub classes: Vec<String>,
    /// Slides of each class `[C]` in `train`, `valid` and `test`.
    pub counts: std::collections::BTreeMap<String, Vec<usize>>,
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pooled {
    /// Layout, 4.
    pub schema: u32,
    /// The verdict in one sentence.
    pub verdict: String,
    /// How the intervals were made.
    pub interval: String,
    /// How the p values were made and corrected; empty without comparisons.
    pub test: String,
    /// In the order in which they are shown.
    pub rows: Vec<Row>,
    /// The question's comparison first.
    pub differences: Vec<Difference>,
    /// Checks that were switched off, by division, each with its reason.
    pub waivers: Vec<String>,
    /// How many slides of each class stand in each part, a division each.
    pub cohorts: Vec<Parts>,
    /// Of heatmap runs; absent in files of before layout 4.
    #[serde(default)]
    pub attention: Vec<Attention>,
    /// NCMI against the other objectives; absent in files of before layout 4.
    #[serde(default)]
    pub attention_differences: Vec<AttentionDifference>,
    /// What a reader must know before trusting the rows: missing folds, runs left out.
    pub notes: Vec<String>,
}

impl Pooled {
    /// Writes `pooled.json` into a report folder.
    ///
    /// # Errors
    /// Names the file.
    pub fn write(&self, folder: &Path) -> Result<()> {
        files::write_bytes(&folder.join(FILE), self.text()?.as_bytes())
    }

    /// The file as text, with a line break at its end.
    ///
    /// # Errors
    /// None in practice.
    pub fn text(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Reads `pooled.json` of a report folder.
    ///
    /// # Errors
    /// Names the file.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read '{}'", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("'{}' is damaged; run `wsi report` into another --out", path.display()))
    }
}
