//! Where the models look: attention against what people drew, from heatmap runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

use super::groups::{Group, without_fold_and_seed};
use super::runs::Looked;
use super::sides::{LINES, series};
use crate::ground::interval::Interval;
use crate::metrics::bootstrap::Bootstrap;
use crate::render::blocks::{Block, Figure, Section};
use crate::render::figures::{self, Axes, Line};
use crate::render::names;
use crate::store::heatmap::SlideMap;
use crate::store::pooled::{Attention, AttentionDifference};
use crate::store::table::{self, Cells};
use compare::{MEASURES, agreement, attention, compared, difference, pairs};
use worst::worst;

mod compare;
mod worst;

/// The table of all slides, inside a report folder.
pub(super) const TABLE: &str = "attention.csv";
/// Ranks of recipes.
const NCMI: usize = 0;
const UNTRAINED: usize = 3;

/// What heatmap runs say.
#[derive(Default)]
pub(super) struct Found {
    /// `None` where there is no such run.
    pub section: Option<Section>,
    pub attention: Vec<Attention>,
    pub differences: Vec<AttentionDifference>,
}

/// Heatmap runs that differ in seed and fold only.
struct Eyes<'a> {
    /// `NCMI`.
    recipe: String,
    /// The recipe, with its epochs where a setting has two of the name.
    name: String,
    /// Which recipes are shown first: NCMI, cross-entropy, others, untrained.
    rank: usize,
    /// What two objectives must share to be compared.
    setting: String,
    runs: Vec<&'a Looked>,
}

/// A slide as one run saw it.
#[derive(Clone, Copy)]
struct Seen<'a> {
    run: &'a Looked,
    slide: &'a SlideMap,
}

impl Seen<'_> {
    /// Whom the slide belongs to: itself where that is not known.
    fn patient(&self) -> String {
        if self.slide.patient_id.is_empty() { format!("slide {}", self.slide.slide_id) } else { self.slide.patient_id.clone() }
    }
}

impl<'a> Eyes<'a> {
    fn seen(&self) -> Vec<Seen<'a>> {
        self.runs.iter().flat_map(|run| run.file.slides.iter().map(|slide| Seen { run, slide })).collect()
    }
}

/// The section and the table that it names, which is written into `folder`; pictures only with `thumbs`.
///
/// # Errors
/// A table that cannot be written.
pub(super) fn section(
    looked: &[Looked],
    groups: &[Group],
    bootstrap: &Bootstrap,
    folder: &Path,
    thumbs: bool,
    notes: &mut Vec<String>,
) -> Result<Found> {
    let all = eyes(looked);
    let mut found = Found::default();
    if all.is_empty() {
        return Ok(found);
    }
    write(&folder.join(TABLE), &all)?;
    let mut blocks = Vec::new();
    let drawn = all.iter().flat_map(Eyes::seen).any(|seen| seen.slide.agreement.is_some());
    let mut lead = format!("{} looked at {}.", names::count(looked.len(), "heatmap run"), names::count(slides(&all), "slide"));
    if drawn {
        lead.push_str(&format!(
            " Attention of tiles inside what people drew against tiles outside: per-slide AUROC and average precision, and whether the tile of \
             highest attention is inside; means over slides and seeds, 95 % intervals by drawing whole patients. {TABLE} beside this page has \
             every slide."
        ));
        found.attention = all.iter().map(|eyes| attention(eyes, bootstrap)).filter(|one| one.slides > 0).collect();
        found.differences = pairs(&all).filter_map(|(a, b)| difference(a, b, bootstrap)).collect();
        blocks.push(Block::Table(agreement(&found.attention)));
        if !found.differences.is_empty() {
            blocks.push(Block::Table(compared(&found.differences)));
        }
        let charts = froc(&all, groups)?;
        if !charts.is_empty() {
            blocks.push(Block::Figures(charts));
        }
    } else {
        lead.push_str(" None was given annotations: `wsi heatmap --annotations DIR` compares attention with them.");
    }
    if thumbs {
        let pictures = worst(&all, notes);
        if !pictures.is_empty() {
            blocks.push(Block::Words(
                "Attention as percentiles over the thumbnail, by the objective's own rule: slides taken for another class with the highest \
                 probability first, then those where attention agrees least with what was drawn."
                    .to_owned(),
            ));
            blocks.push(Block::Maps(pictures));
        }
    }
    found.section = Some(Section { id: "looks", title: "Where the models look".to_owned(), lead, blocks });
    Ok(found)
}

