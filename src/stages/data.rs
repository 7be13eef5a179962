//! What `train` and `probe` both open: the dataset, its digest and its split.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;

use crate::config::Config;
use crate::datasets::split::Split;
use crate::datasets::{self, DataKind, Dataset, leaks};
use crate::store::{bag, digest, identity, run};

/// Paths of a training or probing call.
#[derive(Debug, Clone)]
pub struct Data {
    /// An extract run, a folder of bags, or the folder of an image set.
    pub data: PathBuf,
    /// The table of labels, for bags.
    pub labels: Option<PathBuf>,
    /// The file that names the parts, for the split `file`.
    pub split: Option<PathBuf>,
}

impl Data {
    /// Opens the dataset and divides it as `[split]` says.
    ///
    /// # Errors
    /// Whatever the dataset or the split says.
    pub fn open(&self, config: &Config) -> Result<(Box<dyn Dataset>, Split)> {
        let dataset = datasets::open(config.train.data, &self.data, self.labels.as_deref(), &config.cohort, config.seed)?;
        let split = match &self.split {
            Some(path) => config.split.read(dataset.as_ref(), path)?,
            None => config.split.divide(dataset.as_ref(), config.seed)?,
        };
        Ok((dataset, split))
    }

    /// What leaks between the split's parts and was allowed to, in words; nothing where nothing leaks.
    ///
    /// # Errors
    /// Leaks for which `[leaks]` gives no reason; a bag that cannot be read.
    pub fn check_leaks(&self, config: &Config, dataset: &dyn Dataset, split: &Split) -> Result<Vec<String>> {
        let bags = config.train.data == DataKind::Bags;
        let identities = if bags { identity::read(&bag::folder(&self.data), dataset.ids())? } else { Vec::new() };
        leaks::check(&config.leaks, dataset, split, &identities)
    }

    /// Digest of each input by its role.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn digests(&self, config: &Config) -> Result<BTreeMap<String, String>> {
        let data = match config.train.data {
            DataKind::Bags => match run::summary(&self.data)? {
                Some(summary) => summary.digest,
                None => listing(&self.data)?,
            },
            DataKind::Cifar100 => {
                let parts = ["train.bin", "test.bin"].map(|name| digest::file_fast(&self.data.join(name)));
                digest::settings(&parts.into_iter().collect::<Result<Vec<_>>>()?)?
            }
        };
        let mut digests = BTreeMap::from([("data".to_owned(), data)]);
        if let Some(labels) = &self.labels {
            digests.insert("labels".to_owned(), digest::file(labels)?[..8].to_owned());
        }
        if let Some(split) = &self.split {
            digests.insert("split".to_owned(), digest::file(split)?[..8].to_owned());
        }
        Ok(digests)
    }
}

/// Digest of a folder that is no run of ours: names and sizes.
fn listing(folder: &std::path::Path) -> Result<String> {
    let context = || format!("cannot read the folder '{}'", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        files.push((entry.file_name().to_string_lossy().into_owned(), entry.metadata().with_context(context)?.len()));
    }
    files.sort();
    digest::settings(&json!(files))
}
