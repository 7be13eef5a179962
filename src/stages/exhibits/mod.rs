//! A table or a figure of the paper from the runs of a pipeline: `[page]` in the pipeline file says which, and holds the paper's values.
//!
//! An exhibit reads scores, histories and summaries, never predictions, so that hundreds of runs on many classes fit into memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::render::blocks::Block;
use crate::render::exhibit::Sheet;
use crate::render::{Origin, exhibit, names};
use crate::store::run::{self, Opened, Recipe, Run, Summary};
use crate::store::table::{self, Cells};
use crate::store::{digest, files};
use runs::Finished;

mod choose;
mod costs;
mod course;
mod embedding;
mod runs;
mod scatter;
mod score_table;

/// The page's name inside its folder.
pub const PAGE: &str = "report.html";
/// The numbers of what the page shows.
pub const TABLE: &str = "table.csv";
/// Of the page: one of an older layout is made again.
const LAYOUT: u32 = 1;

crate::registry! {
    /// Kinds of exhibit, by the `name` in `[page.exhibit]`.
    pub enum ExhibitSettings {
        "score-table" => ScoreTable(score_table::ScoreTable),
        "costs" => Costs(costs::Costs),
        "scatter" => Scatter(scatter::Scatter),
        "course" => Course(course::Course),
        "embedding" => Embedding(embedding::Embedding),
    } default "score-table"
}

/// `[page]` of a pipeline file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PageSettings {
    /// What the page shows.
    pub title: String,
    /// The paper's name for it: `Table I`.
    pub source: String,
    /// The paper's data.
    pub data: PaperData,
    /// What a reader must know to read it.
    #[serde(default)]
    pub remarks: Vec<String>,
    /// How it is shown, with the paper's values.
    pub exhibit: ExhibitSettings,
}

/// The data behind the paper's values, as far as a run can be held against them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PaperData {
    /// Their name.
    pub name: String,
    /// Number of classes.
    pub classes: usize,
    /// Training images.
    pub train: usize,
    /// Test images.
    pub test: usize,
}

/// At which size a pipeline ran.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Size {
    /// Its name in `[scale]`; none for the full size.
    pub scale: Option<String>,
    /// The size in words.
    pub about: String,
    /// Settings given by hand.
    pub changed: Vec<String>,
}

/// What an exhibit makes of the runs.
struct Shown {
    /// What follows from it, in a sentence or two.
    verdict: String,
    blocks: Vec<Block>,
    /// What a reader must see first.
    notes: Vec<String>,
    /// How the numbers were made.
    methods: Vec<String>,
    /// The numbers, for `table.csv`.
    table: Vec<(String, Cells)>,
    /// A picture of its own, for `figure.svg`.
    picture: Option<String>,
}

/// Whether the paper's values are of the same experiment.
struct Setting<'a> {
    /// Reasons why ours and the paper's are not of one size or not on the same data; empty where they are.
    differs: Vec<String>,
    page: &'a PageSettings,
}

/// Writes the page of the runs in `folders`, probes or trainings, into a folder of its own in `parent`, whose name begins with `name`; gives the folder. `failed`: runs that
/// ended with an error, and it.
///
/// # Errors
/// A run that cannot be read, settings of the page that choose no run or several of one seed, a folder that cannot be written.
pub fn run(
    page: &PageSettings,
    size: &Size,
    folders: &[PathBuf],
    failed: &BTreeMap<String, String>,
    parent: &Path,
    name: &str,
) -> Result<(PathBuf, Summary)> {
    let runs = runs::read(folders)?;
    let (folder, recipe) = place(page, size, &runs, failed, parent, name)?;
    let run = match Run::open(&folder, recipe)? {
        Opened::Done(summary) => return Ok((folder, summary)),
        Opened::Work(run) => run,
    };
    let setting = Setting { differs: differences(page, size, &runs), page };
    let mut shown = match &page.exhibit {
        ExhibitSettings::ScoreTable(table) => table.show(&runs, &setting)?,
        ExhibitSettings::Costs(costs) => costs.show(&runs, &setting)?,
        ExhibitSettings::Scatter(scatter) => scatter.show(&runs, &setting)?,
        ExhibitSettings::Course(course) => course.show(&runs, &setting)?,
        ExhibitSettings::Embedding(embedding) => embedding.show(&runs, &setting)?,
    };
    let mut notes: Vec<String> =
        failed.iter().map(|(name, reason)| format!("The run {name} ended with an error and is left out: {reason}.")).collect();
    notes.append(&mut shown.notes);
    let sheet = Sheet {
        title: &page.title,
        verdict: &shown.verdict,
        facts: &facts(page, size, &runs),
        apart: &setting.differs,
        notes: &notes,
        blocks: &shown.blocks,
        remarks: &page.remarks,
        methods: &shown.methods,
        origins: &runs.iter().map(origin).collect::<Vec<_>>(),
        version: env!("CARGO_PKG_VERSION"),
    };
    table::write(&run.path(TABLE), shown.table.iter().map(|(name, cells)| (name.as_str(), cells.clone())).collect())?;
    if let Some(picture) = &shown.picture {
        files::write_bytes(&run.path("figure.svg"), picture.as_bytes())?;
    }
    files::write_bytes(&run.path(PAGE), exhibit::page(&sheet).as_bytes())?;
    let summary = run.finish(json!({"runs": runs.len(), "verdict": shown.verdict, "failed": failed.len()}), BTreeMap::new())?;
    Ok((folder, summary))
}

