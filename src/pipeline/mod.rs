//! A pipeline file: which stages run, on what, for which settings. Stages × sweep become jobs; equal jobs are one folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::config::{self, Config};

mod jobs;
mod sweep;

pub use jobs::{Outcome, execute};

/// Stages in the order in which they may appear.
const STAGES: [&str; 5] = ["tile", "extract", "train", "probe", "report"];

/// A pipeline as it stands in a file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    /// Settings file, relative to the pipeline's folder.
    config: Option<PathBuf>,
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
}

/// Where the stages find their first inputs; `{data}` stands for the cohort's folder.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct InputFiles {
    slides: Option<String>,
    labels: Option<String>,
    images: Option<String>,
    /// The file that names the parts of every run; `--set split-file=FILE` and `--split FILE`.
    split: Option<String>,
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
    labels: Option<PathBuf>,
    images: Option<PathBuf>,
    split: Option<PathBuf>,
    runs: Vec<Config>,
}

impl Pipeline {
    /// Reads a pipeline file and applies `--set key=value`: `data`, `out` and `split-file` are the pipeline's, all others
    /// settings.
    ///
    /// # Errors
    /// An unknown key, stage or setting; a cohort folder that is not there.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the pipeline '{}'", path.display()))?;
        let mut file: File =
            toml::from_str(&text).map_err(|error| anyhow::anyhow!("pipeline '{}': {}", path.display(), error.message()))?;
        let mut settings = Vec::new();
        for item in overrides {
            match item.split_once('=') {
                Some(("data", value)) => file.data = Some(value.into()),
                Some(("out", value)) => file.out = Some(value.into()),
                Some(("split-file", value)) => file.inputs.split = Some(value.into()),
                _ => settings.push(item.clone()),
            }
        }
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let stages = stages(&file.stages)?;
        let out = file.out.clone().with_context(|| format!("pipeline '{name}': say where the results go: --set out=DIR"))?;
        let mut base = config_tree(&file, path)?;
        if file.inputs.split.is_some() {
            config::set(&mut base, "split.name", toml::Value::String("file".to_owned()))?;
        }
        let mut runs = Vec::new();
        for point in sweep::points(&file.sweep) {
            let mut tree = base.clone();
            for (key, value) in point {
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
            slides: input(&file, file.inputs.slides.as_deref())?,
            labels: input(&file, file.inputs.labels.as_deref())?,
            images: input(&file, file.inputs.images.as_deref())?,
            split: input(&file, file.inputs.split.as_deref())?,
            name,
            stages,
            runs,
        })
    }
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
    let mut tree = match &file.config {
        None => toml::Table::new(),
        Some(config) => config::read(&path.parent().unwrap_or(Path::new(".")).join(config))?,
    };
    config::overlay(&mut tree, &file.settings);
    Ok(tree)
}

fn input(file: &File, pattern: Option<&str>) -> Result<Option<PathBuf>> {
    let Some(pattern) = pattern else { return Ok(None) };
    let path = if pattern.contains("{data}") {
        let data = file.data.as_ref().context("say where the cohort is: --set data=DIR")?;
        PathBuf::from(pattern.replace("{data}", &data.to_string_lossy()))
    } else {
        PathBuf::from(pattern)
    };
    if !path.exists() {
        bail!("'{}' does not exist; check --set data=DIR", path.display());
    }
    Ok(Some(path))
}
