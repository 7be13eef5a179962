//! `[executor]`: where jobs run and what they ask for. A matter of the machine, so that no digest and no output but the scripts holds it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Deserializer};
use toml::Value;

use crate::config;
use crate::ground::listing::listing;
use crate::pipeline::STAGES;

/// Folder of site files beside `pipelines/`.
const SITES: &str = "configs/sites";

/// Who runs the jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// This process, one job after the other.
    #[default]
    Local,
    /// `sbatch`, as arrays of jobs.
    Slurm,
}

/// What a stage's jobs ask for. What is not given is left to the cluster.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExecutorSettings {
    /// `local` or `slurm`.
    pub name: Name,
    /// A site file whose `[executor]` these settings are over: a path, or a name in `configs/sites/`.
    site: Option<String>,
    /// `--partition`
    #[serde(deserialize_with = "text")]
    pub partition: Option<String>,
    /// `--account`
    #[serde(deserialize_with = "text")]
    pub account: Option<String>,
    /// `--qos`
    #[serde(deserialize_with = "text")]
    pub qos: Option<String>,
    /// `--time` of one job
    #[serde(deserialize_with = "text")]
    pub time: Option<String>,
    /// `--mem` of one job
    #[serde(deserialize_with = "text")]
    pub memory: Option<String>,
    /// `--cpus-per-task`, and `wsi --threads`
    pub cpus: Option<u32>,
    /// `--gres=gpu:…`: a number, or a kind and a number (`a100:1`)
    #[serde(deserialize_with = "text")]
    pub gpus: Option<String>,
    /// `--constraint`
    #[serde(deserialize_with = "text")]
    pub constraint: Option<String>,
    /// Jobs that share a stage's work; never more than there are items.
    pub array: Array,
    /// Jobs of one array that run at the same time.
    pub at_most: Option<u32>,
    /// `module load`
    pub modules: Vec<String>,
    /// What the program runs in.
    pub container: Option<Container>,
    /// Lines of the script before the program.
    pub setup: Vec<String>,
    /// Stage `train`: nodes of a job.
    pub nodes: Option<u32>,
    /// Stage `train`: processes that train together, started by `srun`.
    pub ntasks: Option<u32>,
    /// How often a job that was asked to stop is put back into the queue.
    pub max_requeues: Requeues,
    /// Folder for temporary files on the node, as the shell there understands it (`$SLURM_TMPDIR`).
    pub scratch: Option<String>,
    /// Further options of `sbatch`.
    pub extra: Vec<String>,
    /// The program as the jobs call it; otherwise as this call was.
    pub program: Option<String>,
    /// Other values for single stages.
    stage: BTreeMap<String, toml::Table>,
}

/// Number of an array's jobs.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Array(pub usize);

impl Default for Array {
    fn default() -> Self {
        Self(8)
    }
}

/// Number of returns to the queue.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Requeues(pub u32);

impl Default for Requeues {
    fn default() -> Self {
        Self(20)
    }
}

/// A container image, and how it is entered.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Container {
    /// The image's file.
    pub image: String,
    /// Between `exec` and the image: `--nv`, `--bind`, …
    #[serde(default)]
    pub options: Vec<String>,
    /// `apptainer`, or another program with the same `exec`.
    #[serde(default = "apptainer")]
    pub runtime: String,
}

fn apptainer() -> String {
    "apptainer".to_owned()
}

/// A number or a time of day is text here: an account `1234`, a time `04:00:00`.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(Some(text)),
        Value::Integer(number) => Ok(Some(number.to_string())),
        Value::Datetime(time) => Ok(Some(time.to_string())),
        other => Err(serde::de::Error::custom(format!("invalid type: {}, expected text or a number", other.type_str()))),
    }
}

/// The settings of a pipeline's executor, valid for every stage.
#[derive(Debug, Clone)]
pub struct Executor {
    tree: toml::Table,
    /// Who runs the jobs; one for all stages.
    pub name: Name,
}