/// Whether the page that [`run`] would write of these runs, none of which failed, is there.
///
/// # Errors
/// A run that cannot be read.
pub fn is_done(page: &PageSettings, size: &Size, folders: &[PathBuf], parent: &Path, name: &str) -> Result<bool> {
    let (folder, _) = place(page, size, &runs::read(folders)?, &BTreeMap::new(), parent, name)?;
    Ok(run::summary(&folder)?.is_some_and(|summary| summary.status == "done"))
}

/// A page of other runs, or of another program, is another folder, as everywhere.
fn place(
    page: &PageSettings,
    size: &Size,
    runs: &[Finished],
    failed: &BTreeMap<String, String>,
    parent: &Path,
    name: &str,
) -> Result<(PathBuf, Recipe)> {
    let digests: Vec<&str> = runs.iter().map(|run| run.summary.digest.as_str()).collect();
    let recipe = Recipe {
        stage: "report".to_owned(),
        settings: without_nulls(json!({"page": page, "size": size, "failed": failed, "layout": LAYOUT})),
        inputs: BTreeMap::from([("runs".to_owned(), digest::bytes(digests.join("\n").as_bytes()))]),
    };
    Ok((parent.join(format!("{name}-{}", recipe.digest()?)), recipe))
}

/// The same for TOML, which has no null: keys without a value are left out, values that the paper does not have become a dash.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            Value::Object(map.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Value::Array(items) => {
            Value::Array(items.into_iter().map(|item| if item.is_null() { json!("–") } else { without_nulls(item) }).collect())
        }
        other => other,
    }
}

/// Why the paper's values are of another experiment than ours.
fn differences(page: &PageSettings, size: &Size, runs: &[Finished]) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(scale) = &size.scale {
        found.push(format!("Scale '{scale}': {}.", size.about.trim_end_matches('.')));
    }
    if !size.changed.is_empty() {
        found.push(format!("Set by hand: {}.", size.changed.join(", ")));
    }
    let PaperData { name, classes, train, test } = &page.data;
    let others = runs.iter().map(Finished::data).find(|ours| *ours != [*classes, *train, *test].map(|count| count as u64));
    if let Some([our_classes, our_train, our_test]) = others {
        found.push(format!(
            "Other data: the paper's are {name} with {classes} classes, {} training and {} test images; these runs saw {our_classes} classes, \
             {} training and {} test images.",
            thousands(*train as u64),
            thousands(*test as u64),
            thousands(our_train),
            thousands(our_test)
        ));
    }
    found
}

fn facts(page: &PageSettings, size: &Size, runs: &[Finished]) -> Vec<(String, String)> {
    let seeds = runs.iter().map(|run| run.seed).collect::<std::collections::BTreeSet<_>>().len();
    let [classes, train, test] = runs.first().map_or([0; 3], Finished::data);
    let words = |name: &str, value: String| (name.to_owned(), value);
    vec![
        words("in the paper", page.source.clone()),
        words("scale", size.scale.clone().unwrap_or_else(|| "full".to_owned())),
        words("classes", classes.to_string()),
        words("training images", thousands(train)),
        words("test images", thousands(test)),
        words("seeds", seeds.to_string()),
        words("runs", runs.len().to_string()),
    ]
}

fn origin(run: &Finished) -> Origin {
    let text = |name: &str| run.train.figures[name].as_str().unwrap_or_default().to_owned();
    Origin {
        run: run.name.clone(),
        split: text("split"),
        split_digest: text("split_digest"),
        seed: run.seed,
        inputs: run.train.inputs.iter().map(|(role, digest)| (role.clone(), digest.clone())).collect(),
        version: run.summary.version.clone(),
    }
}

/// `1,281,167`
fn thousands(count: u64) -> String {
    if count < 1000 { count.to_string() } else { format!("{},{:03}", thousands(count / 1000), count % 1000) }
}

/// `5 seeds`
fn seeds(count: usize) -> String {
    names::count(count, "seed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::scores::Decision;

    #[test]
    fn what_is_not_the_papers_experiment_is_said() {
        let page = PageSettings {
            title: String::new(),
            source: String::new(),
            data: PaperData { name: "CIFAR-100".into(), classes: 2, train: 4, test: 2 },
            remarks: Vec::new(),
            exhibit: ExhibitSettings::ScoreTable(score_table::ScoreTable::default()),
        };
        let runs = [runs::made_up::run(0, json!({}), Decision::Lp, "accuracy", 0.5)];
        assert!(differences(&page, &Size::default(), &runs).is_empty(), "full size on the paper's data");
        let size = Size { scale: Some("small".into()), about: "few epochs".into(), changed: vec!["train.epochs=3".into()] };
        let other = PageSettings { data: PaperData { train: 50_000, ..page.data.clone() }, ..page };
        let said = differences(&other, &size, &runs);
        assert_eq!(said[..2], ["Scale 'small': few epochs.", "Set by hand: train.epochs=3."]);
        assert!(said[2].contains("50,000 training and 2 test images; these runs saw 2 classes, 4 training"), "{}", said[2]);
    }

    #[test]
    fn a_recipe_without_null_is_toml() {
        let value = without_nulls(json!({"a": null, "b": [1.0, null], "c": {"d": null}}));
        assert_eq!(value, json!({"b": [1.0, "–"], "c": {}}));
        assert_eq!((thousands(999), thousands(1_281_167), thousands(50_000)), ("999".into(), "1,281,167".into(), "50,000".into()));
    }
}
