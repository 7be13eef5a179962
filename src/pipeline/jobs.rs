//! Runs a pipeline here: for each run its stages in order, each in the folder that its recipe names; what is done is skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{OF_TRAININGS, Pipeline};
use crate::config::Config;
use crate::datasets::DataKind;
use crate::ground::interrupt::Interrupted;
use crate::ground::shard::Shard;
use crate::learn::parallel::Ranks;
use crate::stages::{self, Data, Machine, Selection, exhibits, extract, heatmap, probe, report, tile, train};
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

/// Which part of a pipeline one call does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Part {
    /// The only stage; those before it are ended where they are not. `None` is the whole pipeline.
    pub stage: Option<&'static str>,
    /// Of `tile` and `extract` a share of the slides, of `train`, `probe` and `heatmap` a share of the trainings.
    pub shard: Shard,
}

impl Part {
    /// A stage of `pipeline`, and a share of it.
    ///
    /// # Errors
    /// A stage that it does not have, a share of all stages or of the report.
    pub fn new(pipeline: &Pipeline, stage: Option<&str>, shard: Shard) -> Result<Self> {
        let Some(stage) = stage else {
            ensure!(shard.is_whole(), "--shard is a share of one stage: say which with --stage");
            return Ok(Self::default());
        };
        let known = pipeline.stages.iter().find(|known| **known == stage);
        let &stage = known
            .with_context(|| format!("pipeline '{}' has no stage '{stage}'; it has: {}", pipeline.name, pipeline.stages.join(", ")))?;
        ensure!(stage != "report" || shard.is_whole(), "the stage 'report' is one job and has no shares");
        Ok(Self { stage: Some(stage), shard })
    }

    fn is(&self, stage: &str) -> bool {
        self.stage == Some(stage)
    }

    /// Whether the pipeline's results are put together.
    fn reports(&self) -> bool {
        self.stage.is_none() || self.is("report")
    }

    /// The share of the slides that `stage` works on.
    fn selection(&self, stage: &str) -> Selection {
        let shard = if self.is(stage) { self.shard } else { Shard::default() };
        // The tasks of an array are done when all slides are: who has nothing left helps the others.
        Selection { shard, steal: !shard.is_whole(), ..Selection::default() }
    }
}