impl Executor {
    /// `of_pipeline`: the pipeline's `[executor]`; `overrides`: keys below `executor.` with their values. A site file lies below both; it is looked for
    /// as it is named, in `configs/sites/` here, beside `pipeline`'s folder and beside the program.
    ///
    /// # Errors
    /// An unknown key, a wrong value, a site file that is not there.
    pub(in crate::pipeline) fn load(of_pipeline: &toml::Table, overrides: &[(String, String)], pipeline: &Path) -> Result<Self> {
        let mut above = of_pipeline.clone();
        for (key, value) in overrides {
            let (table, last) = config::entry(&mut above, key)?;
            table.insert(last.to_owned(), config::parse_value(value));
        }
        let mut tree = toml::Table::new();
        if let Some(site) = above.get("site") {
            let site = site.as_str().context("executor.site is the name of a site or the path of its file, in quotes")?;
            tree = read_site(&site_file(site, pipeline)?)?;
        }
        config::overlay(&mut tree, &above);
        let executor = Self { name: parse(&tree)?.name, tree };
        let whole: ExecutorSettings = parse(&executor.tree)?;
        for (name, settings) in &whole.stage {
            ensure!(STAGES.contains(&name.as_str()), "executor.stage.{name}: no such stage; there are: {}", STAGES.join(", "));
            for key in ["name", "site", "stage"] {
                ensure!(!settings.contains_key(key), "executor.stage.{name}.{key}: one for all stages; set executor.{key}");
            }
        }
        for stage in STAGES {
            executor.for_stage(stage)?;
        }
        Ok(executor)
    }

    /// What the jobs of `stage` ask for.
    ///
    /// # Errors
    /// A value of the wrong type, or one that makes no sense.
    pub fn for_stage(&self, stage: &str) -> Result<ExecutorSettings> {
        let mut tree = self.tree.clone();
        let own = tree.get("stage").and_then(|stages| stages.get(stage)).and_then(Value::as_table).cloned();
        let place = if own.is_some() { format!("executor.stage.{stage}") } else { "executor".to_owned() };
        config::overlay(&mut tree, &own.unwrap_or_default());
        let settings: ExecutorSettings = config::typed(tree, &place)?;
        for (key, value) in
            [("array", settings.array.0 as u32), ("cpus", settings.cpus.unwrap_or(1)), ("at-most", settings.at_most.unwrap_or(1))]
        {
            ensure!(value > 0, "{place}.{key} is 0; it wants 1 or more");
        }
        if settings.ntasks.or(settings.nodes).is_some_and(|count| count > 1) && tree_has(&self.tree, stage, &["ntasks", "nodes"]) {
            ensure!(
                stage == "train",
                "{place}: nodes and ntasks are for the stage 'train', whose processes work together; divide others by array"
            );
        }
        let lines = |text: &str| text.contains(['\n', '\0']);
        let words =
            [&settings.partition, &settings.account, &settings.qos, &settings.time, &settings.memory, &settings.gpus, &settings.constraint];
        ensure!(
            !words.into_iter().flatten().chain(&settings.extra).any(|text| lines(text)),
            "{place}: an option of sbatch has a line break in it"
        );
        Ok(settings)
    }
}

/// Whether a stage's own table has one of the keys.
fn tree_has(tree: &toml::Table, stage: &str, keys: &[&str]) -> bool {
    let own = tree.get("stage").and_then(|stages| stages.get(stage)).and_then(Value::as_table);
    own.is_some_and(|own| keys.iter().any(|key| own.contains_key(*key)))
}

fn parse(tree: &toml::Table) -> Result<ExecutorSettings> {
    config::typed(tree.clone(), "executor")
}

fn read_site(path: &Path) -> Result<toml::Table> {
    let mut file = config::read(path)?;
    let executor = file.remove("executor").and_then(|value| value.as_table().cloned());
    let others: Vec<&String> = file.keys().collect();
    ensure!(others.is_empty(), "site '{}': only [executor] belongs there, not {}", path.display(), listing(&others, ", "));
    executor.with_context(|| format!("site '{}' has no [executor]", path.display()))
}

