//! The only training loop. A student can read it aloud: start, then for each epoch shuffle, step, validate, remember the best.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use tch::{Tensor, no_grad};

use super::evaluate::{Evaluated, evaluate, macro_scores};
use super::feed::{Feed, feed};
use super::optimizers::Optimizer;
use super::precision::{LossScale, Precision};
use super::{Learner, TrainSettings, Training, curves, finite};
use crate::datasets::Augment;
use crate::ground::progress::Progress;
use crate::ground::seed;
use crate::losses::Moment;
use crate::store::history::{Epoch, MeasuredOn};
use crate::torch::autocast::autocast;

/// Most training samples whose embeddings start a loss's running centre.
const START_SAMPLES: usize = 256;

/// How far training is; with the learner's tensors and the optimiser's state this is all that resuming needs.
///
/// Random streams need no place here: each step's follow from the seed, its epoch and its number.
pub struct State {
    /// One line per finished epoch.
    pub history: Vec<Epoch>,
    /// Epoch of the best validation and all tensors then.
    pub best: Option<(usize, BTreeMap<String, Tensor>)>,
    /// Where the epoch under way stands.
    pub within: Within,
    /// The running scale of the loss.
    pub scale: LossScale,
    /// Digest of the split that is trained on; empty where none was named.
    pub split: String,
}

impl State {
    /// Before the first step.
    pub fn new(precision: Precision) -> Self {
        Self { history: Vec::new(), best: None, within: Within::default(), scale: LossScale::new(precision), split: String::new() }
    }
}

/// Where the epoch under way stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Within {
    /// Optimiser steps done.
    pub steps: usize,
    /// Sum of the losses of the samples seen, and their number.
    pub loss_sum: f64,
    /// See `loss_sum`.
    pub samples: usize,
}

/// Trains until `settings.epochs` or an early stop. After every step and every epoch `keep` may save what it is given; a
/// training that continues from there ends the same to the last bit, on a processor; a GPU's own kernels add in no fixed order.
///
/// # Errors
/// A label that is no class, a sample that cannot be read, an input or a loss that is not finite: no weight is changed by the step
/// in which it was found. Settings that do not fit the device or the split. An interruption comes between two steps, so that `learner`, `optimizer` and `state` can be saved after it.
pub fn fit(
    learner: &mut Learner,
    optimizer: &mut dyn Optimizer,
    training: &Training,
    settings: &TrainSettings,
    state: &mut State,
    keep: &mut dyn FnMut(&Learner, &dyn Optimizer, &State) -> Result<()>,
) -> Result<()> {
    let loss = settings.loss.name();
    finite::check_labels(loss, training.dataset, &training.train.0)?;
    finite::check_labels(loss, training.dataset, &training.valid.0)?;
    settings.early_stop.check(training.valid.0.len())?;
    settings.precision.check(training.device)?;
    learner.ranks.check(training.train.0.len(), settings.batch_size, settings.drop_last)?;
    if learner.loss.wants_start() {
        let mut rows = training.train.0.clone();
        rows.shuffle(&mut seed::stream(training.seed, "start"));
        rows.truncate(START_SAMPLES);
        let initial = evaluate(learner, training.dataset, &rows, settings.batch_size, training.device)?;
        learner.loss.start(&initial.embeddings.to_device(training.device));
    }
    let progress = learner.ranks.leads().then(|| Progress::new("epochs", settings.epochs));
    let advance = |epochs, note: &str| progress.iter().for_each(|progress| progress.add(epochs, note));
    advance(state.history.len(), "");
    let finished = |history: &[Epoch]| history.len() >= settings.epochs || settings.early_stop.is_due(history);
    if settings.epochs == 0 {
        refresh(learner, training, settings)?;
    }
    while !learner.ranks.of_lead(finished(&state.history))? {
        let epoch = state.history.len() + 1;
        train_epoch(learner, optimizer, training, settings, state, epoch, keep)?;
        let learning_rate = settings.optimizer.learning_rate() * settings.schedule.share((epoch - 1) as f64, settings.epochs);
        let mut line = Epoch::new(epoch, learning_rate, state.within.loss_sum / state.within.samples as f64);

        let last = epoch == settings.epochs;
        let has_validation = !training.valid.0.is_empty();
        let validated = has_validation && (last || epoch.is_multiple_of(settings.validate_every.max(1)));
        let measured = settings.curves_every > 0 && (last || epoch.is_multiple_of(settings.curves_every));
        if has_validation && (validated || measured) {
            // One sweep of each part serves the scores and the curves.
            refresh(learner, training, settings)?;
            let seen = evaluate(learner, training.dataset, &training.valid.0, settings.batch_size, training.device)?;
            let probabilities = seen.probabilities(learner);
            if validated {
                validate(&seen, &probabilities, training.dataset.classes().len(), &mut line);
                settings.select.check(&line)?;
                settings.early_stop.check_defined(&line)?;
            }
            if measured {
                curves::measure(&seen, &probabilities, MeasuredOn::Validation, &mut line);
            }
        } else if measured {
            curves::measure_on_training_sample(learner, training, settings.batch_size, &mut line)?;
        }
        if last && !has_validation {
            refresh(learner, training, settings)?;
        }

        state.history.push(line);
        state.within = Within::default();
        if validated && settings.select.best(&state.history) == Some(epoch) {
            state.best = Some((epoch, learner.tensors().into_iter().map(|(name, t)| (name, t.detach().copy())).collect()));
        }
        advance(1, &format!("loss {:.4}", line.train_loss));
        keep(learner, optimizer, state)?;
    }
    progress.iter().for_each(Progress::finish);
    Ok(())
}

