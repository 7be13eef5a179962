//! `wsi train`: a dataset, a split and a loss become checkpoints, a history and the split's file.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use super::Machine;
pub use super::data::Data as Inputs;
use crate::config::Config;
use crate::learn::fit::{Training, fit};
use crate::learn::{Learner, checkpoint};
use crate::store::history;
use crate::store::run::{Opened, Recipe, Run, Summary};

/// A killed run repeats at most this long and the epoch after it.
const SAVE_EVERY: Duration = Duration::from_secs(30);

/// What identifies a training run.
///
/// # Errors
/// Inputs that cannot be read.
pub fn recipe(config: &Config, inputs: &Inputs) -> Result<Recipe> {
    Ok(Recipe {
        stage: "train".into(),
        settings: json!({"seed": config.seed, "cohort": config.cohort, "split": config.split, "train": config.train}),
        inputs: inputs.digests(config)?,
    })
}

/// Trains into `out`, or continues what is there.
///
/// # Errors
/// Data, labels or split that do not fit; a loss that is not finite; an interruption (the same call continues).
pub fn run(config: &Config, inputs: &Inputs, out: &Path, machine: &Machine) -> Result<Summary> {
    let run = match Run::open(out, recipe(config, inputs)?)? {
        Opened::Done(summary) => return Ok(summary),
        Opened::Work(run) => run,
    };
    let (dataset, split) = inputs.open(config)?;
    split.write(&run.path("split.csv"), dataset.as_ref())?;
    let settings = &config.train;
    machine.use_threads_for(dataset.as_ref(), settings.batch_size)?;
    let mut learner = Learner::new(settings, dataset.input(), dataset.classes().len(), config.seed, machine.device)?;
    let mut optimizer = settings.optimizer.build(learner.parameters());
    let mut state = checkpoint::resume(&run.folder, &learner, optimizer.as_mut())?;
    if !state.history.is_empty() {
        run.log("resume", json!({"epoch": state.history.len()}))?;
    }
    let training =
        Training { dataset: dataset.as_ref(), train: &split.train, valid: &split.valid, seed: config.seed, device: machine.device };
    let mut saved = Instant::now();
    fit(&mut learner, optimizer.as_mut(), &training, settings, &mut state, &mut |learner, optimizer, state| {
        if let Some(line) = state.history.last() {
            run.log("epoch", json!({"epoch": line.epoch, "train_loss": line.train_loss, "learning_rate": line.learning_rate}))?;
        }
        if saved.elapsed() >= SAVE_EVERY {
            checkpoint::save(&run.folder, learner, optimizer, state)?;
            saved = Instant::now();
        }
        Ok(())
    })?;
    checkpoint::save(&run.folder, &learner, optimizer.as_ref(), &state)?;
    if !state.history.is_empty() {
        history::write(&run.folder, &state.history)?;
    }
    let figures = json!({
        "parameters": learner.parameters().values().map(tch::Tensor::numel).sum::<usize>(),
        "train": split.train.0.len(),
        "valid": split.valid.0.len(),
        "split": split.name,
        "split_digest": split.digest(dataset.as_ref())?,
        "best_epoch": state.best.as_ref().map(|(epoch, _)| *epoch),
        "train_loss": state.history.last().map(|line| line.train_loss),
    });
    run.finish(figures, Default::default())
}
