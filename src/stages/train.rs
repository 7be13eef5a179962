//! `wsi train`: a dataset, a split and a loss become checkpoints, a history and the split's file.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::Machine;
use super::counts::{classes_in_words, counts_in_words};
pub use super::data::Data as Inputs;
use super::watch::Watch;
use crate::config::Config;
use crate::datasets::cohort;
use crate::ground::interrupt::Interrupted;
use crate::ground::usage;
use crate::learn::fit::{State, fit};
use crate::learn::optimizers::Optimizer;
use crate::learn::parallel::Ranks;
use crate::learn::parallel::meet::{self, Verdict};
use crate::learn::{Learner, Training, checkpoint};
use crate::render::training_curves;
use crate::store::leases::Leases;
use crate::store::run::{self, Opened, Recipe, Run, Summary};
use crate::store::{digest, files, history, tensors};
use crate::torch::gpu;

/// A killed run repeats at most about this long; `WSI_SAVE_EVERY` (seconds) changes it. A matter of the machine, not of the result.
const SAVE_EVERY: Duration = Duration::from_secs(30);

/// What a run records the digests of.
const OUTPUTS: [&str; 5] = [checkpoint::LAST, checkpoint::BEST, "split.csv", cohort::FILE, history::FILE];

pub(super) fn save_every() -> Result<Duration> {
    let Ok(text) = std::env::var("WSI_SAVE_EVERY") else { return Ok(SAVE_EVERY) };
    let seconds = text.parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0);
    Ok(Duration::from_secs_f64(seconds.with_context(|| format!("WSI_SAVE_EVERY must be a number of seconds, not '{text}'"))?))
}

/// What a training that failed can be continued from.
fn what_is_left(folder: &Path) -> String {
    match checkpoint::position(&folder.join(checkpoint::LAST)) {
        None => "there is no checkpoint yet".to_owned(),
        Some((epochs, steps)) => format!("'{}' of {epochs} epochs and {steps} steps is whole", checkpoint::LAST),
    }
}

/// What identifies a training run.
///
/// # Errors
/// Inputs that cannot be read.
pub fn recipe(config: &Config, inputs: &Inputs) -> Result<Recipe> {
    Ok(recipe_from(config, inputs.digests(config)?))
}

pub(super) fn recipe_from(config: &Config, inputs: BTreeMap<String, String>) -> Recipe {
    let settings =
        json!({"seed": config.seed, "cohort": config.cohort, "split": config.split, "leaks": config.leaks, "train": config.train});
    Recipe { stage: "train".into(), settings, inputs }
}

/// Trains into `out`, or continues what is there. Where another process is at it, waits for that one's end, and goes on if it ended early.
///
/// # Errors
/// Data, labels or split that do not fit; a loss that is not finite; an interruption (the same call continues).
pub fn run(config: &Config, inputs: &Inputs, out: &Path, machine: &Machine) -> Result<Summary> {
    lead(config, inputs, out, machine, &Ranks::alone())
}

/// The same as one of several ranks; rank 0 writes, and alone has a summary.
///
/// # Errors
/// As [`run`]; a rank that differs from rank 0 in settings, data or initial weights; another rank that has ended.
pub fn run_with(ranks: &Ranks, config: &Config, inputs: &Inputs, out: &Path, machine: &Machine) -> Result<Option<Summary>> {
    if ranks.size() > 1 {
        // Ranks beside each other would else each take every processor; a pool that is there already stays.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(machine.threads).build_global();
    }
    let outcome = if ranks.leads() {
        lead(config, inputs, out, machine, ranks).map(Some)
    } else {
        follow(config, inputs, machine, ranks).map(|()| None)
    };
    if outcome.is_err() {
        ranks.give_up();
    }
    if ranks.size() == 1 { outcome } else { outcome.with_context(|| format!("rank {} of {}", ranks.rank(), ranks.size())) }
}

/// What all ranks show each other before the first step.
fn described(recipe: &Recipe, split_digest: &str, learner: &Learner) -> Result<serde_json::Value> {
    Ok(meet::describe(&recipe.settings, &recipe.inputs, split_digest, &tensors::digest(&learner.tensors())?))
}

