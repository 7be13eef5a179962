//! `monte-carlo`: a test set drawn anew in every repeat; test sets of different repeats overlap, so that repeats are averaged and
//! never pooled.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::groups::{check_share, groups, share, without};
use super::{Dataset, Parts, SplitKind};

/// Settings of `monte-carlo`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct MonteCarlo {
    /// Which draw, from 0.
    pub repeat: usize,
    /// Number of draws.
    pub repeats: usize,
    /// Share of patients that are tested.
    pub test: f64,
    /// Share of the other patients that validate; 0 for none.
    pub validation: f64,
}

impl Default for MonteCarlo {
    fn default() -> Self {
        Self { repeat: 0, repeats: 10, test: 0.25, validation: 0.2 }
    }
}

impl MonteCarlo {
    pub(super) fn parts(&self, dataset: &dyn Dataset, seed: u64) -> Result<Parts> {
        let Self { repeat, repeats, test, validation } = *self;
        ensure!(repeat < repeats, "split: repeat {repeat} of {repeats} repeats; repeats count from 0");
        check_share("test", test)?;
        check_share("validation", validation)?;
        let groups = groups(dataset, 2 + usize::from(validation > 0.0), "monte-carlo by patient")?;
        let tested = share(&groups, test, seed, &format!("split/monte-carlo/{repeat}/test"));
        let valid = share(&without(groups, &tested), validation, seed, &format!("split/monte-carlo/{repeat}/validation"));
        let name = format!("monte-carlo by patient, {:.0} % tested, repeat {repeat} of {repeats}, seed {seed}", test * 100.0);
        Ok(Parts { name, kind: SplitKind::MonteCarlo, fold: repeat, folds: repeats, test: tested, valid })
    }
}
