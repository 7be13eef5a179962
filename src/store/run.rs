//! A run folder: the same settings and inputs are the same folder, and nothing is done twice or overwritten.
//!
//! `config.toml` holds every setting written out, `log.jsonl` what happened (in calls for a share, `logs/<i>-of-<n>.jsonl`), and `run.json`, written last, says that the
//! folder is complete. A folder without `run.json` was interrupted and is continued.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{files, leases};
use crate::ground::shard::Shard;

/// What identifies a run: the stage, its resolved settings and the digests of its inputs.
#[derive(Debug, Clone, Serialize)]
pub struct Recipe {
    /// The verb: `tile`, `extract`, `train`, `probe`, `report`.
    pub stage: String,
    /// Only the settings that can change this stage's output.
    pub settings: Value,
    /// Digest of each input by its role: `slides`, `labels`, `bags`, …
    pub inputs: BTreeMap<String, String>,
}

impl Recipe {
    /// 8 hexadecimal digits; equal recipes have equal digests.
    ///
    /// # Errors
    /// Settings that cannot be written as JSON.
    pub fn digest(&self) -> Result<String> {
        super::digest::settings(self)
    }
}

/// `run.json`: what a finished folder says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    /// Version of the program.
    pub version: String,
    /// The verb.
    pub stage: String,
    /// Digest of the recipe.
    pub digest: String,
    /// Digest of each input by its role.
    pub inputs: BTreeMap<String, String>,
    /// `done`; `partial` when some items failed; `unfinished` after a share of the work, which is returned and never written.
    pub status: String,
    /// Items that failed, with the reason.
    pub failed: BTreeMap<String, String>,
    /// Wall-clock seconds of the call that finished the folder.
    pub seconds: f64,
    /// The stage's own figures.
    pub figures: Value,
}

/// What `Run::open` found.
pub enum Opened {
    /// Complete: nothing to do.
    Done(Summary),
    /// New or interrupted: work, then `finish`.
    Work(Run),
}

/// An open run folder.
pub struct Run {
    /// The folder.
    pub folder: PathBuf,
    log: PathBuf,
    /// What `run.json` held when the run was opened: a call that ended in part.
    earlier: Option<String>,
    recipe: Recipe,
    digest: String,
    started: Instant,
}

