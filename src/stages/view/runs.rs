//! Finds the runs that can be looked at, and what they say of each slide. One that is not whole is shown as far as it is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use crate::stages::one_line;
use crate::store::heatmap::{self, HeatmapFile};
use crate::store::scores::{Decision, ScoreFile};
use crate::store::{files, predictions, run};

/// Folders below a given one that are searched; run trees are three or four deep.
const DEPTH: usize = 8;

/// What a run holds.
pub(super) enum Kind {
    /// Coordinates and outlines of tissue.
    Tile,
    /// What was said of each slide.
    Probe,
    /// What was said of each tile.
    Heatmap(Option<Box<HeatmapFile>>),
}

/// One run.
pub(super) struct Found {
    /// Its path below the folder that was given; never an absolute path.
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) kind: Kind,
    /// What is missing, in one sentence.
    pub(super) note: Option<String>,
    /// Class names in index order; empty for a tile run.
    pub(super) classes: Vec<String>,
    /// What was said of the slides, by id.
    pub(super) said: BTreeMap<String, Said>,
}

/// What a model said of a slide.
pub(super) struct Said {
    /// True class; empty where it is not known.
    pub(super) label: String,
    pub(super) predicted: String,
    /// Of the true class; of the predicted one where that is not known.
    pub(super) probability: f64,
}

/// The runs in and below a folder: none where it holds none.
///
/// # Errors
/// A folder that cannot be read.
pub(super) fn find(root: &Path) -> Result<Vec<Found>> {
    let above = root.parent().unwrap_or(root).to_owned();
    let mut folders = Vec::new();
    search(root, DEPTH, &mut folders)?;
    Ok(folders.iter().filter_map(|folder| read(folder, &above)).collect())
}

/// The tile run behind another run, where that says so and it is there.
pub(super) fn tile_run_of(found: &Found) -> Option<Found> {
    let named = match &found.kind {
        Kind::Tile => None,
        Kind::Probe => ScoreFile::read(&found.folder).ok()?.tile_folder,
        Kind::Heatmap(file) => file.as_ref()?.tile_folder.clone(),
    };
    let folder = found.folder.join(named?).canonicalize().ok()?;
    let tile = read(&folder, folder.parent()?)?;
    matches!(tile.kind, Kind::Tile).then_some(tile)
}

fn search(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    if folder.join(run::RECIPE).is_file() {
        found.push(folder.to_owned());
    }
    if depth == 0 || !folder.is_dir() {
        return Ok(());
    }
    let mut below = Vec::new();
    for name in files::names_in(folder)? {
        let path = folder.join(&name);
        // Links are not followed: they may lead back up.
        if !name.starts_with('.') && path.symlink_metadata().is_ok_and(|known| known.is_dir()) {
            below.push(path);
        }
    }
    below.sort();
    below.iter().try_for_each(|folder| search(folder, depth - 1, found))
}

/// A run that can be shown; `None` for one of another stage.
fn read(folder: &Path, above: &Path) -> Option<Found> {
    let recipe = std::fs::read_to_string(folder.join(run::RECIPE)).unwrap_or_default();
    let recipe: Value = serde_json::from_str(&recipe).unwrap_or_default();
    let mut found = Found {
        name: folder.strip_prefix(above).unwrap_or(folder).to_string_lossy().into_owned(),
        folder: folder.to_owned(),
        kind: Kind::Tile,
        note: None,
        classes: Vec::new(),
        said: BTreeMap::new(),
    };
    let stage = recipe["stage"].as_str()?.to_owned();
    let outcome = match stage.as_str() {
        "tile" => Ok(()),
        "probe" => read_probe(&mut found),
        "heatmap" => read_heatmap(&mut found),
        _ => return None,
    };
    let state = run::summary(folder).and_then(|summary| match summary {
        None => Err(anyhow!("the run is not complete: run `wsi {stage}` again to continue it")),
        Some(summary) if !summary.failed.is_empty() => Err(anyhow!("{} of its slides failed", summary.failed.len())),
        Some(_) => Ok(()),
    });
    // Of two troubles the first explains the second.
    found.note = state.and(outcome).err().map(|error| one_line(&error));
    Some(found)
}

fn read_probe(found: &mut Found) -> Result<()> {
    found.kind = Kind::Probe;
    let scores = ScoreFile::read(&found.folder)?;
    let mut all = predictions::read(&found.folder, &scores.classes)?;
    let rule = if all.contains_key(&Decision::Lp) { Some(Decision::Lp) } else { all.keys().next().copied() };
    let rows = rule.and_then(|rule| all.remove(&rule)).context("it holds no predictions")?;
    found.said = rows
        .into_iter()
        .map(|row| {
            let said = Said {
                label: scores.classes[row.label].clone(),
                predicted: scores.classes[row.predicted].clone(),
                probability: row.probabilities[row.label],
            };
            (row.slide_id, said)
        })
        .collect();
    found.classes = scores.classes;
    Ok(())
}

fn read_heatmap(found: &mut Found) -> Result<()> {
    found.kind = Kind::Heatmap(None);
    let file = HeatmapFile::read(&found.folder)?;
    for slide in &file.slides {
        let class = file.classes.iter().position(|class| *class == slide.label);
        let class = class.or_else(|| file.classes.iter().position(|class| *class == slide.predicted));
        let probability = class.and_then(|class| slide.probabilities.get(class)).copied().unwrap_or(f64::NAN);
        let said = Said { label: slide.label.clone(), predicted: slide.predicted.clone(), probability };
        found.said.insert(slide.slide_id.clone(), said);
    }
    found.classes.clone_from(&file.classes);
    found.kind = Kind::Heatmap(Some(Box::new(file)));
    Ok(())
}

/// Ending of the names of a tile run's coordinates.
pub(super) const PATCHES: &str = "_patches.h5";

impl Found {
    /// Ids of the slides that the run holds something of.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub(super) fn slides(&self) -> Result<Vec<String>> {
        let (folder, ending) = match &self.kind {
            Kind::Probe => return Ok(self.said.keys().cloned().collect()),
            Kind::Tile => ("patches", PATCHES),
            Kind::Heatmap(_) => (heatmap::TILES, ".csv"),
        };
        let names = files::names_in(&self.folder.join(folder))?;
        let there = names.iter().filter_map(|name| name.strip_suffix(ending)).filter(|id| !id.starts_with('.'));
        let mut ids: Vec<String> = there.map(str::to_owned).chain(self.said.keys().cloned()).collect();
        ids.sort();
        ids.dedup();
        Ok(ids)
    }
}
