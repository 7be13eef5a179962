//! `column`: the parts are named by a column of the labels table: a centre, an official split.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::groups::{cells, check_share, groups, share, without};
use super::{Dataset, Parts, SplitKind};
use crate::ground::listing::listing;

/// Settings of `column`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Column {
    /// The column.
    pub column: String,
    /// Values that are tested.
    pub test: Vec<String>,
    /// Values that validate.
    pub valid: Vec<String>,
    /// Share of the remaining patients that validate where `valid` is empty; 0 for none.
    pub validation: f64,
}

impl Column {
    pub(super) fn parts(&self, dataset: &dyn Dataset, seed: u64) -> Result<Parts> {
        check_share("validation", self.validation)?;
        let cells = cells(dataset, &self.column)?;
        let known: BTreeSet<&String> = cells.iter().collect();
        let twice: Vec<&String> = self.test.iter().filter(|value| self.valid.contains(value)).collect();
        ensure!(twice.is_empty(), "split: these values of column '{}' are in test and in valid: {}", self.column, listing(&twice, ", "));
        let unknown: Vec<String> =
            self.test.iter().chain(&self.valid).filter(|value| !known.contains(value)).map(|v| format!("'{v}'")).collect();
        ensure!(
            unknown.is_empty(),
            "split: no slide has {} in column '{}'; it holds: {}",
            listing(&unknown, ", "),
            self.column,
            listing(&known.into_iter().collect::<Vec<_>>(), ", ")
        );
        let rows = |values: &[String]| (0..cells.len()).filter(|&row| values.contains(&cells[row])).collect::<BTreeSet<usize>>();
        let test = rows(&self.test);
        let rest = without(groups(dataset, 1, "split by column")?, &test);
        let valid = if self.valid.is_empty() { share(&rest, self.validation, seed, "split/validation") } else { rows(&self.valid) };
        let name = format!("column '{}', tested: {}, seed {seed}", self.column, self.test.join(", "));
        Ok(Parts::single(name, SplitKind::Column, test, valid))
    }
}