/// The summary of what `folder` holds, if that is the recipe's run and complete. Writes nothing, so that a stage may check its inputs
/// before it leaves a folder behind.
///
/// # Errors
/// The folder holds something else than a run with these settings and inputs.
pub fn done(folder: &Path, recipe: &Recipe) -> Result<Option<Summary>> {
    let digest = recipe.digest()?;
    let marker = folder.join(RECIPE);
    let text = match std::fs::read_to_string(&marker) {
        Ok(text) => text,
        Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => {
            if folder.is_dir() && holds_files(folder)? {
                bail!("'{}' is not empty and is no run of this program; choose another --out", folder.display());
            }
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read '{}'", marker.display())),
    };
    let earlier: Value = serde_json::from_str(&text).with_context(|| format!("'{}' is damaged; remove the folder", marker.display()))?;
    if earlier["digest"] != json!(digest) {
        bail!(
            "'{}' holds a '{}' run with other settings or inputs ({} there, {digest} now); choose another --out",
            folder.display(),
            earlier["stage"].as_str().unwrap_or("?"),
            earlier["digest"].as_str().unwrap_or("?")
        );
    }
    Ok(summary(folder)?.filter(|summary| summary.status == "done"))
}

/// The stage whose run was begun in `folder`; `None` for a folder that is none, or whose marker cannot be read.
pub fn stage_of(folder: &Path) -> Option<String> {
    let text = std::fs::read_to_string(folder.join(RECIPE)).ok()?;
    serde_json::from_str::<Value>(&text).ok()?["stage"].as_str().map(str::to_owned)
}

impl Run {
    /// Opens `folder` for the recipe.
    ///
    /// # Errors
    /// As [`done`]; a folder that cannot be written.
    pub fn open(folder: &Path, recipe: Recipe) -> Result<Opened> {
        Self::open_share(folder, recipe, Shard::default())
    }

    /// The same for a call that does a share of the work, with a log of its own: on a network's file system two machines cannot append to
    /// one file.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_share(folder: &Path, recipe: Recipe, shard: Shard) -> Result<Opened> {
        if let Some(summary) = done(folder, &recipe)? {
            leases::remove_left(folder);
            return Ok(Opened::Done(summary));
        }
        let earlier = summary_text(folder)?;
        let digest = recipe.digest()?;
        let marker = folder.join(RECIPE);
        if !marker.exists() {
            files::create_folder(folder)?;
            let text = json!({"digest": digest, "stage": recipe.stage, "inputs": recipe.inputs});
            files::write_bytes(&marker, serde_json::to_string_pretty(&text)?.as_bytes())?;
        }
        // After the recipe, and again if an earlier call was killed between the two.
        let settings = folder.join(SETTINGS);
        if !settings.exists() {
            files::write_bytes(&settings, toml::to_string_pretty(&recipe.settings)?.as_bytes())?;
        }
        let log = if shard.is_whole() { LOG.to_owned() } else { format!("{LOGS}/{}.jsonl", shard.to_string().replace('/', "-of-")) };
        let log = folder.join(log);
        files::create_folder(log.parent().unwrap_or(folder))?;
        let run = Self { folder: folder.to_owned(), log, earlier, recipe, digest, started: Instant::now() };
        run.log("start", json!({"version": env!("CARGO_PKG_VERSION")}))?;
        Ok(Opened::Work(run))
    }

    /// Path of an output inside the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The recipe's digest.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Appends one line to the log, `log.jsonl` or that of the share.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn log(&self, event: &str, fields: Value) -> Result<()> {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
        let mut line = json!({"time": (seconds * 1000.0).round() / 1000.0, "event": event});
        if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
            line.extend(fields);
        }
        let path = &self.log;
        let mut file =
            OpenOptions::new().create(true).append(true).open(path).with_context(|| format!("cannot append to '{}'", path.display()))?;
        // One write a line: several calls on one machine may append at the same time.
        Ok(file.write_all(format!("{line}\n").as_bytes())?)
    }

    /// The summary that another call has written since this one opened the run.
    ///
    /// # Errors
    /// A damaged `run.json`.
    pub fn finished_by_another(&self) -> Result<Option<Summary>> {
        let text = summary_text(&self.folder)?.filter(|text| self.earlier.as_ref() != Some(text));
        text.map(|text| parsed(&text, &self.folder)).transpose()
    }

    /// The error of a call that can neither finish the run nor find it finished.
    pub fn without_leases(&self) -> anyhow::Error {
        anyhow!("'{}' lost its folder of leases while another call was at it; run the same command again", self.folder.display())
    }

    /// Leaves the folder unfinished after a share of its work; a call for the whole continues it.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn leave(self, figures: Value, failed: BTreeMap<String, String>) -> Result<Summary> {
        let summary = self.summary("unfinished", figures, failed);
        self.log("leave", json!({"seconds": summary.seconds}))?;
        Ok(summary)
    }

    /// Writes `run.json`. Some failed items make the status `partial`: a repeated call tries them again.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn finish(self, figures: Value, failed: BTreeMap<String, String>) -> Result<Summary> {
        let summary = self.summary(if failed.is_empty() { "done" } else { "partial" }, figures, failed);
        self.log("finish", json!({"status": summary.status, "seconds": summary.seconds}))?;
        // All is done, so that what is there is of calls that were killed, before this one or beside it.
        files::remove_temporary(&self.folder)?;
        files::write_bytes(&self.path(SUMMARY), serde_json::to_string_pretty(&summary)?.as_bytes())?;
        Ok(summary)
    }

    fn summary(&self, status: &str, figures: Value, failed: BTreeMap<String, String>) -> Summary {
        Summary {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            stage: self.recipe.stage.clone(),
            digest: self.digest.clone(),
            inputs: self.recipe.inputs.clone(),
            status: status.to_owned(),
            failed,
            seconds: (self.started.elapsed().as_secs_f64() * 100.0).round() / 100.0,
            figures,
        }
    }
}

/// Whether a folder holds anything but hidden files, such as a killed call's temporary ones.
fn holds_files(folder: &Path) -> Result<bool> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read the folder '{}'", folder.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // Another share of the same run may be opening the folder just now.
        if !name.starts_with('.') && ![RECIPE, SETTINGS, LOG, LOGS].contains(&&*name) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The file that says which run a folder is.
pub const RECIPE: &str = "recipe.json";
const SETTINGS: &str = "config.toml";
const LOG: &str = "log.jsonl";
/// Logs of shares, `<i>-of-<n>.jsonl`.
const LOGS: &str = "logs";
const SUMMARY: &str = "run.json";

/// The summary of a finished folder; `None` while it is not finished.
///
/// # Errors
/// A damaged `run.json`.
pub fn summary(folder: &Path) -> Result<Option<Summary>> {
    summary_text(folder)?.map(|text| parsed(&text, folder)).transpose()
}

fn summary_text(folder: &Path) -> Result<Option<String>> {
    let path = folder.join(SUMMARY);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read '{}'", path.display())),
    }
}

fn parsed(text: &str, folder: &Path) -> Result<Summary> {
    serde_json::from_str(text).with_context(|| format!("'{}' is damaged", folder.join(SUMMARY).display()))
}

/// The summary of a folder that another stage reads.
///
/// # Errors
/// The folder is no finished run of `stage`; a `partial` run is accepted, its failures are known.
pub fn finished(folder: &Path, stage: &str) -> Result<Summary> {
    let Some(summary) = summary(folder)? else {
        bail!("'{}' is not a finished '{stage}' run (no run.json); run `wsi {stage}` to its end first", folder.display());
    };
    if summary.stage != stage {
        bail!("'{}' is a '{}' run, a '{stage}' run was expected", folder.display(), summary.stage);
    }
    Ok(summary)
}