/// Runs every stage of every run, or the part that is asked for. A second call finds everything done.
///
/// `ranks`: the processes that train each run together; for others than the stage `train` there is one.
///
/// # Errors
/// The first stage that fails, with the run's number; what was done before stays done. With `[page]`, and in one stage's trainings or probes, the
/// other runs go on and the error names those that failed; the page is made of those that end well.
pub fn execute(pipeline: &Pipeline, machine: &Machine, part: Part, ranks: &Ranks) -> Result<Outcome> {
    if ranks.size() > 1 {
        ensure!(part.is("train"), "{} processes can share the stage 'train' alone", ranks.size());
        before_training(pipeline, machine, part, ranks)?;
    }
    let by_run = part.stage.is_some_and(|stage| OF_TRAININGS.contains(&stage));
    // What one of several ranks could not do, none goes on from.
    let goes_on = pipeline.page.is_some() || (by_run && ranks.size() == 1);
    let trainings = pipeline.trainings()?;
    let mut jobs = Jobs::new(pipeline, Mode::Do { machine, part, ranks });
    let mut probes: Vec<PathBuf> = Vec::new();
    let mut failed = BTreeMap::new();
    let mut met = BTreeSet::new();
    for (index, config) in pipeline.runs.iter().enumerate() {
        // Runs that differ in their probe alone are one training, also where it fails.
        if by_run && !part.shard.holds(trainings[index]) || part.is("train") && !met.insert(trainings[index]) {
            continue;
        }
        let place = || format!("run {} of {} of pipeline '{}'", index + 1, pipeline.runs.len(), pipeline.name);
        let probe = match jobs.one_run(config) {
            // A table shows what ended well beside what did not: an objective that diverges is a result.
            Err(error) if goes_on && !error.is::<Interrupted>() => {
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
    if !part.reports() {
        ensure!(failed.is_empty(), "{} runs failed, the others are complete:\n{}", failed.len(), stages::list(&failed));
    } else if let Some(page) = pipeline.page.as_ref().filter(|_| pipeline.stages.contains(&"report")) {
        ensure!(!outcome.probes.is_empty(), "no run of pipeline '{}' ended well:\n{}", pipeline.name, stages::list(&failed));
        let (parent, name) = pipeline.page_folder();
        let (folder, summary) = exhibits::run(page, &pipeline.size, &outcome.probes, &failed, &parent, &name)?;
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
        let shown: Vec<PathBuf> = outcome.probes.iter().chain(&jobs.heatmaps).cloned().collect();
        let folder = pipeline.report_folder(&shown)?;
        stages::complete(report::run(&shown, &folder, report::Options::default())?)?;
        outcome.report = Some(folder);
    }
    Ok(outcome)
}

/// Rank 0 ends the stages before, of the runs of this share; the others wait for its word.
fn before_training(pipeline: &Pipeline, machine: &Machine, part: Part, ranks: &Ranks) -> Result<()> {
    const KEY: &str = "stages before training";
    if !ranks.leads() {
        ensure!(ranks.told(KEY)? == json!(true), "rank 0 could not end the stages before; its own message says why");
        return Ok(());
    }
    let Some(before) = pipeline.stages.iter().take_while(|stage| **stage != "train").last() else { return ranks.tell(KEY, &json!(true)) };
    let outcome = execute(pipeline, machine, Part { stage: Some(before), shard: Shard::default() }, &Ranks::alone());
    ranks.tell(KEY, &json!(outcome.is_ok()))?;
    outcome.with_context(|| format!("the stages before 'train' of share {}", part.shard)).map(drop)
}

impl Pipeline {
    /// For every run the number of its training, from 0 in the order of their first runs: runs that differ in their probe alone share one.
    ///
    /// # Errors
    /// None in practice: settings are plain data.
    pub(super) fn trainings(&self) -> Result<Vec<usize>> {
        let mut known = BTreeMap::new();
        let number = |config: &Config| {
            let Config { seed, tile, extract, cohort, split, leaks, train, probe: _, heatmap: _ } = config;
            let next = known.len();
            Ok(*known.entry(serde_json::to_string(&(seed, tile, extract, cohort, split, leaks, train))?).or_insert(next))
        };
        self.runs.iter().map(number).collect()
    }

    /// Where the general report on these probe and heatmap runs is: a report on other runs is another folder, as everywhere.
    pub(super) fn report_folder(&self, runs: &[PathBuf]) -> Result<PathBuf> {
        let names: Vec<_> = runs.iter().filter_map(|run| run.file_name()).map(|name| name.to_string_lossy()).collect();
        Ok(self.folder.join("report").join(format!("{}-{}", self.name, digest::settings(&names)?)))
    }

    /// Where pages are, and how their folders' names begin.
    pub(super) fn page_folder(&self) -> (PathBuf, String) {
        let name = [Some(self.name.as_str()), self.size.scale.as_deref()].into_iter().flatten().collect::<Vec<_>>().join("-");
        (self.folder.join("report"), name)
    }
}

/// What is done with a job that is met.
pub(super) enum Mode<'a> {
    /// It is done, if it is of the part.
    Do { machine: &'a Machine, part: Part, ranks: &'a Ranks },
    /// It is looked at.
    Look,
}

/// A job that was looked at.
pub(super) struct Seen {
    pub stage: String,
    pub folder: PathBuf,
    /// Absent while it is not ended.
    pub summary: Option<Summary>,
}

impl Seen {
    pub(super) fn is_done(&self) -> bool {
        self.summary.as_ref().is_some_and(|summary| summary.status == "done")
    }
}

pub(super) struct Jobs<'a> {
    pipeline: &'a Pipeline,
    mode: Mode<'a>,
    /// Folders of jobs by what was asked for, so that runs that share a stage do not look twice; `None` where a job is not ended.
    folders: BTreeMap<String, Option<PathBuf>>,
    /// All jobs that were looked at.
    pub seen: Vec<Seen>,
    /// Stages that the last run has behind it.
    pub ended: usize,
    /// Folders of heatmap runs in the order of the runs, without repetition.
    pub heatmaps: Vec<PathBuf>,
}

impl<'a> Jobs<'a> {
    pub(super) fn new(pipeline: &'a Pipeline, mode: Mode<'a>) -> Self {
        Self { pipeline, mode, folders: BTreeMap::new(), seen: Vec::new(), ended: 0, heatmaps: Vec::new() }
    }

    fn part(&self) -> Part {
        match self.mode {
            Mode::Do { part, .. } => part,
            Mode::Look => Part::default(),
        }
    }

    /// The stages of one run in their order, up to the part's own or the first that is not ended; gives the folder of its last one, a probe or
    /// with `[page]` a training.
    pub(super) fn one_run(&mut self, config: &Config) -> Result<Option<PathBuf>> {
        let (mut tiles, mut bags, mut trained, mut probed) = (None, None, None, None);
        let part = self.part();
        self.ended = 0;
        for stage in self.pipeline.stages.clone() {
            let job = match stage {
                "tile" => {
                    let inputs = tile::Inputs { slides: self.slides()?, roi: self.pipeline.roi.clone(), selection: part.selection(stage) };
                    let key = serde_json::to_string(&("tile", &config.tile))?;
                    let run = |out: &Path, machine: &Machine, _: &Ranks| Ok(Some(tile::run(config, &inputs, out, machine)?));
                    tiles = self.job(key, config.tile.tissue.name(), || tile::recipe(config, &inputs), run)?;
                    &tiles
                }
                "extract" => {
                    let inputs = extract::Inputs {
                        slides: self.slides()?,
                        tiles: tiles.clone().context("the stage 'extract' needs 'tile' before it")?,
                        weights: None,
                        selection: part.selection(stage),
                        scratch: self.pipeline.scratch.clone(),
                    };
                    let seed = config.extract.random_weights.then_some(config.seed);
                    let key = serde_json::to_string(&("extract", &config.extract, seed, &inputs.tiles))?;
                    let run = |out: &Path, machine: &Machine, _: &Ranks| Ok(Some(extract::run(config, &inputs, out, machine)?));
                    bags = self.job(key, &config.extract.encoder.name, || extract::recipe(config, &inputs), run)?;
                    &bags
                }
                "train" => {
                    let inputs = self.data(config, bags.as_ref())?;
                    let key =
                        serde_json::to_string(&("train", config.seed, &config.cohort, &config.split, &config.leaks, &config.train, &bags))?;
                    let run = |out: &Path, machine: &Machine, ranks: &Ranks| train::run_with(ranks, config, &inputs, out, machine);
                    trained = self.job(key, &label(config), || train::recipe(config, &inputs), run)?;
                    &trained
                }
                "probe" => {
                    let train = trained.clone().context("the stage 'probe' needs 'train' before it")?;
                    let inputs = probe::Inputs { train, data: self.data(config, bags.as_ref())?, tiles: tiles.clone() };
                    let key = serde_json::to_string(&("probe", &config.probe, &inputs.train))?;
                    let run = |out: &Path, machine: &Machine, _: &Ranks| Ok(Some(probe::run(config, &inputs, out, machine)?));
                    probed = self.job(key, &label(config), || probe::recipe(config, &inputs), run)?;
                    &probed
                }
                "heatmap" => {
                    let inputs = heatmap::Inputs {
                        run: probed.clone().context("the stage 'heatmap' needs 'probe' before it")?,
                        tiles: tiles.clone(),
                        annotations: self.pipeline.annotations.clone(),
                        ..heatmap::Inputs::default()
                    };
                    let key = serde_json::to_string(&("heatmap", &config.heatmap, &inputs.run))?;
                    let run = |out: &Path, machine: &Machine, _: &Ranks| Ok(Some(heatmap::run(config, &inputs, out, machine)?));
                    let looked = self.job(key, &label(config), || heatmap::recipe(config, &inputs), run)?;
                    if let Some(folder) = looked.as_ref().filter(|folder| !self.heatmaps.contains(folder)) {
                        self.heatmaps.push(folder.clone());
                    }
                    &looked.clone()
                }
                _ => continue,
            };
            if job.is_none() {
                break;
            }
            self.ended += 1;
            if part.is(stage) {
                break;
            }
        }
        Ok(probed.or(trained.filter(|_| self.pipeline.page.is_some())))
    }

    /// One stage of one run: `out/<name>/<stage>/<label>-<digest>`; `None` where it was looked at and is not ended.
    fn job(
        &mut self,
        key: String,
        label: &str,
        recipe: impl FnOnce() -> Result<Recipe>,
        run: impl FnOnce(&Path, &Machine, &Ranks) -> Result<Option<Summary>>,
    ) -> Result<Option<PathBuf>> {
        if let Some(folder) = self.folders.get(&key) {
            return Ok(folder.clone());
        }
        let recipe = recipe()?;
        let folder = self.pipeline.folder.join(&recipe.stage).join(format!("{label}-{}", recipe.digest()?));
        let summary = crate::store::run::summary(&folder)?;
        let name = || folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ended = match &self.mode {
            Mode::Do { machine, ranks, .. } => {
                let done = summary.is_some_and(|summary| summary.status == "done");
                if !done && ranks.leads() {
                    tracing::info!("{}: {}", recipe.stage, name());
                }
                // Each training of several processes has words of its own.
                let summary = run(&folder, machine, &ranks.about(&name()))?.map(stages::complete).transpose()?;
                if let Some(summary) = summary.filter(|summary| !done && summary.seconds > 1.0) {
                    tracing::info!("{}: done in {:.0} s", recipe.stage, summary.seconds);
                }
                true
            }
            Mode::Look => {
                let seen = Seen { stage: recipe.stage, folder: folder.clone(), summary };
                let done = seen.is_done();
                self.seen.push(seen);
                done
            }
        };
        let folder = ended.then_some(folder);
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
