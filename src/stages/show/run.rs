//! A run folder: what it is of, how it ended, what it found; or a folder above some.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::name;
use crate::config::Config;
use crate::render::facts::Facts;
use crate::stages::one_line;
use crate::store::files;
use crate::store::run::{self, Summary};

/// Folders below the given one that are searched.
const DEPTH: usize = 5;
const RECIPE: &str = "recipe.json";

pub(super) fn show(path: &Path) -> Result<Option<Facts>> {
    if path.is_file() && path.file_name().is_some_and(|name| ["run.json", RECIPE].iter().any(|known| name == *known)) {
        return path.parent().map_or(Ok(None), show);
    }
    if !path.is_dir() {
        return Ok(None);
    }
    if path.join(RECIPE).is_file() {
        return one(path).map(Some);
    }
    below(path)
}

/// The runs below a folder; `None` where there is none.
pub(super) fn below(path: &Path) -> Result<Option<Facts>> {
    let mut found = Vec::new();
    search(path, DEPTH, &mut found);
    if found.is_empty() {
        return Ok(None);
    }
    let mut facts = Facts::new("runs", name(path));
    facts.add("runs", found.len());
    let row = |folder: &PathBuf| {
        let place = folder.strip_prefix(path).unwrap_or(folder).to_string_lossy().into_owned();
        match recipe(folder).and_then(|recipe| Ok((recipe, run::summary(folder)?))) {
            Ok((recipe, summary)) => vec![place, recipe["stage"].as_str().unwrap_or("?").to_owned(), state(summary.as_ref())],
            Err(error) => vec![place, "?".to_owned(), one_line(&error)],
        }
    };
    facts.table("below it", &["folder", "stage", "state"], found.iter().map(row).collect());
    Ok(Some(facts))
}

fn one(folder: &Path) -> Result<Facts> {
    let (recipe, summary) = (recipe(folder)?, run::summary(folder)?);
    let mut facts = Facts::new("run", name(folder));
    facts.add("stage", recipe["stage"].clone()).add("digest", recipe["digest"].clone()).add("state", state(summary.as_ref()));
    if let Some(summary) = &summary {
        facts.add("version", summary.version.as_str()).add("seconds", summary.seconds);
        // Times of single epochs and digests of outputs are for programs.
        let shown =
            |(figure, value): &(&String, &Value)| !["outputs", "epoch_seconds", "time"].contains(&figure.as_str()) && !value.is_null();
        for (figure, value) in summary.figures.as_object().into_iter().flatten().filter(shown) {
            facts.add(&figure.replace('_', " "), figure_in_words(value));
        }
        if !summary.failed.is_empty() {
            facts.add("failed", summary.failed.iter().map(|(item, why)| format!("{item}: {why}")).collect::<Vec<_>>());
        }
    }
    facts.add("inputs", recipe["inputs"].clone());
    facts.add("settings other than the defaults", changed(folder)?);
    facts.add("holds", contents(folder)?);
    Ok(facts)
}

/// An interval in a line; anything else as it is.
fn figure_in_words(value: &Value) -> Value {
    let number = |name: &str| value.get(name).and_then(Value::as_f64);
    match (number("value"), number("low"), number("high")) {
        (Some(at), Some(low), Some(high)) => json!(format!("{at:.3} ({low:.3} to {high:.3})")),
        _ => value.clone(),
    }
}

fn state(summary: Option<&Summary>) -> String {
    match summary {
        None => "interrupted or running: the same command continues".to_owned(),
        Some(summary) if summary.failed.is_empty() => summary.status.clone(),
        Some(summary) => format!("{}, {} failed", summary.status, summary.failed.len()),
    }
}

fn recipe(folder: &Path) -> Result<Value> {
    let path = folder.join(RECIPE);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read '{}'", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("'{}' is damaged", path.display()))
}

/// `key = value` of every setting of the folder's `config.toml` that is not the default's.
fn changed(folder: &Path) -> Result<Option<Vec<String>>> {
    let path = folder.join("config.toml");
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
    let settings = text.parse().with_context(|| format!("'{}' is damaged", path.display()))?;
    let mut found = Vec::new();
    differences(&settings, Some(&toml::Table::try_from(Config::default())?), "", &mut found);
    Ok(Some(found))
}

fn differences(of: &toml::Table, usual: Option<&toml::Table>, before: &str, found: &mut Vec<String>) {
    for (key, value) in of {
        let usual = usual.and_then(|usual| usual.get(key));
        match value {
            _ if usual == Some(value) => {}
            toml::Value::Table(table) => differences(table, usual.and_then(toml::Value::as_table), &format!("{before}{key}."), found),
            _ => found.push(format!("{before}{key} = {value}")),
        }
    }
}

/// Files by name, folders with how many files are in them.
fn contents(folder: &Path) -> Result<Vec<String>> {
    let mut names = files::names_in(folder)?;
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    let one = |name: &String| {
        let path = folder.join(name);
        Ok(if path.is_dir() { format!("{name}/ ({})", files::names_in(&path)?.len()) } else { name.clone() })
    };
    names.iter().map(one).collect()
}

/// Folders that cannot be read are passed over: they may be anybody's.
fn search(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    if folder.join(RECIPE).is_file() {
        found.push(folder.to_owned());
    }
    let names = files::names_in(folder).unwrap_or_default();
    if depth == 0 {
        return;
    }
    let mut below: Vec<PathBuf> = names.iter().filter(|name| !name.starts_with('.')).map(|name| folder.join(name)).collect();
    // Links are not followed: they may lead back up.
    below.retain(|path| path.symlink_metadata().is_ok_and(|kind| kind.is_dir()));
    below.sort();
    below.iter().for_each(|folder| search(folder, depth - 1, found));
}