fn site_file(site: &str, pipeline: &Path) -> Result<PathBuf> {
    let given = PathBuf::from(site);
    if given.extension().is_some_and(|extension| extension == "toml") || given.components().count() > 1 {
        return if given.is_file() { Ok(given) } else { Err(anyhow!("site file '{site}' is not there")) };
    }
    let name = format!("{site}.toml");
    let beside_pipelines = pipeline.parent().map(|folder| folder.join("..").join(SITES));
    let beside_program = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.join(SITES)));
    let folders: Vec<PathBuf> = [Some(PathBuf::from(SITES)), beside_pipelines, beside_program].into_iter().flatten().collect();
    let found = folders.iter().map(|folder| folder.join(&name)).find(|path| path.is_file());
    found.with_context(|| format!("no site '{site}': there is no {SITES}/{name} here, beside the pipelines or beside the program"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(pipeline: &str, overrides: &[(&str, &str)]) -> Result<Executor> {
        let overrides: Vec<_> = overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Executor::load(&pipeline.parse().unwrap(), &overrides, Path::new("pipelines/x.toml"))
    }

    #[test]
    fn a_stage_wins_over_the_executor_and_a_set_over_both() {
        let text = "name = 'slurm'\nmemory = '8G'\n[stage.extract]\nmemory = '32G'\ngpus = 1";
        let executor = load(text, &[("account", "1234"), ("time", "04:00:00"), ("stage.extract.gpus", "a100:2")]).unwrap();
        let (tile, extract) = (executor.for_stage("tile").unwrap(), executor.for_stage("extract").unwrap());
        assert_eq!((tile.memory.as_deref(), extract.memory.as_deref()), (Some("8G"), Some("32G")));
        assert_eq!((tile.gpus, extract.gpus.as_deref()), (None, Some("a100:2")));
        assert_eq!((extract.account.as_deref(), extract.time.as_deref()), (Some("1234"), Some("04:00:00")));
        assert_eq!((executor.name, tile.array.0), (Name::Slurm, 8));
    }

    #[test]
    fn a_site_lies_below_the_pipeline() {
        let folder = tempfile::tempdir().unwrap();
        let site = folder.path().join("here.toml");
        std::fs::write(&site, "[executor]\nname = 'slurm'\npartition = 'gpu'\narray = 3\nmodules = ['cuda']").unwrap();
        let executor = load("array = 5", &[("site", site.to_str().unwrap())]).unwrap();
        let settings = executor.for_stage("tile").unwrap();
        assert_eq!((executor.name, settings.array.0, settings.partition.as_deref()), (Name::Slurm, 5, Some("gpu")));
        let missing = load("", &[("site", "nowhere")]).unwrap_err().to_string();
        assert!(missing.contains("configs/sites/nowhere.toml"), "{missing}");
        std::fs::write(&site, "partition = 'gpu'").unwrap();
        let bare = load("", &[("site", site.to_str().unwrap())]).unwrap_err().to_string();
        assert!(bare.contains("only [executor]"), "{bare}");
    }

    #[test]
    fn mistakes_are_named() {
        let refused = |text: &str| load(text, &[]).unwrap_err().to_string();
        assert!(refused("partion = 'x'").contains("did you mean 'partition'"));
        assert!(refused("[stage.trian]").contains("no such stage"));
        assert!(refused("array = 0").contains("executor.array is 0"));
        assert!(refused("[stage.tile]\nntasks = 2").contains("for the stage 'train'"));
        assert!(refused("[stage.tile]\nname = 'local'").contains("one for all stages"));
        assert!(refused("extra = [\"--a\\n#SBATCH --b\"]").contains("line break"));
        assert!(refused("memory = true").contains("executor: at 'memory'"));
    }
}
