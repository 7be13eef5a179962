//! `pipeline.json` in a pipeline's folder: the call that asked for it, and what was submitted, so that `wsi status` and `wsi cancel` need the folder alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::bash;
use super::slurm::shares::members;
use crate::pipeline::EXECUTOR;
use crate::store::{digest, files};

/// Inside a pipeline's folder.
const FILE: &str = "pipeline.json";

/// The arguments of `wsi run` that decide what is done, as they were typed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The pipeline file.
    pub pipeline: PathBuf,
    /// `--scale`
    pub scale: Option<String>,
    /// `--set`, and what other options stand for.
    pub overrides: Vec<String>,
}

impl Call {
    /// As it can be typed again.
    pub fn command(&self) -> String {
        let mut words = vec!["wsi".to_owned()];
        words.extend(self.words());
        bash::quoted(&words)
    }

    /// `run` and its arguments.
    pub(super) fn words(&self) -> Vec<String> {
        let mut words = vec!["run".to_owned(), self.pipeline.display().to_string()];
        words.extend(self.scale.iter().flat_map(|scale| ["--scale".to_owned(), scale.clone()]));
        words.extend(self.overrides.iter().flat_map(|item| ["--set".to_owned(), item.clone()]));
        words
    }

    /// Without what is for the executor alone.
    pub(super) fn of_jobs(&self) -> Self {
        let overrides = self.overrides.iter().filter(|item| !item.trim_start().starts_with(EXECUTOR)).cloned();
        Self { overrides: overrides.collect(), ..self.clone() }
    }
}

/// What was last asked for in a folder, and all that was submitted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Of the program.
    pub version: String,
    /// The last call.
    pub call: Call,
    /// Oldest first.
    #[serde(default)]
    pub submissions: Vec<Submission>,
}

/// The jobs of one call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Submission {
    /// The jobs' comment, by which they are found even where a call was killed before it had noted their numbers.
    pub tag: String,
    /// Seconds since 1970.
    pub time: u64,
    /// In their order.
    pub stages: Vec<Submitted>,
}

/// One stage's array of jobs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Submitted {
    /// Its name.
    pub stage: String,
    /// Number of shares that the stage is divided into.
    pub shares: usize,
    /// Those that were submitted: `1-4,7`.
    pub array: String,
    /// Slurm's number.
    pub job: u64,
}

impl Submitted {
    /// The shares that have a job.
    pub(in crate::pipeline) fn members(&self) -> BTreeSet<usize> {
        members(&self.array)
    }
}

impl Submission {
    /// A submission without jobs so far, under a tag of its own.
    pub(super) fn new() -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let tag = digest::settings(&(now.as_nanos().to_string(), std::process::id()))?;
        Ok(Self { tag: format!("wsi-{tag}"), time: now.as_secs(), stages: Vec::new() })
    }
}

impl Record {
    /// That of a pipeline's folder; `None` where `wsi run` was never called.
    ///
    /// # Errors
    /// A damaged file.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(serde_json::from_str(&text).with_context(|| format!("'{}' is damaged; remove it", path.display()))?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read '{}'", path.display())),
        }
    }

    /// The folder's record with another call; what was submitted stays.
    pub(super) fn for_call(earlier: Option<Self>, call: &Call) -> Self {
        let submissions = earlier.map(|record| record.submissions).unwrap_or_default();
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), call: call.clone(), submissions }
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        files::write_bytes(&folder.join(FILE), serde_json::to_string_pretty(self)?.as_bytes())
    }
}
