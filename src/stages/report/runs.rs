//! Finds probe folders and reads what they say. A run that cannot be read is named and left out; the others go on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::metrics::bootstrap::Bounds;
use crate::store::history::{self, Epoch};
use crate::store::predictions::{self, Predictions};
use crate::store::scores::{self, ScoreFile};
use crate::store::{digest, run};

/// Folders below a given one that are searched; run trees are three or four deep.
const DEPTH: usize = 8;

/// One probe folder.
pub(super) struct Probe {
    /// Its path below the folder that was given; never an absolute path.
    pub name: String,
    pub folder: PathBuf,
    pub scores: ScoreFile,
    pub predictions: Predictions,
    /// Empty for an untrained model, or where the training folder is not there.
    pub history: Vec<Epoch>,
    /// Settings of the tiling run; null where its folder is not there.
    pub tiling: Value,
    /// Of the files read.
    pub digest: String,
    /// Of the program that probed; empty if the folder does not say.
    pub version: String,
}

/// Readable runs by name, and the reason for each that is not.
pub(super) struct Found {
    pub probes: Vec<Probe>,
    pub failed: BTreeMap<String, String>,
}

/// Searches each of `roots` for `scores.json`.
///
/// # Errors
/// A root that is not there, none found, or none readable.
pub(super) fn find(roots: &[PathBuf]) -> Result<Found> {
    let mut folders = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for root in roots {
        let root = root.canonicalize().with_context(|| format!("no such run: '{}'", root.display()))?;
        let above = root.parent().unwrap_or(&root).to_owned();
        let mut below = Vec::new();
        search(&root, DEPTH, &mut below)?;
        if below.is_empty() {
            bail!("no {} in or below '{}'; give probe run folders, or a folder that holds some", scores::FILE, root.display());
        }
        for folder in below {
            // The same folder through two roots is one run; two folders of the same relative name stay two.
            if seen.insert(folder.clone()) {
                let name = folder.strip_prefix(&above).unwrap_or(&folder).to_string_lossy().into_owned();
                let twice = folders.keys().filter(|known: &&(String, usize)| known.0 == name).count();
                folders.insert((name, twice), folder);
            }
        }
    }
    let mut found = Found { probes: Vec::new(), failed: BTreeMap::new() };
    for ((name, twice), folder) in folders {
        let name = if twice == 0 { name } else { format!("{name} ({})", twice + 1) };
        match read(&name, &folder) {
            Ok(probe) => found.probes.push(probe),
            Err(error) => {
                // Outputs hold no absolute paths: the run's name stands for its folder.
                let reason = format!("{error:#}").replace(&format!("{}/", folder.display()), "");
                found.failed.insert(name, reason);
            }
        }
    }
    if found.probes.is_empty() {
        let list: Vec<String> = found.failed.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
        bail!("none of the runs can be read: {}", list.join("; "));
    }
    Ok(found)
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

fn search(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    if folder.join(scores::FILE).is_file() {
        found.push(folder.to_owned());
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

fn read(name: &str, folder: &Path) -> Result<Probe> {
    let scores = ScoreFile::read(folder)?;
    let predictions = predictions::read(folder, &scores.classes)?;
    let train = folder.join(&scores.train_folder);
    let history = if train.join(history::FILE).is_file() { history::read(&train)? } else { Vec::new() };
    let tiles = scores.tile_folder.as_ref().map(|tiles| folder.join(tiles).join("config.toml")).unwrap_or_default();
    let tiling = match std::fs::read_to_string(&tiles) {
        Ok(text) => toml::from_str(&text).with_context(|| format!("'{}' is damaged", tiles.display()))?,
        Err(_) => Value::Null,
    };
    let mut parts = vec![name.to_owned()];
    for path in [folder.join(scores::FILE), folder.join(predictions::FILE), train.join(history::FILE), tiles] {
        parts.push(if path.is_file() { digest::file(&path)? } else { "absent".to_owned() });
    }
    let version = run::summary(folder)?.map_or_else(String::new, |summary| summary.version);
    let digest = digest::bytes(parts.join("\n").as_bytes());
    Ok(Probe { name: name.to_owned(), folder: folder.to_owned(), scores, predictions, history, tiling, digest, version })
}
