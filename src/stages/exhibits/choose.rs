//! Which runs a row, a column or a line of an exhibit speaks of: those with certain settings.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::runs::{Finished, by_seed};

/// Setting → value, or a list of values of which one must be the run's; every setting must agree.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Where(BTreeMap<String, toml::Value>);

/// Runs with a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Choice {
    /// The name.
    pub label: String,
    /// Their settings.
    #[serde(rename = "where")]
    pub chosen: Where,
}

impl Where {
    /// Whether the run has all these settings.
    pub(super) fn is_met_by(&self, run: &Finished) -> bool {
        self.0.iter().all(|(key, wanted)| {
            let found = run.setting(key);
            match wanted {
                toml::Value::Array(values) => values.iter().any(|value| equal(value, found)),
                value => equal(value, found),
            }
        })
    }
}

impl Choice {
    /// The chosen ones by ascending seed.
    ///
    /// # Errors
    /// Two of one seed.
    pub(super) fn of<'a>(&self, runs: &'a [Finished]) -> Result<Vec<&'a Finished>> {
        by_seed(runs.iter().filter(|run| self.chosen.is_met_by(run)).collect(), &self.label)
    }
}

/// Numbers are equal by value, however they are written.
fn equal(wanted: &toml::Value, found: &Value) -> bool {
    match (wanted, found) {
        (toml::Value::String(wanted), Value::String(found)) => wanted == found,
        (toml::Value::Boolean(wanted), Value::Bool(found)) => wanted == found,
        (toml::Value::Integer(wanted), found) => found.as_f64() == Some(*wanted as f64),
        (toml::Value::Float(wanted), found) => found.as_f64() == Some(*wanted),
        _ => false,
    }
}
