//! A pipeline file: which stages run, on what, for which settings. Stages × sweep become jobs; equal jobs are one folder. Executors run them here
//! or hand them to a cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::config::{self, Config};
use crate::stages::exhibits::{PageSettings, Size};
use crate::stages::extract::ScratchPlace;

pub mod executors;
mod jobs;
pub mod status;
mod survey;
mod sweep;

pub use jobs::{Outcome, Part, execute};

use executors::Executor;

/// Stages in the order in which they may appear.
pub const STAGES: [&str; 6] = ["tile", "extract", "train", "probe", "heatmap", "report"];

/// Those whose jobs belong to one training each.
pub(super) const OF_TRAININGS: [&str; 3] = ["train", "probe", "heatmap"];

/// Beginning of keys that say where jobs run; they never reach a run's settings.
const EXECUTOR: &str = "executor.";

/// A pipeline as it stands in a file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    /// Settings file, or several, each over the former; relative to the pipeline's folder.
    #[serde(default)]
    config: Files,
    /// Folder with the cohort; `--set data=DIR`.
    data: Option<PathBuf>,
    /// Folder for all runs; `--set out=DIR`.
    out: Option<PathBuf>,
    stages: Vec<String>,
    inputs: InputFiles,
    /// Settings for every run, over those of `config`.
    #[serde(default)]
    settings: toml::Table,
    #[serde(default)]
    sweep: Vec<sweep::Sweep>,
    /// Sizes other than the full one, by the name that `--scale` takes.
    #[serde(default)]
    scale: BTreeMap<String, Scale>,
    /// What the stage `report` shows instead of the general report.
    page: Option<PageSettings>,
    /// Where the jobs run.
    #[serde(default)]
    executor: toml::Table,
}

/// What a smaller size changes. Milestones and other places in time are written out, since they follow from no single number.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Scale {
    /// The size in words; the page repeats it.
    about: String,
    /// Over the pipeline's `[settings]`, below its sweeps.
    #[serde(default)]
    settings: toml::Table,
    /// Lists that take the place of those in every sweep, or join it.
    #[serde(default)]
    sweep: toml::Table,
}

/// One settings file or a list of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Files {
    One(PathBuf),
    Several(Vec<PathBuf>),
}

impl Default for Files {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Files {
    fn all(&self) -> &[PathBuf] {
        match self {
            Self::One(file) => std::slice::from_ref(file),
            Self::Several(files) => files,
        }
    }
}

/// Where the stages find their first inputs; `{data}` stands for the cohort's folder. Of several names the first that is there counts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct InputFiles {
    slides: Files,
    /// Annotations of the region of interest.
    roi: Files,
    /// Annotations that attention is compared with, for the stage `heatmap`.
    annotations: Files,
    labels: Files,
    /// Bags that are there already, for a pipeline without the stages `tile` and `extract`.
    bags: Files,
    /// A published set; `samples` where they are no images.
    #[serde(alias = "samples")]
    images: Files,
    /// The file that names the parts of every run; `--set split-file=FILE` and `--split FILE`.
    split: Files,
}

/// A pipeline ready to run: every path and every run's settings are known and valid.
#[derive(Debug)]
pub struct Pipeline {
    /// The file's stem; the folder below `out`.
    pub name: String,
    /// `out/<name>`
    pub folder: PathBuf,
    stages: Vec<&'static str>,
    slides: Option<PathBuf>,
    roi: Option<PathBuf>,
    annotations: Option<PathBuf>,
    labels: Option<PathBuf>,
    bags: Option<PathBuf>,
    images: Option<PathBuf>,
    split: Option<PathBuf>,
    runs: Vec<Config>,
    page: Option<PageSettings>,
    size: Size,
    executor: Executor,
    /// Where slides are copied before they are read.
    pub scratch: Option<ScratchPlace>,
}

