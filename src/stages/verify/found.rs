//! The runs below the folders that were given, in the order in which data flow through them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::store::run::{self, Summary};

/// Folders below a given one that are searched.
const DEPTH: usize = 6;

/// Stages of the chain, first to last.
const CHAIN: [&str; 5] = ["tile", "extract", "train", "probe", "heatmap"];

/// One run folder.
pub(super) struct Run {
    /// Its path below the folder that was given; never an absolute path.
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) stage: String,
    /// The recipe's digest and its inputs', as `recipe.json` has them.
    pub(super) digest: String,
    pub(super) inputs: BTreeMap<String, String>,
    /// `None` where it is not finished.
    pub(super) summary: Option<Summary>,
}

impl Run {
    /// A figure of `run.json` that is there.
    pub(super) fn figure(&self, name: &str) -> Option<&Value> {
        self.summary.as_ref()?.figures.get(name).filter(|value| !value.is_null())
    }
}

/// What `recipe.json` holds.
#[derive(Deserialize)]
struct RecipeFile {
    digest: String,
    stage: String,
    inputs: BTreeMap<String, String>,
}

/// Every run of the chain.
pub(super) struct Found {
    pub(super) runs: Vec<Run>,
}

impl Found {
    /// # Errors
    /// A folder that is not there, a damaged `recipe.json` or `run.json`, no run at all.
    pub(super) fn search(roots: &[PathBuf]) -> Result<Self> {
        let (mut folders, mut seen) = (Vec::new(), BTreeSet::new());
        for root in roots {
            let root = root.canonicalize().with_context(|| format!("no such run: '{}'", root.display()))?;
            let before = folders.len();
            walk(&root, root.parent().unwrap_or(&root), DEPTH, &mut folders)?;
            ensure!(folders.len() > before, "no run of {} in or below '{}'", CHAIN.join(", "), root.display());
        }
        folders.retain(|run: &Run| seen.insert(run.folder.clone()));
        let place = |run: &Run| CHAIN.iter().position(|stage| *stage == run.stage);
        folders.sort_by(|one, other| (place(one), &one.name).cmp(&(place(other), &other.name)));
        Ok(Self { runs: folders })
    }

    pub(super) fn of_stage<'a>(&'a self, stage: &'a str) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().filter(move |run| run.stage == stage)
    }
}

fn walk(folder: &Path, above: &Path, depth: usize, found: &mut Vec<Run>) -> Result<()> {
    let marker = folder.join(run::RECIPE);
    let is_run = marker.is_file();
    if is_run {
        let damaged = || format!("'{}' is damaged; the run cannot be told", marker.display());
        let RecipeFile { digest, stage, inputs } = serde_json::from_str(&std::fs::read_to_string(&marker)?).with_context(damaged)?;
        if CHAIN.contains(&stage.as_str()) {
            let name = folder.strip_prefix(above).unwrap_or(folder).to_string_lossy().into_owned();
            found.push(Run { name, folder: folder.to_owned(), stage, digest, inputs, summary: run::summary(folder)? });
        }
    }
    if depth == 0 {
        return Ok(());
    }
    let context = || format!("cannot read the folder '{}'", folder.display());
    for entry in std::fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        // A run's folders hold its outputs, `train` its own probe and `probe` its own heatmap.
        if path.is_dir() && (!is_run || path.join(run::RECIPE).is_file()) {
            walk(&path, above, depth - 1, found)?;
        }
    }
    Ok(())
}