/// The rest of one pass over the training rows in the epoch's own random order.
fn train_epoch(
    learner: &mut Learner,
    optimizer: &mut dyn Optimizer,
    training: &Training,
    settings: &TrainSettings,
    state: &mut State,
    epoch: usize,
    keep: &mut dyn FnMut(&Learner, &dyn Optimizer, &State) -> Result<()>,
) -> Result<()> {
    let mut rows = training.train.0.clone();
    rows.shuffle(&mut seed::stream(training.seed, &format!("order/{epoch}")));
    let mut batches: Vec<&[usize]> = rows.chunks(settings.batch_size).collect();
    if settings.drop_last && batches.len() > 1 {
        batches.retain(|batch| batch.len() == settings.batch_size);
    }
    let steps: Vec<&[&[usize]]> = batches.chunks(settings.accumulate).collect();
    let coming: Vec<&[usize]> = steps[state.within.steps.min(steps.len())..].iter().copied().flatten().copied().collect();
    let views = learner.loss.views();
    // Equal views would teach nothing: a loss of several views gets random ones whatever the setting.
    let augment = (settings.augment || views > 1).then_some(Augment { seed: training.seed, epoch, views });
    let own: Vec<Vec<usize>> = coming.iter().map(|batch| learner.ranks.share(batch)).collect();
    training.dataset.announce(&own.concat());
    let wanted: Vec<Vec<usize>> = own.iter().map(|rows| rows.repeat(views)).collect();
    feed(training.dataset, &wanted, augment, training.device, |feed| {
        while state.within.steps < steps.len() {
            learner.ranks.check_interrupt()?;
            let step = state.within.steps;
            seed::seed_torch(training.seed, &dropout_stream(epoch, step, learner.ranks.rank()));
            let passed = (epoch - 1) as f64 + step as f64 / steps.len() as f64;
            let mut place = Place { epoch, passed, batches: steps[step], feed };
            let loss = take_step(learner, optimizer, training, settings, &mut state.scale, &mut place)
                .with_context(|| format!("epoch {epoch}, step {} of {}; nothing of it is kept", step + 1, steps.len()))?;
            let samples: usize = steps[step].iter().map(|batch| batch.len()).sum();
            state.within = Within {
                steps: step + 1,
                loss_sum: state.within.loss_sum + loss * samples as f64,
                samples: state.within.samples + samples,
            };
            keep(learner, optimizer, state)?;
        }
        Ok(())
    })
}

/// Name of a step's random stream; other ranks drop other units of their samples.
fn dropout_stream(epoch: usize, step: usize, rank: usize) -> String {
    if rank == 0 { format!("dropout/{epoch}/{step}") } else { format!("dropout/{epoch}/{step}/{rank}") }
}

/// Where a step stands in time, and what it is given.
struct Place<'a> {
    /// From 1.
    epoch: usize,
    /// Epochs passed, with fraction.
    passed: f64,
    /// Rows of its batches, all ranks'.
    batches: &'a [&'a [usize]],
    /// Whence this rank's part of them comes.
    feed: &'a mut Feed,
}

