//! What is looked at: a probe run, the training behind it, its bags, and which slides.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Inputs;
use super::look::bag_of;
use crate::store::predictions::{self, Prediction};
use crate::store::run;
use crate::store::scores::{self, Decision, ScoreFile};
use crate::store::{bag, files};
use crate::tiling::roi::Names;

/// A probe run and what belongs to it, opened.
pub(super) struct Subject {
    pub(super) probe: PathBuf,
    pub(super) scores: ScoreFile,
    pub(super) train: PathBuf,
    pub(super) bags: PathBuf,
    pub(super) tiles: Option<PathBuf>,
    /// By slide.
    pub(super) tested: BTreeMap<String, Prediction>,
    pub(super) slides: Vec<String>,
}

/// Where the probe run is: the folder itself, or `probe` inside it.
fn probe_folder(folder: &Path) -> Result<PathBuf> {
    let found = [folder.to_owned(), folder.join("probe")].into_iter().find(|folder| folder.join(scores::FILE).is_file());
    found.with_context(|| {
        format!(
            "'{}' is no probe run and has none in 'probe'; give a finished one, or run `wsi probe` on the training first",
            folder.display()
        )
    })
}

/// The folder that a call without `--out` writes into.
///
/// # Errors
/// No probe run.
pub fn usual_folder(run: &Path) -> Result<PathBuf> {
    Ok(probe_folder(run)?.join("heatmap"))
}

impl Subject {
    pub(super) fn open(inputs: &Inputs) -> Result<Self> {
        let probe = probe_folder(&inputs.run)?;
        run::finished(&probe, "probe")?;
        let scores = ScoreFile::read(&probe)?;
        let train = probe.join(&scores.train_folder);
        let named = scores.bag_folder.as_ref().map(|bags| probe.join(bags)).filter(|bags| bags.is_dir());
        let data = inputs
            .data
            .clone()
            .or(named)
            .context("the probe run does not say where its bags are, or they are gone from there; give --data")?;
        let bags = bag::folder(&data);
        let tiles =
            inputs.tiles.clone().or_else(|| scores.tile_folder.as_ref().map(|tiles| probe.join(tiles))).filter(|tiles| tiles.is_dir());
        let mut all = predictions::read(&probe, &scores.classes)?;
        let rows = all.remove(&Decision::Own).or_else(|| all.into_values().next()).unwrap_or_default();
        let tested: BTreeMap<String, Prediction> = rows.into_iter().map(|row| (row.slide_id.clone(), row)).collect();
        let slides = if inputs.every_bag {
            let mut names = files::names_in(&bags)?;
            names.retain(|name| !name.starts_with('.'));
            names.sort();
            names.iter().filter_map(|name| name.strip_suffix(".h5")).map(str::to_owned).collect()
        } else {
            tested.keys().cloned().collect()
        };
        let slides = inputs.selection.narrow(slides, |id: &String| id)?;
        Ok(Self { probe, scores, train, bags, tiles, tested, slides })
    }

    /// What the annotation files of its slides may be called.
    pub(super) fn names(&self) -> Vec<(String, Names)> {
        let one = |id: &'_ String| -> (String, Names) {
            // A bag that cannot be read is that slide's failure, later.
            let header = bag::read_header(&bag_of(&self.bags, id)).ok().flatten();
            (id.clone(), Names { id: id.clone(), file: header.map_or_else(|| id.clone(), |header| header.slide_file) })
        };
        self.slides.iter().map(one).collect()
    }
}
