//! `c17-acmil` and `c17-strict`: CAMELYON17's labelled half, trained on its first three centres and tested on the other two.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::groups::{cells, check_share, groups, share, without};
use super::{Dataset, Parts, SplitKind};
use crate::ground::listing::listing;
use crate::ground::seed;

const CENTRES: usize = 5;
const TRAINED: usize = 3;

/// Settings of `c17-acmil`: the split of ACMIL's, AEM's and ASMIL's code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct C17Acmil {
    /// Share of the slides of the first three centres that validate.
    pub validation: f64,
}

impl Default for C17Acmil {
    fn default() -> Self {
        Self { validation: 0.1 }
    }
}

impl C17Acmil {
    // METHOD: slides validate, drawn without regard to class or patient, as that code does (methods §6.1): 270 / 30 / 200. A patient's
    // other slides are then trained on, so that the validation scores are too good; the check for leaks refuses it without a reason.
    pub(super) fn parts(&self, dataset: &dyn Dataset, seed: u64) -> Result<Parts> {
        check_share("validation", self.validation)?;
        let test = last_centres(dataset)?;
        let mut rest: Vec<usize> = (0..dataset.ids().len()).filter(|row| !test.contains(row)).collect();
        rest.shuffle(&mut seed::stream(seed, "split/validation"));
        let count = (self.validation * rest.len() as f64).round() as usize;
        let name = format!("c17-acmil, seed {seed}");
        Ok(Parts::single(name, SplitKind::Column, test, rest.into_iter().take(count).collect()))
    }
}

/// Settings of `c17-strict`: the same test set, validated by patient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct C17Strict {
    /// Share of the patients of the first three centres that validate.
    pub validation: f64,
}

impl Default for C17Strict {
    fn default() -> Self {
        Self { validation: 0.1 }
    }
}

impl C17Strict {
    pub(super) fn parts(&self, dataset: &dyn Dataset, seed: u64) -> Result<Parts> {
        check_share("validation", self.validation)?;
        let test = last_centres(dataset)?;
        let rest = without(groups(dataset, 1, "c17-strict")?, &test);
        let valid = share(&rest, self.validation, seed, "split/validation");
        Ok(Parts::single(format!("c17-strict, seed {seed}"), SplitKind::Column, test, valid))
    }
}

/// The slides of the last two of the five centres.
fn last_centres(dataset: &dyn Dataset) -> Result<BTreeSet<usize>> {
    let centres = cells(dataset, "centre")?;
    let names: Vec<&String> = centres.iter().collect::<BTreeSet<_>>().into_iter().collect();
    ensure!(
        names.len() == CENTRES,
        "split: CAMELYON17 has {CENTRES} centres, column 'centre' has {}: {}; for another cohort use leave-one-out or column",
        names.len(),
        listing(&names, ", ")
    );
    Ok((0..centres.len()).filter(|&row| names[TRAINED..].contains(&&centres[row])).collect())
}
