//! `leave-one-out`: each value of a column (a centre) is the test set once.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::groups::{cells, check_share, groups, share, without};
use super::{Dataset, Parts, SplitKind};
use crate::ground::listing::listing;

/// Settings of `leave-one-out`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LeaveOneOut {
    /// The column of the labels.
    pub column: String,
    /// Which of its values, sorted, is tested, from 0.
    pub fold: usize,
    /// Share of the other patients that validate; 0 for none.
    pub validation: f64,
}

impl Default for LeaveOneOut {
    fn default() -> Self {
        Self { column: "centre".into(), fold: 0, validation: 0.2 }
    }
}

impl LeaveOneOut {
    pub(super) fn parts(&self, dataset: &dyn Dataset, seed: u64) -> Result<Parts> {
        let Self { column, fold, validation } = self;
        check_share("validation", *validation)?;
        let cells = cells(dataset, column)?;
        let unnamed: Vec<&String> = dataset.ids().iter().zip(&cells).filter(|(_, cell)| cell.is_empty()).map(|(id, _)| id).collect();
        ensure!(unnamed.is_empty(), "split: these slides have an empty cell in column '{column}': {}", listing(&unnamed, ", "));
        let values: Vec<&String> = cells.iter().collect::<BTreeSet<_>>().into_iter().collect();
        ensure!(
            values.len() >= 2 && *fold < values.len(),
            "split: fold {fold} of column '{column}', which has {} value(s): {}; folds count from 0 and are at least 2",
            values.len(),
            listing(&values, ", ")
        );
        let test: BTreeSet<usize> = (0..cells.len()).filter(|&row| cells[row] == *values[*fold]).collect();
        let rest = without(groups(dataset, 1, "leave-one-out")?, &test);
        let valid = share(&rest, *validation, seed, "split/validation");
        let folds = values.len();
        let name = format!("leave one {column} out, fold {fold} of {folds} (tested: {}), seed {seed}", values[*fold]);
        Ok(Parts { name, kind: SplitKind::LeaveOneOut, fold: *fold, folds, test, valid })
    }
}
