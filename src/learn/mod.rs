//! The only training loop, the only evaluation, for bags and images and every loss.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::nn::VarStore;
use tch::{Device, Tensor};

use crate::datasets::split::{TrainRows, ValidRows};
use crate::datasets::{DataKind, Dataset, cifar};
use crate::ground::batch::Input;
use crate::ground::seed;
use crate::losses::{Loss, LossSettings, Site};
use crate::model::{Model, ModelSettings};

pub mod checkpoint;
pub mod curves;
pub mod evaluate;
mod feed;
pub mod finite;
pub mod fit;
pub mod optimizers;
pub mod parallel;
pub mod precision;
pub mod protocol;
pub mod schedule;
pub mod select;

/// Settings of `[train]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrainSettings {
    /// What is trained on: `bags`, `cifar10`, `cifar100`, `image-folder`, `classic-mil` or `mnist-bags`.
    pub data: DataKind,
    /// Which tiles of a bag are used, by their quality, for `bags`.
    pub tiles: crate::ground::tile_filter::TileFilter,
    /// Which of the classic sets, for `classic-mil`.
    pub classic: crate::datasets::classic::ClassicSettings,
    /// How photographs are seen, for `image-folder`.
    pub image_folder: crate::datasets::image_folder::ImageFolderSettings,
    /// How bags of digits are drawn, for `mnist-bags`.
    pub mnist_bags: crate::datasets::mnist_bags::MnistBagsSettings,
    /// Most training samples of each class, drawn once for all seeds; 0 for all. The others are left out; the tested rows stay.
    pub per_class: usize,
    /// Passes over the training set; 0 keeps the initial model, as a control.
    pub epochs: usize,
    /// Bags or images in a batch.
    pub batch_size: usize,
    /// Batches whose gradients are averaged into one step, so that a step sees `batch-size × accumulate` samples.
    pub accumulate: usize,
    /// Whether an incomplete last batch is left out.
    pub drop_last: bool,
    /// Largest L2 norm of the gradient; 0 for no limit.
    pub clip: f64,
    /// Random changes of training images.
    pub augment: bool,
    /// Which changes.
    pub augmentation: crate::datasets::augment::AugmentationSettings,
    /// Whether several ranks normalise their images together, so that batch statistics are those of the whole batch, as in one process;
    /// otherwise each rank normalises its own. Without effect on one.
    pub sync_batch_norm: bool,
    /// Precision of the model's forward and backward pass.
    pub precision: precision::Precision,
    /// By which rules the model is chosen and judged.
    pub protocol: protocol::Protocol,
    /// Epochs between two validations.
    pub validate_every: usize,
    /// What the best epoch is chosen by, on the validation rows.
    pub select: select::Metric,
    /// When to end before the last epoch.
    pub early_stop: select::EarlyStop,
    /// Epochs between two points of the curves (accuracy, CMI, Γ, NCMI); 0 for none. A point costs one pass over the validation
    /// rows, shared with a validation of the same epoch, or over at most 2000 training rows where there are none; with validation
    /// rows and a loss with class centroids also one over the training rows.
    pub curves_every: usize,
    /// Epochs between two looks at the *test* rows while the model is trained, for figures; 0 for none. What is seen goes into files of its
    /// own and back into nothing: no epoch, rate or checkpoint is chosen by it. A look costs one pass over the test rows, and over the
    /// training rows where the objective has no head.
    pub watch_test: usize,
    /// The model.
    pub model: ModelSettings,
    /// The objective.
    pub loss: LossSettings,
    /// The optimiser of the model's parameters.
    pub optimizer: optimizers::OptimizerSettings,
    /// The learning rate over time.
    pub schedule: schedule::ScheduleSettings,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            data: DataKind::Bags,
            tiles: crate::ground::tile_filter::TileFilter::default(),
            classic: crate::datasets::classic::ClassicSettings::default(),
            image_folder: crate::datasets::image_folder::ImageFolderSettings::default(),
            mnist_bags: crate::datasets::mnist_bags::MnistBagsSettings::default(),
            per_class: 0,
            epochs: 50,
            batch_size: 8,
            accumulate: 1,
            drop_last: false,
            clip: 5.0,
            augment: false,
            augmentation: crate::datasets::augment::AugmentationSettings::default(),
            sync_batch_norm: true,
            precision: precision::Precision::default(),
            protocol: protocol::Protocol::default(),
            validate_every: 1,
            select: select::Metric::default(),
            early_stop: select::EarlyStop::default(),
            curves_every: 1,
            watch_test: 0,
            model: ModelSettings::default(),
            loss: LossSettings::default(),
            optimizer: optimizers::OptimizerSettings::default(),
            schedule: schedule::ScheduleSettings::default(),
        }
    }
}

