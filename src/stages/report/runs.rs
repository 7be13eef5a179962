//! Finds probe and heatmap folders and reads what they say. A run that cannot be read is named and left out; the others go on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::datasets::cohort::{self, Entry};
use crate::metrics::bootstrap::Bounds;
use crate::stages::probe::EMBEDDINGS;
use crate::stages::watch::CURVES;
use crate::store::heatmap::{self, HeatmapFile};
use crate::store::history::{self, Epoch};
use crate::store::predictions::{self, Predictions};
use crate::store::scores::{self, ScoreFile};
use crate::store::{digest, run};

/// Folders below a given one that are searched; run trees are three or four deep.
const DEPTH: usize = 8;
/// What tile and extract runs say of each slide.
pub(super) const SLIDES: &str = "slides.csv";

/// One probe folder.
pub(super) struct Probe {
    /// Its path below the folder that was given; never an absolute path.
    pub name: String,
    pub folder: PathBuf,
    pub scores: ScoreFile,
    pub predictions: Predictions,
    /// Empty for an untrained model, or where the training folder is not there.
    pub history: Vec<Epoch>,
    /// What the training run saw of the test rows; empty without `train.watch-test`.
    pub watched: Vec<Epoch>,
    /// Every slide that labels or bags named; empty for images, and where the training folder is not there.
    pub cohort: Vec<Entry>,
    /// The centre of each slide that has one.
    pub centres: BTreeMap<String, String>,
    /// Settings of the tiling run; null where its folder is not there.
    pub tiling: Value,
    /// The folder of the bags: an extract run, or one from elsewhere. `None` where the probe did not say.
    pub bags: Option<PathBuf>,
    /// sha256 of the encoder's weights, as the extract run has it.
    pub weights: String,
    /// Of the files read.
    pub digest: String,
    /// Of the program that probed; empty if the folder does not say.
    pub version: String,
}

/// One heatmap folder.
pub(super) struct Looked {
    /// As [`Probe::name`].
    pub name: String,
    pub folder: PathBuf,
    pub file: HeatmapFile,
    /// Of the file read.
    pub digest: String,
}

/// Readable runs by name, and the reason for each that is not.
pub(super) struct Found {
    pub probes: Vec<Probe>,
    pub looked: Vec<Looked>,
    pub failed: BTreeMap<String, String>,
    /// Runs that are not finished, and files beside runs that cannot be read.
    pub notes: Vec<String>,
}

/// What is below a folder.
#[derive(Default)]
struct Below {
    probes: Vec<PathBuf>,
    heatmaps: Vec<PathBuf>,
    unfinished: Vec<PathBuf>,
}

/// Searches each of `roots` for `scores.json` and `heatmap.json`.
///
/// # Errors
/// A root that is not there or holds neither, no probe run found, or none readable.
pub(super) fn find(roots: &[PathBuf]) -> Result<Found> {
    let mut names = Names::default();
    let (mut probes, mut heatmaps, mut notes) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    for root in roots {
        let root = root.canonicalize().with_context(|| format!("no such run: '{}'", root.display()))?;
        let above = root.parent().unwrap_or(&root).to_owned();
        let mut below = Below::default();
        search(&root, DEPTH, &mut below)?;
        if below.probes.is_empty() && below.heatmaps.is_empty() {
            bail!("no {} in or below '{}'; give probe run folders, or a folder that holds some", scores::FILE, root.display());
        }
        for (folders, kind) in [(below.probes, &mut probes), (below.heatmaps, &mut heatmaps)] {
            for folder in folders {
                if let Some(name) = names.of(&folder, &above) {
                    kind.insert(name, folder);
                }
            }
        }
        for folder in below.unfinished {
            let name = folder.strip_prefix(&above).unwrap_or(&folder).display().to_string();
            notes.insert(format!("Run '{name}' is not finished and is left out; the command that began it continues it."));
        }
    }
    let mut found = Found { probes: Vec::new(), looked: Vec::new(), failed: BTreeMap::new(), notes: notes.into_iter().collect() };
    // Outputs hold no absolute paths: the run's name stands for its folder.
    let reason = |folder: &Path, error: anyhow::Error| format!("{error:#}").replace(&format!("{}/", folder.display()), "");
    for (name, folder) in probes {
        match read(&name, &folder, &mut found.notes) {
            Ok(probe) => found.probes.push(probe),
            Err(error) => drop(found.failed.insert(name, reason(&folder, error))),
        }
    }
    for (name, folder) in heatmaps {
        let read = || {
            let summary = run::summary(&folder)?.context("it is not finished: the command that began it continues it")?;
            let state = digest::bytes(serde_json::to_string(&(&summary.status, &summary.failed))?.as_bytes());
            Ok((HeatmapFile::read(&folder)?, digest::file(&folder.join(heatmap::FILE))? + &state, summary.failed.len()))
        };
        match read() {
            Ok((file, digest, failed)) => {
                if failed > 0 {
                    found
                        .notes
                        .push(format!("Heatmap run '{name}': {failed} slides failed and are not among its figures, or have no picture."));
                }
                found.looked.push(Looked { name, folder, file, digest });
            }
            Err(error) => drop(found.failed.insert(name, reason(&folder, error))),
        }
    }
    if found.probes.is_empty() && found.failed.is_empty() {
        bail!("there are heatmap runs, but no probe run; give probe run folders, too, or a folder that holds some");
    }
    if found.probes.is_empty() {
        let list: Vec<String> = found.failed.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
        bail!("none of the runs can be read: {}", list.join("; "));
    }
    Ok(found)
}