impl Pipeline {
    /// Reads a pipeline file at the size `scale`, or its full one, and applies `--set key=value`: `data`, `out`, `split-file` and `executor.…`
    /// are the pipeline's, all others settings.
    ///
    /// # Errors
    /// An unknown key, stage, scale or setting; a cohort folder that is not there.
    pub fn load(path: &Path, scale: Option<&str>, overrides: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the pipeline '{}'", path.display()))?;
        let mut file: File =
            toml::from_str(&text).map_err(|error| anyhow::anyhow!("pipeline '{}': {}", path.display(), error.message()))?;
        let mut settings = Vec::new();
        let mut of_executor = Vec::new();
        for item in overrides {
            match item.split_once('=') {
                Some((key, value)) if key.trim().starts_with(EXECUTOR) => {
                    of_executor.push((key.trim()[EXECUTOR.len()..].to_owned(), value.trim().to_owned()));
                }
                Some(("data", value)) => file.data = Some(value.into()),
                Some(("out", value)) => file.out = Some(value.into()),
                Some(("split-file", value)) => file.inputs.split = Files::One(value.into()),
                _ => settings.push(item.clone()),
            }
        }
        let size = Size { scale: scale.map(str::to_owned), about: apply(&mut file, scale)?, changed: settings.clone() };
        let name = name(path);
        let stages = stages(&file.stages)?;
        let executor = Executor::load(&file.executor, &of_executor, path)?;
        let out = file.out.clone().with_context(|| format!("pipeline '{name}': say where the results go: --set out=DIR"))?;
        let mut base = config_tree(&file, path)?;
        if !file.inputs.split.all().is_empty() {
            config::set(&mut base, "split.name", toml::Value::String("file".to_owned()))?;
        }
        let mut runs = Vec::new();
        for point in sweep::points(&file.sweep) {
            let mut tree = base.clone();
            // Another member of a family drops the former one's settings, so that names come before settings.
            let (names, others): (Vec<_>, Vec<_>) = point.into_iter().partition(|(key, _)| key.ends_with(".name"));
            for (key, value) in names.into_iter().chain(others) {
                config::set(&mut tree, &key, value)?;
            }
            for item in &settings {
                let (key, value) = item.split_once('=').with_context(|| format!("--set wants key=value, not '{item}'"))?;
                config::set(&mut tree, key.trim(), config::parse_value(value.trim()))?;
            }
            runs.push(Config::resolve(tree)?);
        }
        Ok(Self {
            folder: out.join(&name),
            slides: input(&file, &file.inputs.slides)?,
            roi: input(&file, &file.inputs.roi)?,
            annotations: annotations(&file)?,
            labels: input(&file, &file.inputs.labels)?,
            bags: input(&file, &file.inputs.bags)?,
            images: input(&file, &file.inputs.images)?,
            split: input(&file, &file.inputs.split)?,
            name,
            stages,
            runs,
            page: file.page,
            size,
            executor,
            scratch: None,
        })
    }
}

/// What a pipeline is called by its file.
fn name(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Makes `file` what it is at the size `scale`; gives the size in words.
fn apply(file: &mut File, scale: Option<&str>) -> Result<String> {
    let Some(name) = scale else { return Ok(String::new()) };
    let known: Vec<&str> = file.scale.keys().map(String::as_str).collect();
    let Some(scale) = file.scale.get(name).cloned() else {
        bail!("the pipeline has no scale '{name}'; it has: {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") });
    };
    config::overlay(&mut file.settings, &scale.settings);
    ensure!(
        scale.sweep.is_empty() || !file.sweep.is_empty(),
        "the scale '{name}' has a sweep and the pipeline has none to join; add [[sweep]]"
    );
    for sweep in &mut file.sweep {
        sweep.set.extend(scale.sweep.clone());
    }
    Ok(scale.about)
}

fn stages(named: &[String]) -> Result<Vec<&'static str>> {
    let places = named
        .iter()
        .map(|name| {
            STAGES
                .iter()
                .position(|known| known == name)
                .with_context(|| format!("stage '{name}' is not known; there are: {}", STAGES.join(", ")))
        })
        .collect::<Result<Vec<_>>>()?;
    ensure!(places.is_sorted() && !places.is_empty(), "stages must be in the order {}", STAGES.join(", "));
    Ok(places.into_iter().map(|place| STAGES[place]).collect())
}

fn config_tree(file: &File, path: &Path) -> Result<toml::Table> {
    let mut tree = toml::Table::new();
    for settings in file.config.all() {
        config::overlay(&mut tree, &config::read(&path.parent().unwrap_or(Path::new(".")).join(settings))?);
    }
    config::overlay(&mut tree, &file.settings);
    Ok(tree)
}

/// A cohort may have no annotations, and then nothing is compared.
fn annotations(file: &File) -> Result<Option<PathBuf>> {
    let found = input(file, &file.inputs.annotations);
    let of_cohort = file.inputs.annotations.all().iter().all(|name| name.to_string_lossy().contains("{data}"));
    if file.data.is_some() && of_cohort && found.is_err() {
        tracing::info!("the cohort has no annotations: attention is compared with none");
        return Ok(None);
    }
    found
}

fn input(file: &File, names: &Files) -> Result<Option<PathBuf>> {
    let place = |name: &PathBuf| {
        let name = name.to_string_lossy();
        if !name.contains("{data}") {
            return Ok(PathBuf::from(&*name));
        }
        let data = file.data.as_ref().context("say where the cohort is: --set data=DIR")?;
        Ok(PathBuf::from(name.replace("{data}", &data.to_string_lossy())))
    };
    let places = names.all().iter().map(place).collect::<Result<Vec<_>>>()?;
    match (places.iter().find(|place| place.exists()), &places[..]) {
        (Some(found), _) => Ok(Some(found.clone())),
        (None, []) => Ok(None),
        (None, [place]) => bail!("'{}' does not exist; check --set data=DIR", place.display()),
        (None, places) => {
            let tried: Vec<String> = places.iter().map(|place| format!("'{}'", place.display())).collect();
            bail!("none of {} exists; check --set data=DIR", tried.join(", "))
        }
    }
}