/// Every rank but 0: the same steps, and nothing is written.
fn follow(config: &Config, inputs: &Inputs, machine: &Machine, ranks: &Ranks) -> Result<()> {
    let recipe = recipe(config, inputs)?;
    let (dataset, split) = inputs.open(config)?;
    let settings = &config.train;
    machine.use_threads_for(dataset.as_ref(), settings.batch_size)?;
    let mut learner = Learner::new(settings, dataset.input(), dataset.classes().len(), config.seed, machine.device)?;
    learner.join(ranks, settings);
    if ranks.meet(&described(&recipe, &split.digest(dataset.as_ref())?, &learner)?)? == Verdict::Done {
        return Ok(());
    }
    let mut optimizer = settings.optimizer.build(learner.parameters());
    let mut state = State::new(settings.precision);
    ranks.hand_over(&learner, optimizer.as_mut(), &mut state)?;
    let training =
        Training { dataset: dataset.as_ref(), train: &split.train, valid: &split.valid, seed: config.seed, device: machine.device };
    // The looks of rank 0 need every rank's share of the rows.
    let mut watch = Watch::new(settings, dataset.as_ref(), &split, machine.device);
    let mut seen = state.history.len();
    fit(&mut learner, optimizer.as_mut(), &training, settings, &mut state, &mut |learner, _, state| {
        if state.history.len() > seen {
            seen = state.history.len();
            watch.look(learner, seen)?;
        }
        Ok(())
    })
}

/// Seconds that each epoch's steps took: without looks, validations and checkpoints between them, and without the part before a resumption.
struct Stopwatch {
    since: Instant,
    spent: Duration,
    whole: bool,
    epochs: Vec<f64>,
}

impl Stopwatch {
    /// `within`: the epoch under way has begun before.
    fn new(within: bool) -> Self {
        Self { since: Instant::now(), spent: Duration::ZERO, whole: !within, epochs: Vec::new() }
    }

    /// After a step.
    fn step(&mut self) {
        self.spent += self.since.elapsed();
    }

    /// After an epoch; its last step was counted.
    fn epoch(&mut self) {
        let seconds = std::mem::take(&mut self.spent).as_secs_f64();
        if std::mem::replace(&mut self.whole, true) {
            self.epochs.push((seconds * 1000.0).round() / 1000.0);
        }
    }

    /// Goes on counting.
    fn go(&mut self) {
        self.since = Instant::now();
    }
}

