//! `file`: the parts as a file names them. Its layout is told by its content: our `split.csv` (`slide_id`, `part`), CLAM's
//! `splits_i.csv` (a column of slides for each of `train`, `val`, `test`), ACMIL's JSON (`train_names`, `val_names`, `test_names`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{Dataset, Parts, SplitKind};
use crate::ground::listing::listing;
use crate::store::{digest, table};

/// Settings of `file`. The file itself is an argument: paths are no settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    /// What people call it, for example `ACMIL split 1`; empty: `file` and the digest of its content.
    pub title: String,
    /// Which of `folds` files with disjoint test sets this is, from 0.
    pub fold: usize,
    /// Number of such files; 1 for a split on its own.
    pub folds: usize,
}

impl Default for File {
    fn default() -> Self {
        Self { title: String::new(), fold: 0, folds: 1 }
    }
}

/// Slides of train, valid and test.
type Listed = [Vec<String>; 3];

const PARTS: [&str; 3] = ["train", "valid", "test"];

impl File {
    pub(super) fn parts(&self, dataset: &dyn Dataset, path: &Path) -> Result<Parts> {
        let Self { title, fold, folds } = self;
        ensure!(fold < folds, "split: fold {fold} of {folds} files; folds count from 0");
        let listed = read(path)?;
        complete(&listed, dataset).with_context(|| format!("split file '{}'", path.display()))?;
        let rows = |slides: &[String]| {
            let slides: BTreeSet<&String> = slides.iter().collect();
            (0..dataset.ids().len()).filter(|&row| slides.contains(&dataset.ids()[row])).collect()
        };
        let [_, valid, test] = &listed;
        let title = if title.is_empty() { format!("file {}", &digest::file(path)?[..8]) } else { title.clone() };
        let name = if *folds > 1 { format!("{title}, fold {fold} of {folds}") } else { title };
        Ok(Parts { name, kind: SplitKind::File, fold: *fold, folds: *folds, test: rows(test), valid: rows(valid) })
    }
}

fn read(path: &Path) -> Result<Listed> {
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) { acmil(path) } else { csv(path) }
}

/// ACMIL's names of the parts; those that it does not know are ours to ignore.
#[derive(Deserialize)]
struct Acmil {
    train_names: Vec<String>,
    val_names: Vec<String>,
    test_names: Vec<String>,
}

fn acmil(path: &Path) -> Result<Listed> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the split '{}'", path.display()))?;
    let Acmil { train_names, val_names, test_names } = serde_json::from_str(&text)
        .with_context(|| format!("'{}' is no split: a JSON file wants train_names, val_names and test_names", path.display()))?;
    Ok([train_names, val_names, test_names])
}

fn csv(path: &Path) -> Result<Listed> {
    let frame = table::read(path)?;
    let column = |name: &str| table::text(&frame, name, path);
    if ["train", "val", "test"].iter().all(|name| table::has(&frame, name)) {
        let slides = |name: &str| anyhow::Ok(column(name)?.into_iter().filter(|slide| !slide.is_empty()).collect::<Vec<_>>());
        return Ok([slides("train")?, slides("val")?, slides("test")?]);
    }
    ensure!(
        table::has(&frame, "slide_id") && table::has(&frame, "part"),
        "'{}' is no split: a CSV wants the columns slide_id and part, or train, val and test; it has: {}",
        path.display(),
        table::names(&frame).join(", ")
    );
    let (slides, parts) = (column("slide_id")?, column("part")?);
    let mut listed = Listed::default();
    let mut unknown = Vec::new();
    for (slide, part) in slides.into_iter().zip(parts) {
        match PARTS.iter().position(|known| *known == part) {
            Some(place) => listed[place].push(slide),
            None => unknown.push(format!("'{slide}' ('{part}')")),
        }
    }
    ensure!(
        unknown.is_empty(),
        "'{}': a part is train, valid or test; these slides have another: {}",
        path.display(),
        listing(&unknown, ", ")
    );
    Ok(listed)
}

/// Every slide of the dataset in exactly one part, and no other slide.
fn complete(listed: &Listed, dataset: &dyn Dataset) -> Result<()> {
    let mut parts_of: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (part, slides) in PARTS.iter().zip(listed) {
        slides.iter().for_each(|slide| parts_of.entry(slide).or_default().push(part));
    }
    let known: BTreeSet<&str> = dataset.ids().iter().map(String::as_str).collect();
    let mut faults = Vec::new();
    let mut fault = |what: &str, slides: Vec<String>| {
        if !slides.is_empty() {
            faults.push(format!("{} slide(s) {what}: {}", slides.len(), listing(&slides, ", ")));
        }
    };
    let twice = parts_of.iter().filter(|(_, parts)| parts.len() > 1).map(|(slide, parts)| format!("'{slide}' ({})", parts.join(", ")));
    fault("listed twice", twice.collect());
    fault("in no part", known.iter().filter(|id| !parts_of.contains_key(*id)).map(|id| format!("'{id}'")).collect());
    fault("not in the data", parts_of.keys().filter(|slide| !known.contains(*slide)).map(|slide| format!("'{slide}'")).collect());
    if !faults.is_empty() {
        bail!("{}; correct the file, or the table of labels", faults.join("; "));
    }
    Ok(())
}
