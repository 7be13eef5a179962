//! `bracs-official`: the parts that came with BRACS, 395 / 65 / 87 slides, by the column `part` (methods §6.2).
//!
//! One patient of BRACS has slides in two of them; the check for leaks says so.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::groups::cells;
use super::{Dataset, Parts, SplitKind};
use crate::ground::listing::listing;

/// The column that every cohort with an official split has.
const COLUMN: &str = "part";

/// Settings of `bracs-official`: none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BracsOfficial {}

impl BracsOfficial {
    pub(super) fn parts(&self, dataset: &dyn Dataset) -> Result<Parts> {
        let cells = cells(dataset, COLUMN)?;
        let named = dataset.ids().iter().zip(&cells);
        let other: Vec<String> = named
            .filter(|(_, cell)| !["train", "valid", "test"].contains(&cell.as_str()))
            .map(|(id, cell)| format!("'{id}' ('{cell}')"))
            .collect();
        ensure!(
            other.is_empty(),
            "split: column '{COLUMN}' wants 'train', 'valid' or 'test' in every row; these slides have something else: {}",
            listing(&other, ", ")
        );
        let rows = |part: &str| (0..cells.len()).filter(|&row| cells[row] == part).collect::<BTreeSet<usize>>();
        Ok(Parts::single("bracs-official".to_owned(), SplitKind::Column, rows("test"), rows("valid")))
    }
}
