//! A checkpoint: every tensor of model and loss, the optimiser's state and the history, in one safetensors file.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tch::{Tensor, no_grad};

use super::Learner;
use super::fit::State;
use super::optimizers::Optimizer;
use crate::store::history::Epoch;
use crate::store::tensors;

/// The state after the last finished epoch.
pub const LAST: &str = "checkpoint-last.safetensors";
/// The model of the best validation.
pub const BEST: &str = "checkpoint-best.safetensors";
const OPTIMIZER: &str = "optimizer.";

/// Saves both checkpoints into `folder`.
///
/// # Errors
/// Names the file.
pub fn save(folder: &Path, learner: &Learner, optimizer: &dyn Optimizer, state: &State) -> Result<()> {
    let mut last = learner.tensors();
    last.extend(optimizer.state().into_iter().map(|(name, tensor)| (format!("{OPTIMIZER}{name}"), tensor)));
    let best = state.best.as_ref().map(|(epoch, _)| *epoch);
    // The best first: a last checkpoint never names a best one that is not there.
    if let Some((epoch, tensors)) = &state.best {
        tensors::write(&folder.join(BEST), tensors, &json!({"epoch": epoch}))?;
    }
    let history: Vec<Value> = state
        .history
        .iter()
        .map(|e| json!([e.epoch, e.learning_rate, e.train_loss, e.valid_loss, e.valid_macro_f1, e.valid_macro_auc]))
        .collect();
    tensors::write(&folder.join(LAST), &last, &json!({"epoch": state.history.len(), "best": best, "history": history}))
}

/// Continues from `folder`, if it holds a checkpoint; bit-exact for every tensor.
///
/// # Errors
/// A damaged checkpoint, or one of another model.
pub fn resume(folder: &Path, learner: &Learner, optimizer: &mut dyn Optimizer) -> Result<State> {
    let path = folder.join(LAST);
    if !path.is_file() {
        return Ok(State::default());
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
    optimizer.restore(&optimizer_state);
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let lines =
        note["history"].as_array().with_context(|| format!("'{}' has no history; it is no checkpoint of `wsi train`", path.display()))?;
    let history = lines
        .iter()
        .map(|line| Epoch {
            epoch: number(&line[0]) as usize,
            learning_rate: number(&line[1]),
            train_loss: number(&line[2]),
            valid_loss: number(&line[3]),
            valid_macro_f1: number(&line[4]),
            valid_macro_auc: number(&line[5]),
        })
        .collect();
    let best = match note["best"].as_u64() {
        None => None,
        Some(epoch) => Some(read_best(folder, epoch as usize)?),
    };
    Ok(State { history, best })
}

fn read_best(folder: &Path, epoch: usize) -> Result<(usize, BTreeMap<String, Tensor>)> {
    let (tensors, note) = tensors::read(&folder.join(BEST))?;
    let found = note["epoch"].as_u64().map_or(epoch, |epoch| epoch as usize);
    // Killed between the two files: the best one is newer, and the epochs after the last one will be repeated to it.
    Ok((found.min(epoch), tensors))
}

/// Loads a checkpoint's model and loss for evaluation.
///
/// # Errors
/// Names the file.
pub fn load(path: &Path, learner: &Learner) -> Result<()> {
    let (mut all, _) = tensors::read(path)?;
    all.retain(|name, _| !name.starts_with(OPTIMIZER));
    copy_into(learner, &all, path)
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
