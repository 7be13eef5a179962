//! A checkpoint: every tensor of model and loss, the optimiser's state and the history, in one safetensors file.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tch::{Tensor, no_grad};

use super::fit::State;
use super::optimizers::Optimizer;
use super::precision::Precision;
use super::{Learner, finite};
use crate::store::history::Epoch;
use crate::store::{files, tensors};

/// The state after the last step that was saved.
pub const LAST: &str = "checkpoint-last.safetensors";
/// The model of the best validation.
pub const BEST: &str = "checkpoint-best.safetensors";
/// The model of a better validation, until the last checkpoint names it.
const NEXT_BEST: &str = "checkpoint-best-next.safetensors";
const OPTIMIZER: &str = "optimizer.";

/// Saves into `folder`: the last checkpoint, and the best one if `best_too`. A kill at any moment leaves a pair that belongs
/// together: a new best one waits under a name of its own until the last one, which names it by its epoch, is there.
///
/// # Errors
/// Names the file, or the tensor that is not finite: a good checkpoint is never replaced by a spoilt one.
pub fn save(folder: &Path, learner: &Learner, optimizer: &dyn Optimizer, state: &State, best_too: bool) -> Result<()> {
    let mut last = learner.tensors();
    finite::check_weights(&last)?;
    last.extend(optimizer.state().into_iter().map(|(name, tensor)| (format!("{OPTIMIZER}{name}"), tensor)));
    let better = state.best.as_ref().filter(|_| best_too);
    if let Some((epoch, tensors)) = better {
        tensors::write(&folder.join(NEXT_BEST), tensors, &json!({"epoch": epoch, "split": state.split}))?;
    }
    tensors::write(&folder.join(LAST), &last, &note(state))?;
    if better.is_some() {
        files::replace(&folder.join(NEXT_BEST), &folder.join(BEST))?;
    }
    Ok(())
}

/// All of a state but the tensors of its best epoch.
pub(super) fn note(state: &State) -> Value {
    let line = |e: &Epoch| json!({"columns": Epoch::COLUMNS.map(|(_, field, _)| field(e)), "measured-on": e.measured_on});
    json!({
        "epoch": state.history.len(),
        "best": state.best.as_ref().map(|(epoch, _)| *epoch),
        "history": state.history.iter().map(line).collect::<Vec<_>>(),
        "within": state.within,
        "scale": state.scale,
        "split": state.split,
    })
}

/// The state that [`note`] wrote down, without a best epoch.
pub(super) fn noted(note: &Value) -> Option<State> {
    let mut history = Vec::new();
    for (index, line) in note["history"].as_array()?.iter().enumerate() {
        let mut epoch = Epoch::new(index + 1, f64::NAN, f64::NAN);
        epoch.measured_on = serde_json::from_value(line["measured-on"].clone()).ok()?;
        for ((_, _, field), value) in Epoch::COLUMNS.iter().zip(line["columns"].as_array()?) {
            // JSON has no NaN; it is null there.
            *field(&mut epoch) = value.as_f64().unwrap_or(f64::NAN);
        }
        history.push(epoch);
    }
    let within = serde_json::from_value(note["within"].clone()).ok()?;
    let scale = serde_json::from_value(note["scale"].clone()).ok()?;
    Some(State { history, best: None, within, scale, split: split(note).unwrap_or_default() })
}

/// Continues from `folder`, if it holds a checkpoint; bit-exact for every tensor.
///
/// # Errors
/// A damaged checkpoint, or one of another model.
pub fn resume(folder: &Path, learner: &Learner, optimizer: &mut dyn Optimizer, precision: Precision) -> Result<State> {
    let path = folder.join(LAST);
    if !path.is_file() {
        settle_best(folder, None)?;
        return Ok(State::new(precision));
    }
    let (mut all, note) = tensors::read(&path)?;
    let mut optimizer_state = BTreeMap::new();
    all.retain(|name, tensor| match name.strip_prefix(OPTIMIZER) {
        Some(name) => {
            optimizer_state.insert(name.to_owned(), tensor.to_device(learner.variables.device()));
            false
        }
        None => true,
    });
    copy_into(learner, &all, &path)?;
    optimizer.restore(&optimizer_state).with_context(|| format!("'{}'", path.display()))?;
    let damaged = || format!("the note in '{}' is not that of a checkpoint of `wsi train`", path.display());
    let state = noted(&note).with_context(damaged)?;
    Ok(State { best: settle_best(folder, note["best"].as_u64())?, ..state })
}

/// The best checkpoint, which is that of `epoch`; finishes or takes back what a kill cut short.
fn settle_best(folder: &Path, epoch: Option<u64>) -> Result<Option<(usize, BTreeMap<String, Tensor>)>> {
    let (best, next) = (folder.join(BEST), folder.join(NEXT_BEST));
    let mut found = None;
    for path in [&best, &next].into_iter().filter(|path| path.is_file()) {
        let (tensors, note) = tensors::read(path)?;
        if epoch.is_some() && note["epoch"].as_u64() == epoch {
            found = epoch.map(|epoch| (epoch as usize, tensors));
            if path == &next {
                files::replace(&next, &best)?;
            }
            break;
        }
    }
    ensure!(
        found.is_some() || epoch.is_none(),
        "'{}' names epoch {} as the best, and '{BEST}' is not of that epoch; copy the two files together, or train into another --out",
        folder.join(LAST).display(),
        epoch.unwrap_or_default()
    );
    if next.is_file() {
        std::fs::remove_file(&next).with_context(|| format!("cannot remove '{}'", next.display()))?;
    }
    Ok(found)
}

/// Finished epochs of a checkpoint, and steps of the next one; `None` where there is none that can be read.
pub fn position(path: &Path) -> Option<(usize, usize)> {
    let (_, note) = tensors::read(path).ok()?;
    Some((note["epoch"].as_u64()? as usize, note["within"]["steps"].as_u64()? as usize))
}

/// Loads a checkpoint's model and loss for evaluation; returns the digest of the split that they were trained on, where it is known.
///
/// # Errors
/// Names the file.
pub fn load(path: &Path, learner: &Learner) -> Result<Option<String>> {
    let (mut all, note) = tensors::read(path)?;
    all.retain(|name, _| !name.starts_with(OPTIMIZER));
    copy_into(learner, &all, path)?;
    Ok(split(&note))
}

/// The split's digest in a note; checkpoints of before it was kept have none.
fn split(note: &Value) -> Option<String> {
    note["split"].as_str().filter(|digest| !digest.is_empty()).map(str::to_owned)
}

fn copy_into(learner: &Learner, tensors: &BTreeMap<String, Tensor>, path: &Path) -> Result<()> {
    let variables = learner.tensors();
    let missing: Vec<&String> = variables.keys().filter(|name| !tensors.contains_key(*name)).collect();
    let unexpected: Vec<&String> = tensors.keys().filter(|name| !variables.contains_key(*name)).collect();
    if !missing.is_empty() || !unexpected.is_empty() {
        bail!("'{}' is of another model: missing {missing:?}, unexpected {unexpected:?}", path.display());
    }
    for (name, variable) in variables {
        let tensor = &tensors[&name];
        ensure!(
            tensor.size() == variable.size(),
            "'{}': '{name}' is {:?} there and {:?} here",
            path.display(),
            tensor.size(),
            variable.size()
        );
        no_grad(|| variable.shallow_clone().copy_(tensor));
    }
    Ok(())
}