/// How to get the section, where there is none.
pub(super) fn missing() -> Section {
    let lead = "No heatmap run is among the folders. `wsi heatmap RUN` makes one inside a probe run, where it is found; with --annotations DIR also the \
                agreement of attention with what people drew.";
    Section { id: "looks", title: "Where the models look".to_owned(), lead: lead.to_owned(), blocks: Vec::new() }
}

/// By recipe; true labels only.
fn eyes(looked: &[Looked]) -> Vec<Eyes<'_>> {
    let mut by_recipe: BTreeMap<(String, String, usize, [&str; 3]), Vec<&Looked>> = BTreeMap::new();
    for run in looked.iter().filter(|run| run.file.labels == "true") {
        let file = &run.file;
        let setting = names::setting(&without_fold_and_seed(&file.split.name), &file.aggregator, &file.encoder);
        by_recipe.entry((setting, file.loss.clone(), file.epochs, [&file.checkpoint, &file.group, &file.recipe])).or_default().push(run);
    }
    let mut all: Vec<(usize, Eyes)> = Vec::new();
    for ((setting, loss, epochs, _), runs) in by_recipe {
        let rank = match (epochs, loss.as_str()) {
            (0, _) => UNTRAINED,
            (_, "ncmi") => NCMI,
            (_, "cross-entropy") => 1,
            _ => 2,
        };
        let recipe = names::recipe(&loss, epochs);
        all.push((epochs, Eyes { name: recipe.clone(), recipe, rank, setting, runs }));
    }
    all.sort_by(|(_, a), (_, b)| (&a.setting, a.rank).cmp(&(&b.setting, b.rank)));
    for place in 0..all.len() {
        let (epochs, eyes) = &all[place];
        let alike: Vec<_> = all.iter().filter(|(_, other)| (&other.setting, &other.recipe) == (&eyes.setting, &eyes.recipe)).collect();
        // Recipes of one name say what they differ in.
        let differ = |of: fn(&(usize, Eyes)) -> String| alike.iter().any(|other| of(other) != of(&all[place]));
        let file = |one: &(usize, Eyes)| one.1.runs.first().map(|run| run.file.clone());
        let mut name = eyes.recipe.clone();
        if differ(|one| one.0.to_string()) {
            name += &format!(", {}", names::count(*epochs, "epoch"));
        }
        if let Some(file) = file(&all[place]) {
            if differ(|one| one.1.runs[0].file.checkpoint.clone()) {
                name += &format!(", {} checkpoint", file.checkpoint);
            }
            if differ(|one| one.1.runs[0].file.group.clone()) {
                name += &format!(", {}", file.group);
            } else if differ(|one| one.1.runs[0].file.recipe.clone()) {
                name += &format!(", settings {}", file.recipe);
            }
        }
        all[place].1.name = name;
    }
    all.into_iter().map(|(_, eyes)| eyes).collect()
}

fn slides(all: &[Eyes]) -> usize {
    all.iter().flat_map(Eyes::seen).map(|seen| seen.slide.slide_id.as_str()).collect::<BTreeSet<_>>().len()
}

fn distinct<'a>(rows: &[Seen<'a>], of: impl Fn(&Seen<'a>) -> String) -> usize {
    rows.iter().map(of).collect::<BTreeSet<_>>().len()
}

