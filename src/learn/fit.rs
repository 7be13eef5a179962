//! The only training loop. A student can read it aloud: start, then for each epoch shuffle, step, validate, remember the best.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use rand::seq::SliceRandom;
use tch::{Device, Kind, Tensor, no_grad};

use super::evaluate::{evaluate, macro_scores};
use super::optimizers::Optimizer;
use super::{Learner, TrainSettings};
use crate::datasets::split::{TrainRows, ValidRows};
use crate::datasets::{Augment, Dataset};
use crate::ground::progress::Progress;
use crate::ground::{interrupt, seed};
use crate::losses::Moment;
use crate::store::history::Epoch;

/// Most training samples whose embeddings start a loss's running centre.
const START_SAMPLES: usize = 256;

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

/// How far training is; with the learner's tensors and the optimiser's state this is all that resuming needs.
#[derive(Default)]
pub struct State {
    /// One line per finished epoch.
    pub history: Vec<Epoch>,
    /// Epoch of the best validation and all tensors then.
    pub best: Option<(usize, BTreeMap<String, Tensor>)>,
}

/// Trains until `settings.epochs`; `after_epoch` may save. Continues from whatever `state` says is done, to the same result.
///
/// # Errors
/// A sample that cannot be read, a loss that is not finite, an interruption.
pub fn fit(
    learner: &mut Learner,
    optimizer: &mut dyn Optimizer,
    training: &Training,
    settings: &TrainSettings,
    state: &mut State,
    after_epoch: &mut dyn FnMut(&Learner, &dyn Optimizer, &State) -> Result<()>,
) -> Result<()> {
    if learner.loss.wants_start() {
        let mut rows = training.train.0.clone();
        rows.shuffle(&mut seed::stream(training.seed, "start"));
        rows.truncate(START_SAMPLES);
        let initial = evaluate(learner, training.dataset, &rows, settings.batch_size, training.device)?;
        learner.loss.start(&initial.embeddings.to_device(training.device));
    }
    let progress = Progress::new("epochs", settings.epochs);
    progress.add(state.history.len(), "");
    if state.history.len() == settings.epochs {
        refresh(learner, training, settings)?;
    }
    while state.history.len() < settings.epochs {
        let epoch = state.history.len() + 1;
        let (learning_rate, train_loss) = train_epoch(learner, optimizer, training, settings, epoch)?;
        let last = epoch == settings.epochs;
        let validated = !training.valid.0.is_empty() && (last || epoch.is_multiple_of(settings.validate_every.max(1)));
        if learner.loss.wants_refresh() && (last || validated) {
            refresh(learner, training, settings)?;
        }
        let nan = f64::NAN;
        let mut line = Epoch { epoch, learning_rate, train_loss, valid_loss: nan, valid_macro_f1: nan, valid_macro_auc: nan };
        if validated {
            validate(learner, training, settings, &mut line)?;
            // METHOD: the epoch is chosen by macro-F1 + macro-AUC on the validation rows, never on the test rows; ties go to the later one.
            let score = |line: &Epoch| line.valid_macro_f1 + if line.valid_macro_auc.is_nan() { 0.0 } else { line.valid_macro_auc };
            let best = state.best.as_ref().map(|(epoch, _)| score(&state.history[*epoch - 1]));
            if best.is_none_or(|best| score(&line) >= best) {
                state.best = Some((epoch, learner.tensors().into_iter().map(|(name, t)| (name, t.detach().copy())).collect()));
            }
        }
        state.history.push(line);
        progress.add(1, &format!("loss {train_loss:.4}"));
        after_epoch(learner, optimizer, state)?;
    }
    progress.finish();
    Ok(())
}

/// One pass over the training rows in the epoch's own random order; returns its first learning rate and the mean loss.
fn train_epoch(
    learner: &mut Learner,
    optimizer: &mut dyn Optimizer,
    training: &Training,
    settings: &TrainSettings,
    epoch: usize,
) -> Result<(f64, f64)> {
    let mut rows = training.train.0.clone();
    rows.shuffle(&mut seed::stream(training.seed, &format!("order/{epoch}")));
    seed::seed_torch(training.seed, &format!("dropout/{epoch}"));
    let mut batches: Vec<&[usize]> = rows.chunks(settings.batch_size).collect();
    if settings.drop_last && batches.len() > 1 {
        batches.retain(|batch| batch.len() == settings.batch_size);
    }
    let views = learner.loss.views();
    // Equal views would teach nothing: a loss of several views gets random ones whatever the setting.
    let augment = (settings.augment || views > 1).then_some(Augment { seed: training.seed, epoch, views });
    let initial_rate = settings.optimizer.learning_rate();
    let mut sum = Tensor::zeros([1], (Kind::Double, training.device));
    let mut first_rate = None;
    for (index, rows) in batches.iter().enumerate() {
        interrupt::check()?;
        let passed = (epoch - 1) as f64 + index as f64 / batches.len() as f64;
        let rate_share = settings.schedule.share(passed, settings.epochs);
        first_rate.get_or_insert(initial_rate * rate_share);
        let batch = training.dataset.batch(&rows.repeat(views), augment, training.device)?;
        learner.model.before_step(passed / settings.epochs as f64);
        let (output, regularisers) = learner.model.forward_step(&batch);
        let objective = learner.loss.forward(&output, &batch.targets).total;
        let total = learner.model.total(&objective, &regularisers);
        optimizer.zero_gradients();
        total.backward();
        if settings.clip > 0.0 {
            optimizer.clip_gradients(settings.clip);
        }
        optimizer.step(initial_rate * rate_share);
        learner.model.after_step();
        let moment = Moment { epoch, epochs: settings.epochs, rate_share };
        if learner.loss.wants_revision(&moment) {
            let revised = no_grad(|| learner.model.forward(&batch, true));
            learner.loss.revise(&revised, &batch.targets, &moment);
        } else {
            learner.loss.step(&moment);
        }
        sum += total.detach().to_kind(Kind::Double) * rows.len() as f64;
    }
    let count: usize = batches.iter().map(|batch| batch.len()).sum();
    let mean = sum.double_value(&[0]) / count as f64;
    ensure!(mean.is_finite(), "the loss is {mean} in epoch {epoch}; lower the learning rate");
    Ok((first_rate.unwrap_or(0.0), mean))
}

fn refresh(learner: &mut Learner, training: &Training, settings: &TrainSettings) -> Result<()> {
    let swept = evaluate(learner, training.dataset, &training.train.0, settings.batch_size, training.device)?;
    learner.loss.refresh(&swept.output(training.device), &swept.targets.to_device(training.device));
    Ok(())
}

/// Fills the validation columns: negative log-probability and macro scores of the objective's own decision.
fn validate(learner: &Learner, training: &Training, settings: &TrainSettings, line: &mut Epoch) -> Result<()> {
    let seen = evaluate(learner, training.dataset, &training.valid.0, settings.batch_size, training.device)?;
    let (targets, probabilities) = (seen.targets(), seen.probabilities(learner));
    let surprise = targets.iter().zip(&probabilities).map(|(&target, p)| -p[target].max(1e-12).ln());
    line.valid_loss = surprise.sum::<f64>() / targets.len() as f64;
    (line.valid_macro_f1, line.valid_macro_auc) = macro_scores(&targets, &probabilities, training.dataset.classes().len());
    Ok(())
}
