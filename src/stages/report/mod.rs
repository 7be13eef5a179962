//! `wsi report`: the scores of many runs as one page for people, one table for spreadsheets and one for machines.
//!
//! Reads what `wsi probe` and `wsi train` left in their folders and computes every pooled score again from the predictions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use crate::metrics::bootstrap::{Bootstrap, RESAMPLES};
use crate::render::{self, Curves, Origin, Page, figures, names};
use crate::store::pooled::{Parts, Pooled};
use crate::store::run::{Opened, Recipe, Run, Summary};
use crate::store::table::{self, Cells};
use crate::store::{digest, files};
use groups::Group;
use runs::Probe;

mod calibration;
mod centres;
mod course;
mod flow;
mod groups;
mod licences;
mod looks;
mod map;
mod methods;
mod pictures;
mod pool;
mod ranking;
mod rows;
mod runs;
mod sentences;
mod sides;
mod worst;

/// The page's name inside a report folder.
pub const PAGE: &str = "report.html";
/// The name of the table of single runs inside a report folder.
pub const TABLE: &str = "scores.csv";
/// The folder of charts inside a report folder: each as SVG, and its numbers as CSV.
pub const FIGURES: &str = "figures";
/// Of `pooled.json` and the page: a report of an older layout is made again.
const LAYOUT: u32 = 4;
/// Seed of the resamples: fixed, so that a report's numbers depend on the runs alone.
const SEED: u64 = 0;

/// What a page may show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Pictures of tissue.
    pub thumbs: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { thumbs: true }
    }
}

/// Writes the page, its charts and its tables into `out`. `runs` are probe and heatmap folders, or folders above some.
///
/// A run that cannot be read is left out, named on the page and in the summary's `failed`; what is missing beside a run costs its part of the
/// page alone.
///
/// # Errors
/// A folder without runs, no readable run, `out` is taken by another report or cannot be written.
pub fn run(runs: &[PathBuf], out: &Path, options: Options) -> Result<Summary> {
    let found = runs::find(runs)?;
    let digests = found.probes.iter().map(|probe| &probe.digest).chain(found.looked.iter().map(|looked| &looked.digest));
    let digests: Vec<&str> = digests.map(String::as_str).collect();
    let recipe = Recipe {
        stage: "report".to_owned(),
        settings: json!({"resamples": RESAMPLES, "layout": LAYOUT, "thumbs": options.thumbs}),
        inputs: BTreeMap::from([("runs".to_owned(), digest::bytes(digests.join("\n").as_bytes()))]),
    };
    let run = match Run::open(out, recipe)? {
        Opened::Done(summary) => return Ok(summary),
        Opened::Work(run) => run,
    };

    let (groups, mut notes) = groups::group(&found.probes)?;
    notes.extend(found.failed.iter().map(|(name, reason)| format!("Run '{name}' cannot be read and is left out: {reason}.")));
    notes.extend(found.notes);
    let bootstrap = Bootstrap { bounds: runs::bounds(&found.probes, &mut notes), resamples: RESAMPLES, seed: SEED };
    let rows: Vec<_> = groups.iter().flat_map(|group| rows::rows(group, &bootstrap, &mut notes)).collect();
    let mut differences = rows::answers(&groups, &bootstrap);
    let asked = differences.len();
    differences.extend(rows::against_others(&groups, &bootstrap));
    differences.extend(rows::against_untrained(&groups, &bootstrap));
    let test = rows::correct(&mut differences);
    let answers = &differences[..asked];
    let incomplete = rows.iter().any(|row| row.folds < row.folds_expected);
    let question = sentences::question(answers);
    let verdict = sentences::verdict(answers, &rows, incomplete);
    let interval = bootstrap.description();
    let methods = methods::methods(&groups, &interval, &test);

    let sides = sides::sides(&groups);
    let judged = [ranking::section(&sides, &bootstrap)?, calibration::section(&sides, &bootstrap)?];
    let looks = looks::section(&found.looked, &groups, &bootstrap, &run.folder, options.thumbs, &mut notes)?;
    let of_slides = groups.iter().any(|group| !names::of_images(&group.key.aggregator));
    let learnt = [
        course::section(&sides)?,
        map::section(&sides, &mut notes)?,
        centres::section(&sides, &bootstrap),
        looks.section.or_else(|| of_slides.then(looks::missing)),
        worst::section(&sides, &groups, &run.folder, options.thumbs, &mut notes)?,
    ];
    let [judged, learnt] = [judged.into_iter().flatten().collect::<Vec<_>>(), learnt.into_iter().flatten().collect()];
    let cohort: Vec<_> = flow::section(&groups, &mut notes)?.into_iter().collect();
    let sources: Vec<_> = licences::section(&groups).into_iter().collect();
    notes.sort();
    notes.dedup();
    let (waivers, cohorts) = (waivers(&found.probes), cohorts(&groups));
    let pooled = Pooled {
        schema: LAYOUT,
        verdict,
        interval,
        test,
        rows,
        differences,
        waivers,
        cohorts,
        attention: looks.attention,
        attention_differences: looks.differences,
        notes,
    };

    let page = render::page(&Page {
        question,
        pooled: &pooled,
        runs: found.probes.len(),
        curves: &curves(&groups),
        judged: &judged,
        learnt: &learnt,
        cohort: &cohort,
        sources: &sources,
        methods: &methods,
        origins: &found.probes.iter().map(origin).collect::<Vec<_>>(),
        version: env!("CARGO_PKG_VERSION"),
    })?;
    pooled.write(&run.folder)?;
    write_table(&run.path(TABLE), &found.probes)?;
    for figure in page.figures {
        let place = run.path(FIGURES).join(&figure.name);
        files::write_bytes(&place.with_extension("svg"), figures::standalone(&[figure.svg], 1).as_bytes())?;
        table::write(&place.with_extension("csv"), figure.data.iter().map(|(name, cells)| (name.as_str(), cells.clone())).collect())?;
    }
    files::write_bytes(&run.path(PAGE), page.html.as_bytes())?;
    let figures = json!({"runs": found.probes.len(), "rows": pooled.rows.len(), "verdict": pooled.verdict});
    run.finish(figures, found.failed)
}

