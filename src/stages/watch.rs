//! Looks at the test rows while a model is trained, for figures over epochs. Nothing that is seen goes back into the training: `learn::fit`
//! has no place for test rows and gets none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::datasets::Dataset;
use crate::datasets::split::Split;
use crate::learn::evaluate::{evaluate, rows};
use crate::learn::{Learner, TrainSettings, curves};
use crate::probes::centroid::CentroidComparison;
use crate::store::history::{self, Epoch, MeasuredOn};
use crate::store::tensors;

/// Accuracy, CMI, Γ and NCMI on the test rows, a line a look, as `history.csv`.
pub(super) const CURVES: &str = "test-curves.csv";
/// Class means of the test rows' embeddings at each look, `mean.<epoch> [K,E]`; the running centre of an objective that has one,
/// `centre.<epoch> [E]`; the embeddings of the last look, `embeddings [n,E]` with `targets [n]`.
pub(super) const EMBEDDINGS: &str = "test-embeddings.safetensors";
/// K: classes whose embeddings are kept, the first ones by index; bounds the file to 4·K·E bytes a look.
const CLASSES: i64 = 10;
/// Embeddings kept of each class.
const EACH: usize = 60;
/// The running centre's name among a learner's tensors.
const CENTRE: &str = "loss.centre";

/// What looks at the test rows, and what it saw.
pub(super) struct Watch<'a> {
    every: usize,
    epochs: usize,
    batch_size: usize,
    dataset: &'a dyn Dataset,
    split: &'a Split,
    device: Device,
    /// Where it is written; nowhere on a rank that does not lead.
    folder: Option<PathBuf>,
    lines: Vec<Epoch>,
    tensors: BTreeMap<String, Tensor>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(settings: &TrainSettings, dataset: &'a dyn Dataset, split: &'a Split, device: Device) -> Self {
        let &TrainSettings { watch_test: every, epochs, batch_size, .. } = settings;
        Self { every, epochs, batch_size, dataset, split, device, folder: None, lines: Vec::new(), tensors: BTreeMap::new() }
    }

    /// Writes into `folder`, after what was seen there in the first `epochs` epochs.
    ///
    /// # Errors
    /// Files of an earlier call that are damaged.
    pub(super) fn writing(mut self, folder: &Path, epochs: usize) -> Result<Self> {
        // A look is written before the checkpoint of its epoch: a training that resumes may have seen more than it knows.
        if self.every > 0 && epochs > 0 && folder.join(CURVES).is_file() {
            self.lines = history::read_as(&folder.join(CURVES))?;
            self.lines.retain(|line| line.epoch <= epochs);
            self.tensors = tensors::read(&folder.join(EMBEDDINGS))?.0;
            self.tensors.retain(|name, _| epoch_of(name).is_some_and(|epoch| epoch <= epochs));
        }
        self.folder = Some(folder.to_owned());
        Ok(self)
    }

    /// Looks, if it is time after `epoch` epochs.
    ///
    /// # Errors
    /// A sample that cannot be read, an interruption, a file that cannot be written.
    pub(super) fn look(&mut self, learner: &Learner, epoch: usize) -> Result<()> {
        let last = epoch == self.epochs;
        if self.every == 0 || !(last || epoch.is_multiple_of(self.every)) {
            return Ok(());
        }
        let see = |rows: &[usize]| evaluate(learner, self.dataset, rows, self.batch_size, self.device);
        let seen = see(&self.split.test.0)?;
        let classes = self.dataset.classes().len();
        // METHOD: an objective without a head decides by centroid comparison, with the class means of the training rows under this epoch's model.
        let probabilities = if learner.loss.wants_refresh() {
            let train = see(&self.split.train.0)?;
            rows(&CentroidComparison::new(&train.log_distributions, &train.targets, classes).probabilities(&seen.log_distributions))
        } else {
            seen.probabilities(learner)
        };
        let mut line = Epoch::new(epoch, f64::NAN, f64::NAN);
        curves::measure(&seen, &probabilities, MeasuredOn::Test, &mut line);
        self.lines.push(line);

        let kept = CLASSES.min(classes as i64);
        let of_class = |class: i64| seen.embeddings.index_select(0, &seen.targets.eq(class).nonzero().squeeze_dim(1));
        let means: Vec<Tensor> = (0..kept).map(|class| of_class(class).mean_dim(0, false, Kind::Float)).collect();
        self.tensors.insert(format!("mean.{epoch:05}"), Tensor::stack(&means, 0));
        if let Some(centre) = learner.tensors().get(CENTRE) {
            self.tensors.insert(format!("centre.{epoch:05}"), centre.detach().to_device(Device::Cpu).to_kind(Kind::Float).copy());
        }
        if last {
            let some: Vec<Tensor> = (0..kept).map(of_class).map(|all| all.narrow(0, 0, all.size()[0].min(EACH as i64))).collect();
            let targets: Vec<i64> = some.iter().zip(0..).flat_map(|(rows, class)| vec![class; rows.size()[0] as usize]).collect();
            self.tensors.insert("embeddings".to_owned(), Tensor::cat(&some, 0).to_kind(Kind::Float));
            self.tensors.insert("targets".to_owned(), Tensor::from_slice(&targets));
        }
        let Some(folder) = &self.folder else { return Ok(()) };
        tensors::write(&folder.join(EMBEDDINGS), &self.tensors, &json!({"classes": &self.dataset.classes()[..kept as usize]}))?;
        history::write_as(&folder.join(CURVES), &self.lines)
    }
}

/// `mean.00012` → 12; none for what is of the last look alone.
pub(super) fn epoch_of(name: &str) -> Option<usize> {
    name.split_once('.').and_then(|(_, epoch)| epoch.parse().ok())
}
