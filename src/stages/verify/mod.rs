//! `verify`: recomputes the chain slide → coordinates → features → checkpoint → predictions → heatmaps of finished runs, link by link, and names the
//! first that does not hold. Reads only.

mod extract;
mod found;
mod heatmap;
mod probe;
mod tile;
mod train;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use serde::Serialize;

use self::found::{Found, Run};
use super::{one_line, settings_of};
use crate::config::Config;
use crate::ground::listing::listing;
use crate::store::run::Recipe;

/// What is verified, and where that lies which no run holds.
pub struct Inputs {
    /// Run folders, or folders with some below them, such as a pipeline's.
    pub runs: Vec<PathBuf>,
    /// The slides that were tiled; without them the chain begins at the coordinates.
    pub slides: Option<PathBuf>,
    /// The file with the secret that gave the slides their pseudonyms.
    pub salt: Option<PathBuf>,
    /// What was trained on, where it is no run: a folder of bags or a published set.
    pub data: Option<PathBuf>,
    /// The labels that were trained on.
    pub labels: Option<PathBuf>,
}

/// What became of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Recomputed, and as it was.
    Ok,
    /// Not what it was.
    Broken,
    /// Nothing to compare it with.
    NotChecked,
}

/// One link of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// The run, by its path below the folder that was given.
    pub run: String,
    /// What is compared: `settings`, `slides`, `coordinates`, …
    pub link: &'static str,
    /// How that went.
    pub state: State,
    /// What was seen.
    pub seen: String,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Ok => "ok",
            State::Broken => "broken",
            State::NotChecked => "not checked",
        };
        write!(f, "{}\t{}\t{state}\t{}", self.run, self.link, self.seen)
    }
}

/// What a comparison comes to: `Ok` with what holds, or why it does not.
type Outcome = Result<String, Failure>;

enum Failure {
    Broken(String),
    NotChecked(String),
}

/// What cannot be read is broken: a finished run had it.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Broken(one_line(&error))
    }
}

fn broken<T>(seen: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Broken(seen.into()))
}

fn not_checked<T>(why: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::NotChecked(why.into()))
}

/// Every link of every run, in the order in which the data flow, so that the first that is broken is the one to look at.
///
/// # Errors
/// A folder that is not there, or holds no run; slides that cannot be listed.
pub fn links(inputs: &Inputs) -> Result<Vec<Link>> {
    let found = Found::search(&inputs.runs)?;
    let mut links = Vec::new();
    for run in &found.runs {
        let mut add = |link, outcome: Outcome| {
            let (state, seen) = match outcome {
                Ok(seen) => (State::Ok, seen),
                Err(Failure::Broken(seen)) => (State::Broken, without_folder(run, &seen)),
                Err(Failure::NotChecked(why)) => (State::NotChecked, without_folder(run, &why)),
            };
            links.push(Link { run: run.name.clone(), link, state, seen });
        };
        if run.summary.is_none() {
            add("run", not_checked("it is not finished: no run.json; the command that began it continues it"));
            continue;
        }
        add("settings", settings(run));
        match run.stage.as_str() {
            "tile" => tile::links(run, inputs, &mut add)?,
            "extract" => extract::links(run, &found, &mut add),
            "train" => train::links(run, &found, inputs, &mut add),
            "probe" => probe::links(run, &found, &mut add),
            _ => heatmap::links(run, &found, &mut add),
        }
    }
    Ok(links)
}

/// Messages of other rooms name files by their paths; here the run's name says where they are.
fn without_folder(run: &Run, seen: &str) -> String {
    seen.replace(&format!("{}/", run.folder.display()), "")
}

/// `config.toml`, `recipe.json` and `run.json` say the same: the recipe's digest follows from the settings and the inputs' digests.
fn settings(run: &Run) -> Outcome {
    let Some(summary) = &run.summary else { return not_checked("it is not finished") };
    if (&summary.digest, &summary.inputs) != (&run.digest, &run.inputs) {
        return broken("run.json and recipe.json name different digests");
    }
    let version = env!("CARGO_PKG_VERSION");
    let recomputed = settings_of(&run.folder).and_then(|config| recipe(run, &config)?.digest());
    if summary.version != version {
        // Settings that one version lacks or names otherwise change the digest.
        return match recomputed {
            Ok(digest) if digest == run.digest => Ok(run.digest.clone()),
            _ => not_checked(format!("made by wsi {}, this is {version}: only that version can recompute its digest", summary.version)),
        };
    }
    match recomputed? {
        digest if digest == run.digest => Ok(digest),
        digest => broken(format!("config.toml gives {digest}, the run was made as {}; the settings were changed afterwards", run.digest)),
    }
}

fn recipe(run: &Run, config: &Config) -> Result<Recipe> {
    let input = |role: &str| run.inputs.get(role).cloned().ok_or_else(|| anyhow!("recipe.json names no input '{role}'"));
    Ok(match run.stage.as_str() {
        "tile" => super::tile::recipe_from(config, run.inputs.clone()),
        "extract" => super::extract::recipe_from(config, input("tiles")?, input("weights")?),
        "train" => super::train::recipe_from(config, run.inputs.clone()),
        "probe" => super::probe::recipe_from(config, run.inputs.clone()),
        _ => super::heatmap::recipe_from(config, run.inputs.clone()),
    })
}

/// Whether the outputs that a run recorded are still those; `kept`: how they are called together.
fn outputs(run: &Run, kept: &str) -> Outcome {
    let Some(recorded) = run.figure("outputs").and_then(|outputs| outputs.as_object()) else {
        return not_checked("the run recorded no digests of what it left: an older version made it");
    };
    let mut wrong = Vec::new();
    for (name, expected) in recorded {
        match digest_of(&run.folder.join(name)) {
            Some(digest) if expected == &digest => {}
            Some(_) => wrong.push(format!("{name} is not the file that was written")),
            None => wrong.push(format!("{name} cannot be read")),
        }
    }
    if wrong.is_empty() { Ok(format!("{} files of {kept}", recorded.len())) } else { broken(listing(&wrong, "; ")) }
}

fn digest_of(path: &Path) -> Option<String> {
    crate::store::digest::file(path).ok()
}