/// What any run was allowed, once each.
fn waivers(probes: &[Probe]) -> Vec<String> {
    let one = |probe: &Probe| {
        let split = groups::without_fold_and_seed(&probe.scores.split.name);
        probe.scores.waivers.iter().map(move |waiver| format!("{split}: {waiver}")).collect::<Vec<_>>()
    };
    probes.iter().flat_map(one).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The parts of each division, as its first run has them.
fn cohorts(groups: &[Group]) -> Vec<Parts> {
    let mut seen: Vec<Parts> = Vec::new();
    for (group, probe) in groups.iter().filter_map(|group| Some((group, group.probes().next()?))) {
        let known = seen.iter().any(|parts| groups::without_fold_and_seed(&parts.split) == group.key.split);
        let scores = &probe.scores;
        if !known && group.key.labels == "true" && !scores.parts.is_empty() {
            let (split, digest) = (scores.split.name.clone(), scores.split.digest.clone());
            seen.push(Parts { split, digest, classes: scores.classes.clone(), counts: scores.parts.clone() });
        }
    }
    seen
}

fn curves(groups: &[Group]) -> Vec<Curves> {
    let one = |group: &Group| {
        let runs: Vec<_> = group.probes().filter(|probe| !probe.history.is_empty()).map(|probe| probe.history.clone()).collect();
        let setting = names::setting(&group.key.split, &group.key.aggregator, &group.key.encoder);
        let title = format!("{} · {setting}", names::recipe(&group.key.loss, group.key.epochs));
        Curves { title: if group.key.labels == "true" { title } else { format!("{title} · labels {}", group.key.labels) }, runs }
    };
    groups.iter().map(one).filter(|curves| !curves.runs.is_empty()).collect()
}

fn origin(probe: &Probe) -> Origin {
    let inputs = probe.scores.inputs.iter().map(|(role, digest)| (role.clone(), digest.clone())).collect();
    Origin {
        run: probe.name.clone(),
        split: probe.scores.split.name.clone(),
        split_digest: probe.scores.split.digest.clone(),
        seed: probe.scores.seed,
        inputs,
        version: probe.version.clone(),
    }
}

/// One line for each run and decision rule, with the intervals that the probe computed on that run's test set alone.
fn write_table(path: &Path, probes: &[Probe]) -> Result<()> {
    let lines: Vec<_> = probes.iter().flat_map(|probe| probe.scores.decisions.iter().map(move |(d, scores)| (probe, *d, scores))).collect();
    let text = |cell: &dyn Fn(&Probe) -> &str| Cells::Text(lines.iter().map(|(probe, ..)| cell(probe).to_owned()).collect());
    let whole = |cell: &dyn Fn(&Probe) -> usize| Cells::Whole(lines.iter().map(|(probe, ..)| cell(probe) as i64).collect());
    let mut columns = vec![
        ("run", text(&|p| &p.name)),
        ("group", text(&|p| &p.scores.group)),
        ("loss", text(&|p| &p.scores.loss)),
        ("aggregator", text(&|p| &p.scores.aggregator)),
        ("encoder", text(&|p| &p.scores.encoder)),
        ("labels", text(&|p| &p.scores.labels)),
        ("split", text(&|p| &p.scores.split.name)),
        ("split_digest", text(&|p| &p.scores.split.digest)),
        ("fold", whole(&|p| p.scores.split.fold)),
        ("seed", whole(&|p| p.scores.seed as usize)),
        ("epochs", whole(&|p| p.scores.epochs)),
        ("checkpoint", text(&|p| &p.scores.checkpoint)),
        ("slides", whole(&|p| p.scores.slides)),
        ("patients", whole(&|p| p.scores.patients)),
        ("decision", Cells::Text(lines.iter().map(|(_, decision, _)| decision.name().to_owned()).collect())),
    ];
    let real =
        |cell: fn(&crate::store::scores::DecisionScores) -> f64| Cells::Real(lines.iter().map(|(.., scores)| cell(scores)).collect());
    columns.extend([
        ("macro_f1", real(|s| s.macro_f1.value)),
        ("macro_f1_low", real(|s| s.macro_f1.low)),
        ("macro_f1_high", real(|s| s.macro_f1.high)),
        ("macro_auc", real(|s| s.macro_auc.value)),
        ("macro_auc_low", real(|s| s.macro_auc.low)),
        ("macro_auc_high", real(|s| s.macro_auc.high)),
    ]);
    table::write(path, columns)
}