/// Forward and backward of some batches, then one step of the model and one of the loss; returns the mean loss.
fn take_step(
    learner: &mut Learner,
    optimizer: &mut dyn Optimizer,
    training: &Training,
    settings: &TrainSettings,
    scale: &mut LossScale,
    place: &mut Place,
) -> Result<f64> {
    let views = learner.loss.views();
    let samples: usize = place.batches.iter().map(|batch| batch.len()).sum();
    let ranks = learner.ranks.clone();
    let mut mean = 0.0;
    let mut own_terms = 0.0;
    let mut seen = None;
    learner.model.before_step(place.passed / settings.epochs as f64);
    optimizer.zero_gradients();
    for rows in place.batches {
        let batch = place.feed.next()?;
        let (output, own) = autocast(training.device, settings.precision.kind(), || learner.model.forward_step(&batch))?;
        // Losses take logarithms and differences of small numbers.
        let output = if settings.precision == Precision::F32 { output } else { output.single() };
        if ranks.size() > 1 {
            // What is wrong with a sample is said by the rank that has it, before the others see its output.
            finite::check_output(training.dataset, &batch, &output)?;
        }
        let (own, of_own) = ranks.weigh(own, (batch.rows.len() / views) as f64 / rows.len() as f64);
        let (all, targets) = ranks.collect(&output, &batch.targets, views, rows.len())?;
        let terms = learner.model.total(learner.loss.forward(&all, &targets), own);
        let traces = finite::Traces::of(&batch, &output, &terms);
        let share = rows.len() as f64 / samples as f64;
        // METHOD: gradients of the batches are averaged by samples, so that a loss that is a mean over samples does not see the cut.
        (&terms.total * (share * scale.factor)).backward();
        let value = traces.check(settings.loss.name(), training.dataset, &batch, &output, &terms)?;
        mean += (value - of_own) * share;
        own_terms += of_own * share;
        seen = Some((batch, rows.len()));
    }
    mean += ranks.sum_gradients(optimizer.parameters(), own_terms)?;
    if !settings.sync_batch_norm {
        ranks.average_statistics(&learner.tensors())?;
    }
    let moment = Moment {
        epoch: place.epoch,
        epochs: settings.epochs,
        rate_share: settings.schedule.share_without_warm_up(place.passed, settings.epochs),
    };
    if scale.unscale(settings.precision, optimizer) {
        finite::check_gradients(settings.loss.name(), optimizer.parameters())?;
        if settings.clip > 0.0 {
            optimizer.clip_gradients(settings.clip);
        }
        optimizer.step(settings.optimizer.learning_rate() * settings.schedule.share(place.passed, settings.epochs));
        learner.model.after_step();
    }
    // Also after an overflow: a loss finds its own gradient without the scale.
    match seen.filter(|_| learner.loss.wants_revision(&moment)) {
        Some((last, samples)) => {
            let revised = no_grad(|| learner.model.forward(&last, true));
            let (all, targets) = ranks.collect(&revised, &last.targets, views, samples)?;
            learner.loss.revise(&all, &targets, &moment);
            if !settings.sync_batch_norm {
                ranks.average_statistics(&learner.tensors())?;
            }
        }
        None => learner.loss.step(&moment),
    }
    Ok(mean)
}

fn refresh(learner: &mut Learner, training: &Training, settings: &TrainSettings) -> Result<()> {
    if !learner.loss.wants_refresh() {
        return Ok(());
    }
    let swept = evaluate(learner, training.dataset, &training.train.0, settings.batch_size, training.device)?;
    learner.loss.refresh(&swept.output(training.device), &swept.targets.to_device(training.device));
    Ok(())
}

/// Fills the validation columns: negative log-probability and macro scores of the objective's own decision.
fn validate(seen: &Evaluated, probabilities: &[Vec<f64>], classes: usize, line: &mut Epoch) {
    let targets = seen.targets();
    let surprise = targets.iter().zip(probabilities).map(|(&target, p)| -p[target].max(1e-12).ln());
    line.valid_loss = surprise.sum::<f64>() / targets.len() as f64;
    (line.valid_macro_f1, line.valid_macro_auc) = macro_scores(&targets, probabilities, classes);
}
