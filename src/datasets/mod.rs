//! Samples with labels: bags of features and images, read once, handed out in batches.

use std::path::Path;

use anyhow::{Context, Result};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::encoders::preprocess::Preprocess;
use crate::ground::batch::{Batch, Input};
use crate::ground::seed;
use crate::ground::tile_filter::TileFilter;
use crate::store::bag;

pub mod augment;
pub mod bags;
pub mod cifar;
pub mod classic;
pub mod cohort;
pub mod image_folder;
pub mod leaks;
pub mod mnist_bags;
mod padding;
mod read_ahead;
pub mod split;

/// What is trained on, by the `kind` in `[train.data]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataKind {
    /// An extract run and a table of labels.
    #[default]
    Bags,
    /// CIFAR-10, in the binary or the Python layout.
    Cifar10,
    /// CIFAR-100, in the binary or the Python layout.
    Cifar100,
    /// Photographs in class folders: ImageNet, or any folder of that layout.
    ImageFolder,
    /// One of the classic MIL sets, chosen in `[train.classic]`.
    ClassicMil,
    /// Bags of handwritten digits, drawn as `[train.mnist-bags]` says.
    MnistBags,
}

impl DataKind {
    /// Whether a sample is one image.
    pub fn is_images(self) -> bool {
        matches!(self, Self::Cifar10 | Self::Cifar100 | Self::ImageFolder)
    }

    /// What evaluation does with an image, for a network that was trained on such data; `None` where a sample is no image.
    pub fn evaluation(self, image_folder: &image_folder::ImageFolderSettings) -> Option<Preprocess> {
        match self {
            Self::Cifar10 => Some(cifar::Set::Cifar10.evaluation()),
            Self::Cifar100 => Some(cifar::Set::Cifar100.evaluation()),
            Self::ImageFolder => Some(image_folder.evaluation()),
            Self::Bags | Self::ClassicMil | Self::MnistBags => None,
        }
    }
}

/// Which dataset, with what is said of it in the settings.
pub struct Wanted<'a> {
    /// `train.data`
    pub kind: DataKind,
    /// `[cohort]`, for bags.
    pub cohort: &'a cohort::CohortSettings,
    /// `[train.tiles]`, for bags.
    pub tiles: TileFilter,
    /// `[train.classic]`
    pub classic: &'a classic::ClassicSettings,
    /// `[train.image-folder]`
    pub image_folder: &'a image_folder::ImageFolderSettings,
    /// `[train.augmentation]`, for images.
    pub augmentation: &'a augment::AugmentationSettings,
    /// `[train.mnist-bags]`
    pub mnist_bags: &'a mnist_bags::MnistBagsSettings,
    /// The run's seed.
    pub seed: u64,
}

/// Samples in a fixed, documented order.
pub trait Dataset: Send + Sync {
    /// One id a sample: slide ids, or file and index.
    fn ids(&self) -> &[String];

    /// Whom each sample belongs to; splits and intervals never part a group.
    fn groups(&self) -> &[String];

    /// Class index of each sample.
    fn targets(&self) -> &[i64];

    /// A column of the labels table, for splits by column; `None` if there is no such column.
    fn column(&self, name: &str) -> Option<Vec<String>>;

    /// Class names in index order.
    fn classes(&self) -> &[String];

    /// Every slide that labels or bags name, used or not; `None` for data without a table of labels.
    fn roll(&self) -> Option<&cohort::Roll> {
        None
    }

    /// What a reader should know before it trains on them, a sentence each.
    fn notes(&self) -> &[String] {
        &[]
    }

    /// What a model gets.
    fn input(&self) -> Input;

    /// The samples `rows` as one batch. With `augment`, random changes drawn from (seed, epoch, view, row) alone, so that
    /// neither the order nor the number of workers changes them.
    ///
    /// # Errors
    /// A sample that cannot be made, named.
    fn batch(&self, rows: &[usize], augment: Option<Augment>, device: Device) -> Result<Batch>;

    /// Says which rows the next batches will ask for, in order, so that a dataset on disk can read ahead. Changes no batch.
    fn announce(&self, _rows: &[usize]) {}
}

/// Where the random changes of a training sample come from.
#[derive(Debug, Clone, Copy)]
pub struct Augment {
    /// The run's seed.
    pub seed: u64,
    /// Epoch, from 1.
    pub epoch: usize,
    /// Random views of each sample in a batch: with V, `rows` lists the samples V times over, view after view.
    pub views: usize,
}

impl Augment {
    /// The random stream of the sample at `place` of a batch of `places`, which is row `row` of its dataset.
    fn stream(self, place: usize, places: usize, row: usize) -> ChaCha8Rng {
        let view = place * self.views / places.max(1);
        seed::stream(self.seed, &format!("augment/{}/{view}/{row}", self.epoch))
    }
}

/// Opens what is trained on. `data`: an extract run or a folder of bags, or the folder of a published set; `labels`: the table, for bags.
///
/// # Errors
/// Whatever the kind's reader says.
pub fn open(wanted: &Wanted, data: &Path, labels: Option<&Path>) -> Result<Box<dyn Dataset>> {
    Ok(match wanted.kind {
        DataKind::Bags => {
            let labels = labels.context("training on bags needs a table of labels: --labels FILE")?;
            Box::new(bags::Bags::read(
                &bag::folder(data),
                cohort::Cohort::read(labels, wanted.cohort, wanted.seed)?,
                wanted.tiles,
                bags::Keep::from_environment()?,
            )?)
        }
        DataKind::Cifar10 => Box::new(cifar::Cifar::read(data, cifar::Set::Cifar10, wanted.augmentation)?),
        DataKind::Cifar100 => Box::new(cifar::Cifar::read(data, cifar::Set::Cifar100, wanted.augmentation)?),
        DataKind::ImageFolder => Box::new(image_folder::ImageFolder::read(data, wanted.image_folder, wanted.augmentation)?),
        DataKind::ClassicMil => Box::new(classic::Classic::read(&wanted.classic.file(data))?),
        DataKind::MnistBags => Box::new(mnist_bags::MnistBags::read(data, wanted.mnist_bags, wanted.seed)?),
    })
}
