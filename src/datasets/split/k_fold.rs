//! `k-fold`: each of `folds` parts is the test set once.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::groups::{check_share, deal, groups, share, without};
use super::{Dataset, Parts, SplitKind};

/// Settings of `k-fold`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct KFold {
    /// Number of parts.
    pub folds: usize,
    /// The part that is tested, from 0.
    pub fold: usize,
    /// Share of the other patients that validate; 0 for none.
    pub validation: f64,
}

impl Default for KFold {
    fn default() -> Self {
        Self { folds: 4, fold: 0, validation: 0.2 }
    }
}

impl KFold {
    pub(super) fn parts(&self, dataset: &dyn Dataset, seed: u64) -> Result<Parts> {
        let Self { folds, fold, validation } = *self;
        ensure!(folds >= 2 && fold < folds, "split: fold {fold} of {folds} folds; folds count from 0 and are at least 2");
        check_share("validation", validation)?;
        let needed = folds.max(2 + usize::from(validation > 0.0));
        let groups = groups(dataset, needed, &format!("{folds}-fold by patient"))?;
        let test = deal(&groups, folds, seed).remove(fold);
        let valid = share(&without(groups, &test), validation, seed, "split/validation");
        let name = format!("{folds}-fold by patient, fold {fold} of {folds}, seed {seed}");
        Ok(Parts { name, kind: SplitKind::KFold, fold, folds, test, valid })
    }
}
