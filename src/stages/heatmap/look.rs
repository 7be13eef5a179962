//! A trained model looks at a bag: attention and class scores of every tile.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tch::{Device, Kind, Tensor};

use crate::config::Config;
use crate::datasets::DataKind;
use crate::ground::batch::{Batch, Input, Output};
use crate::ground::tile_filter::TileFilter;
use crate::learn::evaluate::rows;
use crate::learn::{Learner, checkpoint};
use crate::metrics::classification::argmax;
use crate::store::bag::{self, Header};
use crate::store::heatmap::TileScores;

/// Bags of one tile in a batch; bounds the memory of aggregators that keep much a bag.
const TILES_AT_ONCE: i64 = 1024;

/// A frozen model.
pub(super) struct Eye {
    learner: Learner,
    /// D
    width: usize,
    filter: TileFilter,
    device: Device,
}

/// What it saw of one slide.
pub(super) struct Sight {
    pub header: Header,
    pub scores: TileScores,
    /// `[C]` of the whole bag, by the objective's own rule.
    pub probabilities: Vec<f64>,
    pub predicted: usize,
}

impl Eye {
    /// The model of the train run in `folder`, for features of width `features` and `classes` classes.
    ///
    /// # Errors
    /// A model of images, a checkpoint that cannot be read or is of another model.
    pub(super) fn open(trained: &Config, folder: &Path, best: bool, features: usize, classes: usize, device: Device) -> Result<Self> {
        ensure!(
            trained.train.data == DataKind::Bags,
            "the model was trained on {:?}, which have no slides to show; give one of bags",
            trained.train.data
        );
        let learner = Learner::new(&trained.train, Input::Bags(features as i64), classes, trained.seed, device)?;
        checkpoint::load(&folder.join(if best { checkpoint::BEST } else { checkpoint::LAST }), &learner)?;
        Ok(Self { learner, width: features, filter: trained.train.tiles, device })
    }

    /// Looks at one bag.
    ///
    /// Memory: the bag in single precision, and what the aggregator keeps of it.
    ///
    /// # Errors
    /// A bag that cannot be read, of another program, without tiles, or of another width.
    pub(super) fn look(&self, path: &Path) -> Result<Sight> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let bag = bag::read_kept_whole(path, self.filter)?;
        let header = bag.header.with_context(|| {
            format!("'{name}' was written by another program and does not say how large its tiles are; bring it in with `wsi bags convert`")
        })?;
        let (tiles, width) = (bag.features.tiles as i64, bag.features.width as i64);
        ensure!(
            bag.features.width == self.width,
            "'{name}' has {width} features a tile, the model takes {}; it is of another encoder",
            self.width
        );
        ensure!(tiles > 0, "'{name}' has no tiles, so there is nothing to look at");
        let _no_gradient = tch::no_grad_guard();
        let features = Tensor::from_slice(&bag.features.values).to_kind(Kind::Float).view([tiles, width]).to_device(self.device);
        let whole = self.forward(&features.unsqueeze(0));
        let probabilities = self.probabilities(&whole).swap_remove(0);
        let attention = whole.attention.as_ref().map(|attention| rows(&attention.get(0))).unwrap_or_default();
        // METHOD: a tile's class scores are what the model says of a bag of that tile alone. It is defined for every aggregator, and of the
        // objective's own rule, so that scores of different models mean the same.
        let mut classes = vec![Vec::with_capacity(tiles as usize); probabilities.len()];
        for part in features.split(TILES_AT_ONCE, 0) {
            for row in self.probabilities(&self.forward(&part.unsqueeze(1))) {
                classes.iter_mut().zip(row).for_each(|(class, score)| class.push(score));
            }
        }
        let finite = probabilities.iter().chain(attention.iter().flatten()).chain(classes.iter().flatten()).all(|value| value.is_finite());
        ensure!(finite, "the model says of '{name}' what is no finite number; its training diverged");
        let predicted = argmax(&probabilities);
        Ok(Sight { header, scores: TileScores::new(bag.coords, attention, classes), probabilities, predicted })
    }

    /// `[B,N,D]`, every place a tile.
    fn forward(&self, bags: &Tensor) -> Output {
        let (count, tiles) = (bags.size()[0], bags.size()[1]);
        let batch = Batch {
            inputs: bags.shallow_clone(),
            mask: Some(Tensor::ones([count, tiles], (Kind::Bool, self.device))),
            targets: Tensor::zeros([count], (Kind::Int64, self.device)),
            rows: (0..count as usize).collect(),
        };
        self.learner.model.forward(&batch, false).single()
    }

    fn probabilities(&self, output: &Output) -> Vec<Vec<f64>> {
        rows(&self.learner.loss.probabilities(output))
    }
}

/// The path of a slide's bag.
pub(super) fn bag_of(folder: &Path, slide_id: &str) -> PathBuf {
    folder.join(format!("{slide_id}.h5"))
}
