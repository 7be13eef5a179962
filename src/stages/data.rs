//! What `train` and `probe` both open: the dataset, its digest and its split.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use crate::config::Config;
use crate::datasets::cifar::Set;
use crate::datasets::split::Split;
use crate::datasets::{self, DataKind, Dataset, Wanted, cohort, leaks, mnist_bags};
use crate::store::{bag, digest, identity, run};

/// Paths of a training or probing call.
#[derive(Debug, Clone)]
pub struct Data {
    /// An extract run, a folder of bags, or the folder of a published set.
    pub data: PathBuf,
    /// The labels, for bags: a table, or a folder of class folders.
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
        let train = &config.train;
        let wanted = Wanted {
            kind: train.data,
            cohort: &config.cohort,
            tiles: train.tiles,
            classic: &train.classic,
            image_folder: &train.image_folder,
            augmentation: &train.augmentation,
            mnist_bags: &train.mnist_bags,
            seed: config.seed,
        };
        let dataset = datasets::open(&wanted, &self.data, self.labels.as_deref())?;
        let mut split = match &self.split {
            Some(path) => config.split.read(dataset.as_ref(), path)?,
            None => config.split.divide(dataset.as_ref(), config.seed)?,
        };
        if train.per_class > 0 {
            split.keep_per_class(train.per_class, dataset.as_ref());
        }
        Ok((dataset, split))
    }

    /// What was waived, in words: checks of the labels, and leaks between the split's parts that were allowed.
    ///
    /// # Errors
    /// Leaks for which `[leaks]` gives no reason; a bag that cannot be read.
    pub fn waivers(&self, config: &Config, dataset: &dyn Dataset, split: &Split) -> Result<Vec<String>> {
        let bags = config.train.data == DataKind::Bags;
        let identities = if bags { identity::read(&bag::folder(&self.data), dataset.ids())? } else { Vec::new() };
        let labels = dataset.roll().map(|roll| roll.waivers.clone()).unwrap_or_default();
        Ok([labels, leaks::check(&config.leaks, dataset, split, &identities)?].concat())
    }

    /// One digest of all that the bags of `dataset` hold; `None` for other data, and where another program wrote a bag.
    ///
    /// # Errors
    /// A bag that cannot be read.
    pub fn seal(&self, config: &Config, dataset: &dyn Dataset) -> Result<Option<String>> {
        if config.train.data != DataKind::Bags {
            return Ok(None);
        }
        bag::seal_of_all(&bag::folder(&self.data), dataset.ids())
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
            DataKind::Cifar10 => of_files(&Set::Cifar10.files(&self.data)?)?,
            DataKind::Cifar100 => of_files(&Set::Cifar100.files(&self.data)?)?,
            DataKind::ImageFolder => digest::settings(&tree(&self.data, 3)?)?,
            DataKind::MnistBags => of_files(&mnist_bags::files(&self.data))?,
            DataKind::ClassicMil => digest::file(&config.train.classic.file(&self.data))?[..8].to_owned(),
        };
        let mut digests = BTreeMap::from([("data".to_owned(), data)]);
        if let Some(labels) = &self.labels {
            digests.insert("labels".to_owned(), cohort::labels_digest(labels)?);
        }
        if let Some(split) = &self.split {
            digests.insert("split".to_owned(), digest::file(split)?[..8].to_owned());
        }
        Ok(digests)
    }
}

/// One digest of several files.
fn of_files(paths: &[PathBuf]) -> Result<String> {
    digest::settings(&paths.iter().map(|path| digest::file_fast(path)).collect::<Result<Vec<_>>>()?)
}

/// Digest of a folder that is no run of ours: names and sizes.
fn listing(folder: &Path) -> Result<String> {
    digest::settings(&tree(folder, 1)?)
}

/// Names and sizes of what is in a folder, sorted, and of what is in its folders, `depth` folders deep.
fn tree(folder: &Path, depth: usize) -> Result<serde_json::Value> {
    let context = || format!("cannot read the folder '{}'", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        let inside = depth > 1 && entry.file_type().with_context(context)?.is_dir();
        let what = if inside { tree(&entry.path(), depth - 1)? } else { json!(entry.metadata().with_context(context)?.len()) };
        found.push((entry.file_name().to_string_lossy().into_owned(), what));
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(json!(found))
}