impl TrainSettings {
    /// Sides of the images that a model sees, pixels; none for bags, and for bags of digits, which the model knows itself.
    fn image_sides(&self) -> Vec<u32> {
        match self.data {
            DataKind::Cifar10 | DataKind::Cifar100 => vec![cifar::SIDE as u32],
            DataKind::ImageFolder => vec![self.image_folder.train_px, self.image_folder.test_px],
            DataKind::Bags | DataKind::ClassicMil | DataKind::MnistBags => Vec::new(),
        }
    }
}

/// What is trained on. There is no place for test rows.
pub struct Training<'a> {
    /// The samples.
    pub dataset: &'a dyn Dataset,
    /// Rows that are trained on.
    pub train: &'a TrainRows,
    /// Rows that validate; may be empty.
    pub valid: &'a ValidRows,
    /// The run's seed.
    pub seed: u64,
    /// Where tensors live.
    pub device: Device,
}

/// A model with its objective; all their tensors are in one store.
///
/// Several ranks have one each, with the same values.
pub struct Learner {
    /// Parameters and buffers, the model's under `model`, the loss's under `loss`.
    pub variables: VarStore,
    /// The model.
    pub model: Model,
    /// The objective.
    pub loss: Box<dyn Loss>,
    /// Those that train it together; one, unless [`Learner::join`] was called.
    pub ranks: parallel::Ranks,
}

impl Learner {
    /// Builds both with initial values of the seed's stream `initial-weights`.
    ///
    /// # Errors
    /// Settings that cannot work with these classes or this input.
    pub fn new(settings: &TrainSettings, input: Input, classes: usize, seed: u64, device: Device) -> Result<Self> {
        ensure!(settings.batch_size > 0, "train.batch-size must be at least 1");
        ensure!(settings.accumulate > 0, "train.accumulate must be at least 1");
        for side in settings.image_sides() {
            settings.model.encoder.check(side)?;
        }
        let build = |device| -> Result<Self> {
            seed::seed_torch(seed, "initial-weights");
            let variables = VarStore::new(device);
            let model = Model::new(&settings.model, input, settings.loss.head(), classes as i64, &(variables.root() / "model"))?;
            let loss = settings.loss.build(&Site { path: variables.root() / "loss", classes: classes as i64, width: model.width() })?;
            Ok(Self { variables, model, loss, ranks: parallel::Ranks::alone() })
        };
        let mut learner = build(device)?;
        if device != Device::Cpu {
            // A seed gives other numbers on a GPU: what is drawn is drawn on the processor, so that a run begins alike everywhere.
            learner.variables.copy(&build(Device::Cpu)?.variables)?;
        }
        Ok(learner)
    }

    /// Trains as one of several ranks from now on.
    pub fn join(&mut self, ranks: &parallel::Ranks, settings: &TrainSettings) {
        if let Some(group) = ranks.group().filter(|_| settings.sync_batch_norm) {
            self.model.synchronise(group);
        }
        self.ranks = ranks.clone();
    }

    /// The model's trainable parameters by name; the loss moves its own.
    pub fn parameters(&self) -> BTreeMap<String, Tensor> {
        self.variables.variables().into_iter().filter(|(name, tensor)| name.starts_with("model.") && tensor.requires_grad()).collect()
    }

    /// Every tensor by name.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        self.variables.variables().into_iter().collect()
    }
}
