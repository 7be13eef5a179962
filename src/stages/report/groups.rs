//! Which runs belong together: the same recipe, repeated over folds and seeds.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;

use super::runs::Probe;
use crate::store::digest;
use crate::store::scores::{ScoreFile, Split, SplitKind};

/// One training of the recipe on the whole cohort: a seed, and for shuffled labels the shuffle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Repeat {
    pub seed: u64,
    /// Which draw of a monte-carlo split; their test sets overlap, so that they are averaged as seeds are.
    pub draw: Option<usize>,
    /// What follows the first comma of the labels' description: `stream 3`.
    pub shuffle: String,
}

impl std::fmt::Display for Repeat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seed {}", self.seed)?;
        if let Some(draw) = self.draw {
            write!(f, ", draw {draw}")?;
        }
        if self.shuffle.is_empty() { Ok(()) } else { write!(f, ", {}", self.shuffle) }
    }
}

/// Everything that runs of one group share; its order is the order of the report.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    shuffled: bool,
    kind: SplitKind,
    pub split: String,
    pub aggregator: String,
    pub encoder: String,
    untrained: bool,
    pub loss: String,
    pub labels: String,
    pub epochs: usize,
    pub checkpoint: String,
    /// By which rules the runs were made.
    pub protocol: String,
    pub folds: usize,
    pub group: String,
    classes: Vec<String>,
    /// Digest of model, bags a step and probe: what two objectives must share to be compared.
    model: String,
    /// Digest of the settings without seed and fold; empty unless it is needed to tell two recipes apart.
    pub settings: String,
}

impl Key {
    /// Whether intervals and tests are shown for it. METHOD: the published protocol selects and reports single numbers; intervals
    /// around them would lend it what it does not have.
    pub(super) fn is_strict(&self) -> bool {
        self.protocol == "strict"
    }

    /// Whether two recipes stand on the same division, bags, model, bags a step and probe, so that their scores may be subtracted.
    pub(super) fn same_setting(&self, other: &Self) -> bool {
        let division = |key: &Self| (key.kind, key.split.clone(), key.folds, key.encoder.clone(), key.classes.clone());
        division(self) == division(other) && self.aggregator == other.aggregator && self.model == other.model
    }
}

/// Runs of one recipe.
pub(super) struct Group<'a> {
    pub key: Key,
    /// By repeat, then fold.
    pub runs: BTreeMap<Repeat, BTreeMap<usize, &'a Probe>>,
}

impl Group<'_> {
    /// Every run.
    pub(super) fn probes(&self) -> impl Iterator<Item = &Probe> {
        self.runs.values().flat_map(|folds| folds.values().copied())
    }

    /// Folds that a repeat lacks.
    pub(super) fn missing(&self, repeat: &Repeat) -> Vec<usize> {
        (0..self.key.folds).filter(|fold| !self.runs[repeat].contains_key(fold)).collect()
    }
}

/// Sorts runs into groups. Notes say which runs were left out because an equal one was given before.
///
/// # Errors
/// Settings that cannot be written as JSON.
pub(super) fn group(probes: &[Probe]) -> Result<(Vec<Group<'_>>, Vec<String>)> {
    let mut by_key: BTreeMap<Key, Vec<&Probe>> = BTreeMap::new();
    for probe in probes {
        by_key.entry(key(&probe.scores)?).or_default().push(probe);
    }
    let (mut groups, mut notes) = (Vec::new(), Vec::new());
    for (key, members) in by_key {
        // Two runs of one seed and fold under one label: the recipes differ in a setting that the label does not name.
        let places: Vec<(Repeat, usize)> = members.iter().map(|probe| (repeat(&probe.scores), fold(&probe.scores.split))).collect();
        let collide = (1..places.len()).any(|i| places[..i].contains(&places[i]));
        let mut parts: BTreeMap<String, Group> = BTreeMap::new();
        for (probe, (repeat, fold)) in members.into_iter().zip(places) {
            let settings = if collide { probe.scores.recipe()? } else { String::new() };
            let part =
                parts.entry(settings.clone()).or_insert_with(|| Group { key: Key { settings, ..key.clone() }, runs: BTreeMap::new() });
            let folds = part.runs.entry(repeat.clone()).or_default();
            if let Some(first) = folds.get(&fold) {
                notes.push(format!("'{}' repeats '{}' (same recipe, {repeat}, fold {fold}) and is left out.", probe.name, first.name));
            } else {
                folds.insert(fold, probe);
            }
        }
        groups.extend(parts.into_values());
    }
    Ok((groups, notes))
}

fn key(scores: &ScoreFile) -> Result<Key> {
    let setting = |pointer: &str| scores.settings.pointer(pointer).unwrap_or(&Value::Null);
    let shared = ["/train/train/model", "/train/train/batch-size", "/train/train/accumulate", "/probe/linear"].map(setting);
    Ok(Key {
        shuffled: scores.labels != "true",
        kind: scores.split.kind,
        split: without_fold_and_seed(&scores.split.name),
        aggregator: scores.aggregator.clone(),
        encoder: scores.encoder.clone(),
        untrained: scores.epochs == 0,
        loss: scores.loss.clone(),
        labels: scores.labels.split(", ").next().unwrap_or_default().to_owned(),
        epochs: scores.epochs,
        checkpoint: scores.checkpoint.clone(),
        protocol: scores.protocol.clone(),
        folds: if scores.split.kind == SplitKind::MonteCarlo { 1 } else { scores.split.folds },
        group: scores.group.clone(),
        classes: scores.classes.clone(),
        model: digest::settings(&shared)?,
        settings: String::new(),
    })
}

fn repeat(scores: &ScoreFile) -> Repeat {
    let shuffle = scores.labels.split_once(", ").map_or("", |(_, rest)| rest);
    let draw = (scores.split.kind == SplitKind::MonteCarlo).then_some(scores.split.fold);
    Repeat { seed: scores.seed, draw, shuffle: shuffle.to_owned() }
}

/// The fold within a repeat; a draw is a repeat of its own.
fn fold(split: &Split) -> usize {
    if split.kind == SplitKind::MonteCarlo { 0 } else { split.fold }
}

/// `4-fold by patient, fold 0 of 4, seed 0` → `4-fold by patient`.
pub(super) fn without_fold_and_seed(name: &str) -> String {
    let kept: Vec<&str> =
        name.split(", ").filter(|part| !["fold ", "repeat ", "seed "].iter().any(|word| part.starts_with(word))).collect();
    kept.join(", ")
}