/// A chart for each setting, means over runs at each number of false positives; none where no run has one.
fn froc(all: &[Eyes], groups: &[Group]) -> Result<Vec<Figure>> {
    let mean = |eyes: &Eyes| -> Vec<(f64, Interval)> {
        let points: Vec<&Vec<(f64, f64)>> = eyes.runs.iter().filter_map(|run| Some(&run.file.froc.as_ref()?.points)).collect();
        let at = |place: usize| points.iter().filter_map(|points| points.get(place)).copied().collect::<Vec<_>>();
        (0..points.iter().map(|points| points.len()).min().unwrap_or(0))
            .map(|place| (at(place)[0].0, Interval::point(at(place).iter().map(|point| point.1).sum::<f64>() / points.len() as f64)))
            .collect()
    };
    let mut charts = Vec::new();
    for side in all.chunk_by(|a, b| a.setting == b.setting) {
        let mut lines: Vec<Line> = Vec::new();
        for (eyes, mean) in side.iter().map(|eyes| (eyes, mean(eyes))).filter(|(_, mean)| !mean.is_empty()) {
            let taken = |series: usize| lines.iter().any(|line| line.series == series);
            let free = (series(groups, &eyes.recipe)..).find(|series| !taken(*series)).unwrap_or(0);
            lines.push(Line { label: eyes.name.clone(), runs: Vec::new(), mean, series: free });
        }
        if lines.is_empty() {
            continue;
        }
        let points: Vec<(String, f64, f64)> =
            lines.iter().flat_map(|line| line.mean.iter().map(|(x, y)| (line.label.clone(), *x, y.value))).collect();
        lines.truncate(LINES);
        let setting = &side[0].setting;
        let axes = Axes { title: "", x: "mean false positives a slide", y: "share of lesions found", doubling: true };
        charts.push(Figure {
            name: names::slug(&format!("froc {setting}")),
            title: format!("FROC, mean over runs: {setting}"),
            svg: figures::lines(
                &lines,
                &axes,
                &format!("Share of lesions found over false positives a slide, {setting}; the numbers follow."),
            )?,
            data: vec![
                ("recipe".to_owned(), Cells::Text(points.iter().map(|point| point.0.clone()).collect())),
                ("false_positives_a_slide".to_owned(), Cells::Real(points.iter().map(|point| point.1).collect())),
                ("share_of_lesions_found".to_owned(), Cells::Real(points.iter().map(|point| point.2).collect())),
            ],
            numbers: true,
        });
    }
    Ok(charts)
}

fn write(path: &Path, all: &[Eyes]) -> Result<()> {
    let lines: Vec<(&Eyes, Seen)> = all.iter().flat_map(|eyes| eyes.seen().into_iter().map(move |seen| (eyes, seen))).collect();
    let text = |cell: &dyn Fn(&Eyes, &Seen) -> String| Cells::Text(lines.iter().map(|(eyes, seen)| cell(eyes, seen)).collect());
    let real = |measure: usize| Cells::Real(lines.iter().map(|(_, seen)| MEASURES[measure].1(seen.slide)).collect());
    let count = |of: &dyn Fn(&SlideMap) -> usize| Cells::Whole(lines.iter().map(|(_, seen)| of(seen.slide) as i64).collect());
    table::write(
        path,
        vec![
            ("run", text(&|_, seen| seen.run.name.clone())),
            ("recipe", text(&|eyes, _| eyes.name.clone())),
            ("setting", text(&|eyes, _| eyes.setting.clone())),
            ("seed", Cells::Whole(lines.iter().map(|(_, seen)| seen.run.file.seed as i64).collect())),
            ("fold", Cells::Whole(lines.iter().map(|(_, seen)| seen.run.file.split.fold as i64).collect())),
            ("slide_id", text(&|_, seen| seen.slide.slide_id.clone())),
            ("patient_id", text(&|_, seen| seen.slide.patient_id.clone())),
            ("label", text(&|_, seen| seen.slide.label.clone())),
            ("predicted", text(&|_, seen| seen.slide.predicted.clone())),
            ("tiles", count(&|slide| slide.tiles)),
            ("tiles_inside", count(&|slide| slide.agreement.as_ref().map_or(0, |agreement| agreement.tiles_inside))),
            ("auroc", real(0)),
            ("average_precision", real(1)),
            ("pointing", real(2)),
        ],
    )
}