fn lead(config: &Config, inputs: &Inputs, out: &Path, machine: &Machine, ranks: &Ranks) -> Result<Summary> {
    let recipe = recipe(config, inputs)?;
    if let Some(summary) = run::done(out, &recipe)? {
        ranks.dismiss()?;
        return Ok(summary);
    }
    // What is wrong with the data or leaks between its parts is said before there is a folder.
    let (dataset, split) = inputs.open(config)?;
    let waivers = inputs.waivers(config, dataset.as_ref(), &split)?;
    let split_digest = split.digest(dataset.as_ref())?;
    config.train.protocol.check(&config.train, split.valid.0.len())?;
    let settings = &config.train;
    machine.use_threads_for(dataset.as_ref(), settings.batch_size)?;
    let mut learner = Learner::new(settings, dataset.input(), dataset.classes().len(), config.seed, machine.device)?;
    ranks.check(split.train.0.len(), settings.batch_size, settings.drop_last)?;
    if ranks.size() > 1 {
        ranks.meet(&described(&recipe, &split_digest, &learner)?)?;
    }
    learner.join(ranks, settings);
    let run = match Run::open(out, recipe)? {
        Opened::Done(summary) => {
            // Somebody else has ended it meanwhile.
            ranks.give_up();
            return Ok(summary);
        }
        Opened::Work(run) => run,
    };
    let leases = Leases::open(&run.folder)?;
    let waited = leases.wait_for("training")?;
    if let Some(summary) = run.finished_by_another()? {
        ranks.give_up();
        return Ok(summary);
    }
    if !waited {
        return Err(run.without_leases());
    }
    split.write(&run.path("split.csv"), dataset.as_ref())?;
    dataset.notes().iter().for_each(|note| tracing::info!("{note}"));
    if config.train.data.is_images() {
        tracing::info!("{}", classes_in_words(dataset.classes()));
    }
    tracing::info!("{}; {}", split.name, counts_in_words(&split.counts(dataset.as_ref()), dataset.classes()));
    if let Some(roll) = dataset.roll() {
        roll.write(&run.path(cohort::FILE))?;
    }
    let mut optimizer = settings.optimizer.build(learner.parameters());
    let mut state = checkpoint::resume(&run.folder, &learner, optimizer.as_mut(), settings.precision)?;
    ensure!(
        state.split.is_empty() || state.split == split_digest,
        "'{}' was trained on the split {}, this is {split_digest}; train into another --out",
        run.folder.join(checkpoint::LAST).display(),
        state.split
    );
    state.split.clone_from(&split_digest);
    let mut noted = state.history.len();
    if noted > 0 || state.within.steps > 0 {
        run.log("resume", json!({"epochs": noted, "steps": state.within.steps}))?;
    }
    if ranks.size() > 1 {
        run.log("ranks", json!({"ranks": ranks.size()}))?;
    }
    ranks.hand_over(&learner, optimizer.as_mut(), &mut state)?;
    let training =
        Training { dataset: dataset.as_ref(), train: &split.train, valid: &split.valid, seed: config.seed, device: machine.device };
    let mut watch = Watch::new(settings, dataset.as_ref(), &split, machine.device).writing(&run.folder, state.history.len())?;
    let mut stopwatch = Stopwatch::new(state.within.steps > 0);
    let own_peak = usage::restart_peak_memory();
    let every = save_every()?;
    let mut saved = Instant::now();
    let mut best_saved = state.best.as_ref().map(|(epoch, _)| *epoch);
    let mut save = |learner: &Learner, optimizer: &dyn Optimizer, state: &State| {
        leases.check()?;
        let best = state.best.as_ref().map(|(epoch, _)| *epoch);
        checkpoint::save(&run.folder, learner, optimizer, state, best != best_saved)?;
        best_saved = best;
        anyhow::Ok(())
    };
    let fitted = fit(&mut learner, optimizer.as_mut(), &training, settings, &mut state, &mut |learner, optimizer, state| {
        match state.history.len() > noted {
            true => stopwatch.epoch(),
            false => stopwatch.step(),
        }
        if let Some(line) = state.history.last().filter(|_| state.history.len() > noted) {
            run.log("epoch", json!({"epoch": line.epoch, "train_loss": line.train_loss, "learning_rate": line.learning_rate}))?;
            noted = state.history.len();
            watch.look(learner, noted)?;
        }
        if saved.elapsed() >= every {
            save(learner, optimizer, state)?;
            saved = Instant::now();
        }
        stopwatch.go();
        Ok(())
    });
    if let Err(error) = fitted {
        // An interruption comes between two steps; any other error may have left half of one, so that nothing is saved after it.
        if error.is::<Interrupted>() {
            save(&learner, optimizer.as_ref(), &state)?;
            return Err(error);
        }
        return Err(error.context(format!("training with the loss '{}' ended; {}", settings.loss.name(), what_is_left(&run.folder))));
    }
    save(&learner, optimizer.as_ref(), &state)?;
    if !state.history.is_empty() {
        history::write(&run.folder, &state.history)?;
        if let Some(chart) = training_curves(&state.history)? {
            files::write_bytes(&run.path("curves.svg"), chart.as_bytes())?;
        }
    }
    let figures = json!({
        "parameters": learner.parameters().values().map(tch::Tensor::numel).sum::<usize>(),
        "train": split.train.0.len(),
        "valid": split.valid.0.len(),
        "split": split.name,
        "split_digest": split_digest,
        "waivers": waivers,
        "best_epoch": state.best.as_ref().map(|(epoch, _)| *epoch),
        "train_loss": state.history.last().map(|line| line.train_loss),
        "epochs": state.history.len(),
        "ranks": ranks.size(),
        "classes": dataset.classes().len(),
        "test": split.test.0.len(),
        "device": format!("{:?}", machine.device).to_lowercase(),
        "epoch_seconds": stopwatch.epochs,
        "peak_memory": usage::peak_memory().filter(|_| own_peak),
        "peak_gpu_memory": gpu::peak_memory(machine.device),
        "bags": inputs.seal(config, dataset.as_ref())?,
        "outputs": digest::outputs(&run.folder, &OUTPUTS)?,
    });
    let summary = run.finish(figures, Default::default())?;
    leases.close()?;
    Ok(summary)
}
