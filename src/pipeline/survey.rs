//! How far a pipeline is, by its run folders alone. Nothing is run and nothing is written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Pipeline;
use super::jobs::{Jobs, Mode, Seen};
use crate::config::Config;
use crate::slides;
use crate::stages::exhibits;
use crate::store::{files, run};

/// One stage: how much of it there is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct StageState {
    /// Its name.
    pub stage: &'static str,
    /// Slides, trainings, probes or reports.
    pub items: usize,
    /// Of these, how many are whole.
    pub done: usize,
    /// Of `train` and `probe`: the numbers of the trainings for which it is not done.
    pub missing: BTreeSet<usize>,
    /// Items that failed in the call that last ended the stage, with the reason.
    pub failed: BTreeMap<String, String>,
    /// Run folders that are not complete.
    pub open: Vec<PathBuf>,
    /// Nothing is left to do.
    pub complete: bool,
}

/// Where a stage's finished slides are inside a run folder: `folder/<id><ending>`; none for a stage whose run is one item.
pub(super) fn outputs(stage: &str) -> Option<(&'static str, &'static str)> {
    match stage {
        "tile" => Some(("patches", "_patches.h5")),
        "extract" => Some(("bags", ".h5")),
        _ => None,
    }
}

/// Every stage of `pipeline` in its order. Of a stage after one that is not complete only the size is known.
///
/// # Errors
/// Inputs that cannot be read: what a run folder is called follows from them.
pub(super) fn survey(pipeline: &Pipeline) -> Result<Vec<StageState>> {
    let mut jobs = Jobs::new(pipeline, Mode::Look);
    let mut probes: Vec<PathBuf> = Vec::new();
    // How many stages each run has behind it.
    let mut behind = Vec::new();
    for config in &pipeline.runs {
        let probe = jobs.one_run(config)?;
        behind.push(jobs.ended);
        if let Some(probe) = probe.filter(|probe| !probes.contains(probe)) {
            probes.push(probe);
        }
    }
    if pipeline.page.is_none() {
        probes.append(&mut jobs.heatmaps);
    }
    let slides = pipeline.slides.as_deref().map(slides::list).transpose()?.map_or(0, |slides| slides.len());
    let mut states: Vec<StageState> = Vec::new();
    for (place, &stage) in pipeline.stages.iter().enumerate() {
        let seen: Vec<&Seen> = jobs.seen.iter().filter(|job| job.stage == stage).collect();
        let before = states.last().is_none_or(|state| state.complete);
        let mut state = match stage {
            "tile" => of_slides(&seen, number_of(pipeline, |_, config| Ok(serde_json::to_string(&config.tile)?))?, slides, stage)?,
            "extract" => {
                let key = |_, config: &Config| {
                    Ok(serde_json::to_string(&(&config.tile, &config.extract, config.extract.random_weights.then_some(config.seed)))?)
                };
                of_slides(&seen, number_of(pipeline, key)?, slides, stage)?
            }
            "report" => StageState { items: 1, done: usize::from(before && reported(pipeline, &probes)?), ..StageState::default() },
            _ => of_trainings(pipeline, stage, &behind.iter().map(|&ended| ended > place).collect::<Vec<_>>())?,
        };
        state.stage = stage;
        state.failed = seen.iter().filter_map(|job| job.summary.as_ref()).flat_map(|summary| summary.failed.clone()).collect();
        state.open = seen.iter().filter(|job| !job.is_done()).map(|job| job.folder.clone()).collect();
        state.complete = before && state.done >= state.items && seen.iter().all(|job| job.is_done());
        states.push(state);
    }
    Ok(states)
}

/// How many different jobs the runs have, by what identifies each.
fn number_of(pipeline: &Pipeline, key: impl Fn(usize, &Config) -> Result<String>) -> Result<usize> {
    let keys = pipeline.runs.iter().enumerate().map(|(index, config)| key(index, config));
    Ok(keys.collect::<Result<BTreeSet<String>>>()?.len())
}

/// A stage whose jobs go through slides; one that is not ended is counted by its outputs.
fn of_slides(seen: &[&Seen], jobs: usize, slides: usize, stage: &str) -> Result<StageState> {
    let mut state = StageState { items: jobs.saturating_sub(seen.len()) * slides, ..StageState::default() };
    for job in seen {
        let figure = |name: &str| job.summary.as_ref().and_then(|summary| summary.figures[name].as_u64());
        let items = figure("slides").map_or(slides, |count| count as usize);
        state.items += items;
        state.done += match figure("done") {
            // What was left out on purpose is done too.
            _ if job.is_done() => items,
            Some(count) => count as usize,
            None => finished(&job.folder, stage)?.len(),
        };
    }
    Ok(state)
}

/// The slides that a run has finished.
pub(super) fn finished(run: &Path, stage: &str) -> Result<BTreeSet<String>> {
    let Some((folder, ending)) = outputs(stage) else { return Ok(BTreeSet::new()) };
    let names = files::names_in(&run.join(folder))?;
    let visible = names.iter().filter(|name| !name.starts_with('.'));
    Ok(visible.filter_map(|name| name.strip_suffix(ending)).map(str::to_owned).collect())
}

/// `train`, `probe` or `heatmap`; `ended`: whether each run has it behind it.
fn of_trainings(pipeline: &Pipeline, stage: &str, ended: &[bool]) -> Result<StageState> {
    let trainings = pipeline.trainings()?;
    let mut jobs = BTreeMap::new();
    let mut missing = BTreeSet::new();
    for (index, config) in pipeline.runs.iter().enumerate() {
        let own = match stage {
            "probe" => serde_json::to_string(&config.probe)?,
            "heatmap" => serde_json::to_string(&(&config.probe, &config.heatmap))?,
            _ => String::new(),
        };
        jobs.insert((trainings[index], own), ended[index]);
        if !ended[index] {
            missing.insert(trainings[index]);
        }
    }
    Ok(StageState { items: jobs.len(), done: jobs.values().filter(|ended| **ended).count(), missing, ..StageState::default() })
}

/// Whether the report on all runs is there.
fn reported(pipeline: &Pipeline, probes: &[PathBuf]) -> Result<bool> {
    if let Some(page) = &pipeline.page {
        let (parent, name) = pipeline.page_folder();
        return exhibits::is_done(page, &pipeline.size, probes, &parent, &name);
    }
    Ok(run::summary(&pipeline.report_folder(probes)?)?.is_some_and(|summary| summary.status == "done"))
}