/// Names of folders, each another.
#[derive(Default)]
struct Names {
    seen: BTreeSet<PathBuf>,
    given: BTreeMap<String, usize>,
}

impl Names {
    /// The same folder through two roots is one run and gets no second name; two folders of the same relative name stay two.
    fn of(&mut self, folder: &Path, above: &Path) -> Option<String> {
        if !self.seen.insert(folder.to_owned()) {
            return None;
        }
        let name = folder.strip_prefix(above).unwrap_or(folder).to_string_lossy().into_owned();
        let times = self.given.entry(name.clone()).or_default();
        *times += 1;
        Some(if *times == 1 { name } else { format!("{name} ({times})") })
    }
}

/// How the runs' own intervals were made, so that the report's are made alike; a note where the runs disagree.
pub(super) fn bounds(probes: &[Probe], notes: &mut Vec<String>) -> Bounds {
    // Runs of before the choice have percentile intervals.
    let of = |probe: &Probe| {
        probe.scores.settings.pointer("/probe/interval").and_then(|name| Bounds::deserialize(name).ok()).unwrap_or_default()
    };
    let first = probes.first().map(of).unwrap_or_default();
    if probes.iter().all(|probe| of(probe) == first) {
        return first;
    }
    notes.push("The runs were probed with different kinds of interval; every interval on this page is a percentile interval.".to_owned());
    Bounds::Percentile
}

fn search(folder: &Path, depth: usize, found: &mut Below) -> Result<()> {
    if folder.join(scores::FILE).is_file() {
        // What `wsi heatmap` makes of a probe run lies in it.
        found.probes.push(folder.to_owned());
    } else if folder.join(heatmap::FILE).is_file() {
        found.heatmaps.push(folder.to_owned());
        return Ok(());
    } else if run::stage_of(folder).is_some_and(|stage| ["probe", "heatmap"].contains(&stage.as_str())) {
        found.unfinished.push(folder.to_owned());
        return Ok(());
    }
    if depth == 0 || !folder.is_dir() {
        return Ok(());
    }
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read the folder '{}'", folder.display()))?;
    let mut below = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read the folder '{}'", folder.display()))?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        // Links are not followed: they may lead back up.
        if !hidden && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below.push(entry.path());
        }
    }
    below.sort();
    below.iter().try_for_each(|folder| search(folder, depth - 1, found))
}

fn read(name: &str, folder: &Path, notes: &mut Vec<String>) -> Result<Probe> {
    let scores = ScoreFile::read(folder)?;
    let predictions = predictions::read(folder, &scores.classes)?;
    let train = folder.join(&scores.train_folder);
    let bags = scores.bag_folder.as_ref().map(|bags| folder.join(bags));
    let tiles = scores.tile_folder.as_ref().map(|tiles| folder.join(tiles));
    let mut side = Side { run: name, notes };
    let history = side.read(&train.join(history::FILE), history::read_as).unwrap_or_default();
    let watched = side.read(&train.join(CURVES), history::read_as).unwrap_or_default();
    let cohort = side.read(&train.join(cohort::FILE), cohort::read_roll).unwrap_or_default();
    let settings = |path: &Path| {
        let text = std::fs::read_to_string(path)?;
        toml::from_str::<Value>(&text).with_context(|| format!("'{}' is damaged", path.display()))
    };
    let tiling = tiles.as_ref().and_then(|tiles| side.read(&tiles.join("config.toml"), settings)).unwrap_or_default();
    let extract = bags.as_deref().map(run::summary).transpose().unwrap_or_default().flatten();
    let mut parts = vec![name.to_owned()];
    let files = [folder.join(scores::FILE), folder.join(predictions::FILE), folder.join(EMBEDDINGS)];
    let of_train = [history::FILE, CURVES, cohort::FILE].map(|file| train.join(file));
    let of_tiles = ["config.toml", SLIDES].map(|file| tiles.as_ref().map(|tiles| tiles.join(file)).unwrap_or_default());
    let of_bags = bags.as_ref().map(|bags| bags.join(SLIDES)).unwrap_or_default();
    for path in files.into_iter().chain(of_train).chain(of_tiles).chain([of_bags]) {
        parts.push(if path.is_file() { digest::file(&path)? } else { "absent".to_owned() });
    }
    let weights = extract.and_then(|summary| summary.inputs.get("weights").cloned()).unwrap_or_default();
    parts.push(weights.clone());
    let version = run::summary(folder)?.map_or_else(String::new, |summary| summary.version);
    let centres = cohort.iter().filter(|entry| !entry.centre.is_empty()).map(|entry| (entry.slide.clone(), entry.centre.clone())).collect();
    let digest = digest::bytes(parts.join("\n").as_bytes());
    Ok(Probe {
        name: name.to_owned(),
        folder: folder.to_owned(),
        scores,
        predictions,
        history,
        watched,
        cohort,
        centres,
        tiling,
        bags,
        weights,
        digest,
        version,
    })
}

/// Reads what stands beside a run: what is not there or damaged costs its part of the page, not the run.
struct Side<'a> {
    run: &'a str,
    notes: &'a mut Vec<String>,
}

impl Side<'_> {
    fn read<T>(&mut self, path: &Path, read: impl FnOnce(&Path) -> Result<T>) -> Option<T> {
        if !path.is_file() {
            return None;
        }
        match read(path) {
            Ok(value) => Some(value),
            Err(error) => {
                let folder = path.parent().unwrap_or(path);
                let reason = format!("{error:#}").replace(&format!("{}/", folder.display()), "");
                self.notes.push(format!("A file beside run '{}' cannot be read and is not shown: {reason}.", self.run));
                None
            }
        }
    }
}
