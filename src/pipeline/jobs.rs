//! Runs a pipeline here: for each run its stages in order, each in the folder that its recipe names; what is done is skipped.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::Pipeline;
use crate::config::Config;
use crate::datasets::DataKind;
use crate::ground::interrupt::Interrupted;
use crate::stages::{self, Data, Machine, Selection, exhibits, extract, probe, report, tile, train};
use crate::store::digest;
use crate::store::run::{Recipe, Summary};

/// What a pipeline left.
pub struct Outcome {
    /// Folder of the report, if there was such a stage.
    pub report: Option<PathBuf>,
    /// What the page of a pipeline with `[page]` says.
    pub verdict: Option<String>,
    /// Probe folders in the order of the runs, without repetition; with `[page]` and without the stage `probe` training folders.
    pub probes: Vec<PathBuf>,
}

/// Runs every stage of every run. A second call finds everything done.
///
/// # Errors
/// The first stage that fails, with the run's number; what was done before stays done. With `[page]` the other runs go on, the page is
/// made of those that end well, and the error names the others.
pub fn execute(pipeline: &Pipeline, machine: &Machine) -> Result<Outcome> {
    let mut jobs = Jobs { pipeline, machine, folders: BTreeMap::new() };
    let mut probes: Vec<PathBuf> = Vec::new();
    let mut failed = BTreeMap::new();
    for (index, config) in pipeline.runs.iter().enumerate() {
        let place = || format!("run {} of {} of pipeline '{}'", index + 1, pipeline.runs.len(), pipeline.name);
        let probe = match jobs.one_run(config) {
            // A table shows what ended well beside what did not: an objective that diverges is a result.
            Err(error) if pipeline.page.is_some() && !error.is::<Interrupted>() => {
                let error = error.context(place());
                tracing::error!("{error:#}");
                failed.insert(
                    format!("{}, {}", index + 1, label(config)),
                    stages::one_line(&error).replace(&format!("{}/", pipeline.folder.display()), ""),
                );
                continue;
            }
            other => other.with_context(place)?,
        };
        if let Some(probe) = probe.filter(|probe| !probes.contains(probe)) {
            probes.push(probe);
        }
    }
    let mut outcome = Outcome { report: None, verdict: None, probes };
    if let Some(page) = pipeline.page.as_ref().filter(|_| pipeline.stages.contains(&"report")) {
        ensure!(!outcome.probes.is_empty(), "no run of pipeline '{}' ended well:\n{}", pipeline.name, stages::list(&failed));
        let name = [Some(pipeline.name.as_str()), pipeline.size.scale.as_deref()].into_iter().flatten().collect::<Vec<_>>().join("-");
        let (folder, summary) = exhibits::run(page, &pipeline.size, &outcome.probes, &failed, &pipeline.folder.join("report"), &name)?;
        outcome.verdict = summary.figures["verdict"].as_str().map(str::to_owned);
        tracing::info!("report: '{}'", folder.join(exhibits::PAGE).display());
        ensure!(
            failed.is_empty(),
            "{} of {} runs failed; the page shows the others:\n{}",
            failed.len(),
            pipeline.runs.len(),
            stages::list(&failed)
        );
        outcome.report = Some(folder);
    } else if pipeline.stages.contains(&"report") {
        // A report on other runs is another folder, as everywhere.
        let names: Vec<_> = outcome.probes.iter().filter_map(|probe| probe.file_name()).map(|name| name.to_string_lossy()).collect();
        let folder = pipeline.folder.join("report").join(format!("{}-{}", pipeline.name, digest::settings(&names)?));
        stages::complete(report::run(&outcome.probes, &folder)?)?;
        outcome.report = Some(folder);
    }
    Ok(outcome)
}

struct Jobs<'a> {
    pipeline: &'a Pipeline,
    machine: &'a Machine,
    /// Folders of finished jobs by what was asked for, so that runs that share a stage do not look twice.
    folders: BTreeMap<String, PathBuf>,
}

