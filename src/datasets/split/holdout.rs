//! `holdout`: one test set drawn at random.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::groups::{check_share, groups, share, without};
use super::{Dataset, Parts, SplitKind};

/// Settings of `holdout`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Holdout {
    /// Share of patients that are tested.
    pub test: f64,
    /// Share of the other patients that validate; 0 for none.
    pub validation: f64,
}

impl Default for Holdout {
    fn default() -> Self {
        Self { test: 0.25, validation: 0.2 }
    }
}

impl Holdout {
    pub(super) fn parts(&self, dataset: &dyn Dataset, seed: u64) -> Result<Parts> {
        check_share("test", self.test)?;
        check_share("validation", self.validation)?;
        let groups = groups(dataset, 2 + usize::from(self.validation > 0.0), "holdout by patient")?;
        let test = share(&groups, self.test, seed, "split/test");
        let valid = share(&without(groups, &test), self.validation, seed, "split/validation");
        let name = format!("holdout by patient, {:.0} % tested, seed {seed}", self.test * 100.0);
        Ok(Parts::single(name, SplitKind::Holdout, test, valid))
    }
}