impl Jobs<'_> {
    fn one_run(&mut self, config: &Config) -> Result<Option<PathBuf>> {
        let (mut tiles, mut bags, mut trained, mut probed) = (None, None, None, None);
        for stage in self.pipeline.stages.clone() {
            match stage {
                "tile" => {
                    let inputs = tile::Inputs { slides: self.slides()?, roi: self.pipeline.roi.clone(), selection: Selection::default() };
                    let key = serde_json::to_string(&("tile", &config.tile))?;
                    tiles = Some(self.job(
                        key,
                        config.tile.tissue.name(),
                        || tile::recipe(config, &inputs),
                        |out, machine| tile::run(config, &inputs, out, machine),
                    )?);
                }
                "extract" => {
                    let inputs = extract::Inputs {
                        slides: self.slides()?,
                        tiles: tiles.clone().context("the stage 'extract' needs 'tile' before it")?,
                        weights: None,
                        selection: Selection::default(),
                        scratch: None,
                    };
                    let key = serde_json::to_string(&("extract", &config.extract, config.seed, &inputs.tiles))?;
                    let label = &config.extract.encoder.name;
                    bags = Some(self.job(
                        key,
                        label,
                        || extract::recipe(config, &inputs),
                        |out, machine| extract::run(config, &inputs, out, machine),
                    )?);
                }
                "train" => {
                    let inputs = self.data(config, bags.as_ref())?;
                    let key =
                        serde_json::to_string(&("train", config.seed, &config.cohort, &config.split, &config.leaks, &config.train, &bags))?;
                    let label = label(config);
                    trained = Some(self.job(
                        key,
                        &label,
                        || train::recipe(config, &inputs),
                        |out, machine| train::run(config, &inputs, out, machine),
                    )?);
                }
                "probe" => {
                    let train = trained.clone().context("the stage 'probe' needs 'train' before it")?;
                    let inputs = probe::Inputs { train, data: self.data(config, bags.as_ref())?, tiles: tiles.clone() };
                    let key = serde_json::to_string(&("probe", &config.probe, &inputs.train))?;
                    let label = label(config);
                    probed = Some(self.job(
                        key,
                        &label,
                        || probe::recipe(config, &inputs),
                        |out, machine| probe::run(config, &inputs, out, machine),
                    )?);
                }
                _ => {}
            }
        }
        Ok(probed.or(trained.filter(|_| self.pipeline.page.is_some())))
    }

    /// One stage of one run: `out/<name>/<stage>/<label>-<digest>`.
    fn job(
        &mut self,
        key: String,
        label: &str,
        recipe: impl FnOnce() -> Result<Recipe>,
        run: impl FnOnce(&std::path::Path, &Machine) -> Result<Summary>,
    ) -> Result<PathBuf> {
        if let Some(folder) = self.folders.get(&key) {
            return Ok(folder.clone());
        }
        let recipe = recipe()?;
        let folder = self.pipeline.folder.join(&recipe.stage).join(format!("{label}-{}", recipe.digest()?));
        let done = crate::store::run::summary(&folder)?.is_some_and(|summary| summary.status == "done");
        if !done {
            tracing::info!("{}: {}", recipe.stage, folder.file_name().unwrap_or_default().to_string_lossy());
        }
        let summary = stages::complete(run(&folder, self.machine)?)?;
        if !done && summary.seconds > 1.0 {
            tracing::info!("{}: done in {:.0} s", recipe.stage, summary.seconds);
        }
        self.folders.insert(key, folder.clone());
        Ok(folder)
    }

    fn slides(&self) -> Result<PathBuf> {
        self.pipeline.slides.clone().context("the pipeline has no [inputs] slides")
    }

    fn data(&self, config: &Config, bags: Option<&PathBuf>) -> Result<Data> {
        let data = match config.train.data {
            DataKind::Bags => bags
                .cloned()
                .or_else(|| self.pipeline.bags.clone())
                .context("training on bags needs the stage 'extract' before it, or [inputs] bags")?,
            DataKind::Cifar10 | DataKind::Cifar100 | DataKind::ImageFolder | DataKind::ClassicMil | DataKind::MnistBags => {
                self.pipeline.images.clone().context("the pipeline has no [inputs] images or samples")?
            }
        };
        Ok(Data { data, labels: self.pipeline.labels.clone(), split: self.pipeline.split.clone() })
    }
}

fn label(config: &Config) -> String {
    let model = match config.train.data {
        DataKind::Bags | DataKind::ClassicMil | DataKind::MnistBags => config.train.model.aggregator.name(),
        DataKind::Cifar10 | DataKind::Cifar100 | DataKind::ImageFolder => config.train.model.encoder.name(),
    };
    format!("{}-{model}-seed{}", config.train.loss.name(), config.seed)
}
