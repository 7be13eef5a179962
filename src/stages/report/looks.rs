//! Where the models look: attention against what people drew, from heatmap runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

use super::groups::{Group, without_fold_and_seed};
use super::pictures::{self, Limit};
use super::runs::Looked;
use super::sides::series;
use crate::ground::interval::Interval;
use crate::metrics::bootstrap::Bootstrap;
use crate::render::Picture;
use crate::render::blocks::{Block, Cell, Column, Figure, Section, Table};
use crate::render::figures::{self, Axes, Line};
use crate::render::names;
use crate::store::heatmap::{PICTURES, SlideMap};
use crate::store::pooled::{Attention, AttentionDifference};
use crate::store::table::{self, Cells};

/// The table of all slides, inside a report folder.
pub(super) const TABLE: &str = "attention.csv";
/// Pictures on the page.
const MOST: usize = 8;
/// Ranks of recipes.
const NCMI: usize = 0;
const UNTRAINED: usize = 3;
/// Wide enough for the legend to be read.
const PICTURE: Limit = Limit { side_px: 480, bytes: 25_000 };

/// What says how far attention agrees with a drawing; each is averaged over slides and seeds.
const MEASURES: [(&str, fn(&SlideMap) -> f64); 3] = [
    ("AUROC", |slide| slide.agreement.as_ref().map_or(f64::NAN, |agreement| agreement.auroc)),
    ("Average precision", |slide| slide.agreement.as_ref().map_or(f64::NAN, |agreement| agreement.auprc)),
    // A slide on which nothing was drawn has no place to point at.
    ("Pointing", |slide| {
        let drawn = slide.agreement.as_ref().filter(|agreement| agreement.tiles_inside > 0);
        drawn.map_or(f64::NAN, |agreement| f64::from(u8::from(agreement.pointing)))
    }),
];

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
        blocks.extend(froc(&all, groups)?.map(|chart| Block::Figures(vec![chart])));
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
    let mut by_recipe: BTreeMap<(String, String, usize, &str), Vec<&Looked>> = BTreeMap::new();
    for run in looked.iter().filter(|run| run.file.labels == "true") {
        let file = &run.file;
        let setting = names::setting(&without_fold_and_seed(&file.split.name), &file.aggregator, &file.encoder);
        by_recipe.entry((setting, file.loss.clone(), file.epochs, &file.checkpoint)).or_default().push(run);
    }
    let mut all: Vec<Eyes> = Vec::new();
    for ((setting, loss, epochs, _), runs) in by_recipe {
        let rank = match (epochs, loss.as_str()) {
            (0, _) => UNTRAINED,
            (_, "ncmi") => NCMI,
            (_, "cross-entropy") => 1,
            _ => 2,
        };
        all.push(Eyes { name: names::recipe(&loss, epochs), rank, setting, runs });
    }
    all.sort_by(|a, b| (&a.setting, a.rank).cmp(&(&b.setting, b.rank)));
    all
}

fn slides(all: &[Eyes]) -> usize {
    all.iter().flat_map(Eyes::seen).map(|seen| seen.slide.slide_id.as_str()).collect::<BTreeSet<_>>().len()
}

/// Mean of the defined values, whole patients drawn; `of` gives a row's value.
fn mean(rows: &[Seen], bootstrap: &Bootstrap, of: impl Fn(usize) -> f64 + Sync) -> Interval {
    let patients: Vec<String> = rows.iter().map(Seen::patient).collect();
    let values: Vec<f64> = (0..rows.len()).map(of).collect();
    bootstrap.clustered(&patients, |times| {
        let defined = values.iter().zip(times).filter(|(value, _)| value.is_finite());
        let (sum, count) =
            defined.fold((0.0, 0.0), |(sum, count), (value, &times)| (sum + value * f64::from(times), count + f64::from(times)));
        (count > 0.0).then(|| sum / count)
    })
}

fn attention(eyes: &Eyes, bootstrap: &Bootstrap) -> Attention {
    let drawn: Vec<Seen> = eyes.seen().into_iter().filter(|seen| seen.slide.agreement.is_some()).collect();
    let [auroc, average_precision, pointing] = MEASURES.map(|(_, measure)| mean(&drawn, bootstrap, |row| measure(drawn[row].slide)));
    // Slides on which nothing was drawn, or everything, count for FROC alone.
    let defined: Vec<Seen> = drawn.iter().filter(|seen| MEASURES[0].1(seen.slide).is_finite()).copied().collect();
    let frocs: Vec<f64> = eyes.runs.iter().filter_map(|run| Some(run.file.froc.as_ref()?.score)).collect();
    Attention {
        recipe: eyes.name.clone(),
        setting: eyes.setting.clone(),
        auroc,
        average_precision,
        pointing,
        froc: frocs.iter().sum::<f64>() / frocs.len() as f64,
        seeds: seeds(eyes.runs.iter().map(|run| run.file.seed)),
        slides: distinct(&defined, |seen| seen.slide.slide_id.clone()),
        patients: distinct(&defined, Seen::patient),
    }
}

fn agreement(all: &[Attention]) -> Table {
    let mut columns = vec![Column::text("Recipe")];
    columns.extend(MEASURES.iter().map(|(name, _)| Column::number(name, "95 % interval")));
    columns.extend([Column::number("FROC", "mean of runs"), Column::number("Slides", "patients"), Column::number("Seeds", "")]);
    let line = |one: &Attention| {
        let mut cells = vec![Cell { text: one.recipe.clone(), under: one.setting.clone(), strong: false }];
        cells.extend([&one.auroc, &one.average_precision, &one.pointing].map(bounded));
        cells.extend([Cell::text(&names::score(one.froc)), crowd(one.slides, one.patients), Cell::text(&one.seeds.to_string())]);
        cells
    };
    Table { name: "Attention against drawings".to_owned(), columns, rows: all.iter().map(line).collect(), folded: None }
}

fn crowd(slides: usize, patients: usize) -> Cell {
    Cell { text: slides.to_string(), under: patients.to_string(), strong: false }
}

fn distinct<'a>(rows: &[Seen<'a>], of: impl Fn(&Seen<'a>) -> String) -> usize {
    rows.iter().map(of).collect::<BTreeSet<_>>().len()
}

fn seeds(of: impl Iterator<Item = u64>) -> usize {
    of.collect::<BTreeSet<_>>().len()
}

fn bounded(interval: &Interval) -> Cell {
    let under =
        if interval.is_bounded() { format!("{}–{}", names::score(interval.low), names::score(interval.high)) } else { String::new() };
    Cell { text: names::score(interval.value), under, strong: false }
}

/// NCMI against every other recipe of the same setting.
fn pairs<'a>(all: &'a [Eyes<'a>]) -> impl Iterator<Item = (&'a Eyes<'a>, &'a Eyes<'a>)> {
    all.iter().filter(|eyes| eyes.rank == NCMI).flat_map(move |first| {
        all.iter().filter(move |second| second.rank != NCMI && second.setting == first.setting).map(move |second| (first, second))
    })
}

/// The mean difference in per-slide AUROC where both looked at a slide in the same fold and seed; `None` where they did not.
fn difference(first: &Eyes, second: &Eyes, bootstrap: &Bootstrap) -> Option<AttentionDifference> {
    let auroc = MEASURES[0].1;
    let key = |seen: &Seen| (seen.slide.slide_id.clone(), seen.run.file.seed, seen.run.file.split.digest.clone());
    let theirs: BTreeMap<_, f64> = second.seen().iter().map(|seen| (key(seen), auroc(seen.slide))).collect();
    let (mut rows, mut both) = (Vec::new(), Vec::new());
    for seen in first.seen() {
        if let Some(&other) = theirs.get(&key(&seen))
            && other.is_finite()
            && auroc(seen.slide).is_finite()
        {
            both.push((auroc(seen.slide), other));
            rows.push(seen);
        }
    }
    if rows.is_empty() {
        return None;
    }
    let each = |of: fn(&(f64, f64)) -> f64| both.iter().map(of).sum::<f64>() / both.len() as f64;
    Some(AttentionDifference {
        first: first.name.clone(),
        second: second.name.clone(),
        setting: first.setting.clone(),
        first_auroc: each(|pair| pair.0),
        second_auroc: each(|pair| pair.1),
        auroc: mean(&rows, bootstrap, |row| both[row].0 - both[row].1),
        seeds: seeds(rows.iter().map(|seen| seen.run.file.seed)),
        slides: distinct(&rows, |seen| seen.slide.slide_id.clone()),
        patients: distinct(&rows, Seen::patient),
    })
}

fn compared(all: &[AttentionDifference]) -> Table {
    let columns = vec![
        Column::text("Comparison"),
        Column::number("AUROC", "each"),
        Column::number("Difference", "absolute, 95 % interval"),
        Column::number("relative", ""),
        Column::number("Slides", "patients"),
        Column::number("Seeds", ""),
    ];
    let line = |one: &AttentionDifference| {
        let Interval { value, low, high, .. } = one.auroc;
        let under = if one.auroc.is_bounded() { format!("{} to {}", names::signed(low), names::signed(high)) } else { String::new() };
        vec![
            Cell { text: format!("{} − {}", one.first, one.second), under: one.setting.clone(), strong: false },
            Cell::text(&format!("{}, {}", names::score(one.first_auroc), names::score(one.second_auroc))),
            Cell { text: names::signed(value), under, strong: true },
            Cell::text(&format!("{:+.1} %", 100.0 * value / one.second_auroc).replace('-', "−")),
            crowd(one.slides, one.patients),
            Cell::text(&one.seeds.to_string()),
        ]
    };
    let rows = all.iter().map(line).collect();
    Table { name: "Differences in attention on the same slides".to_owned(), columns, rows, folded: None }
}

/// Mean over runs at each number of false positives; `None` where no run has one.
fn froc(all: &[Eyes], groups: &[Group]) -> Result<Option<Figure>> {
    let mean = |eyes: &Eyes| -> Vec<(f64, Interval)> {
        let points: Vec<&Vec<(f64, f64)>> = eyes.runs.iter().filter_map(|run| Some(&run.file.froc.as_ref()?.points)).collect();
        let at = |place: usize| points.iter().filter_map(|points| points.get(place)).copied().collect::<Vec<_>>();
        (0..points.iter().map(|points| points.len()).min().unwrap_or(0))
            .map(|place| (at(place)[0].0, Interval::point(at(place).iter().map(|point| point.1).sum::<f64>() / points.len() as f64)))
            .collect()
    };
    let several = all.iter().any(|eyes| eyes.setting != all[0].setting);
    let label = |eyes: &Eyes| if several { format!("{}, {}", eyes.name, eyes.runs[0].file.aggregator) } else { eyes.name.clone() };
    let line = |eyes: &Eyes| Line { label: label(eyes), runs: Vec::new(), mean: mean(eyes), series: series(groups, &eyes.name) };
    let lines: Vec<Line> = all.iter().map(line).filter(|line| !line.mean.is_empty()).collect();
    if lines.is_empty() {
        return Ok(None);
    }
    let points: Vec<(&str, f64, f64)> =
        lines.iter().flat_map(|line| line.mean.iter().map(|(x, y)| (line.label.as_str(), *x, y.value))).collect();
    let axes = Axes { title: "", x: "mean false positives a slide", y: "share of lesions found", doubling: true };
    Ok(Some(Figure {
        name: "froc".to_owned(),
        title: "FROC: lesions found against false positives, mean over runs".to_owned(),
        svg: figures::lines(&lines, &axes, "Share of lesions found over false positives a slide; the numbers follow.")?,
        data: vec![
            ("recipe".to_owned(), Cells::Text(points.iter().map(|point| point.0.to_owned()).collect())),
            ("false_positives_a_slide".to_owned(), Cells::Real(points.iter().map(|point| point.1).collect())),
            ("share_of_lesions_found".to_owned(), Cells::Real(points.iter().map(|point| point.2).collect())),
        ],
        numbers: true,
    }))
}

/// The pictures of the slides that went wrong most surely, then of those with the least agreement.
fn worst(all: &[Eyes], notes: &mut Vec<String>) -> Vec<Picture> {
    let mut ranked: Vec<(f64, Seen, &str)> = Vec::new();
    for eyes in all {
        for seen in eyes.seen() {
            let SlideMap { label, predicted, probabilities, .. } = seen.slide;
            let chosen = seen.run.file.classes.iter().position(|class| class == predicted).and_then(|class| probabilities.get(class));
            let badness = match (label.is_empty() || label == predicted, chosen) {
                (false, Some(&chosen)) => 1.0 + chosen,
                _ => 1.0 - Some(MEASURES[0].1(seen.slide)).filter(|auroc| auroc.is_finite()).unwrap_or(1.0),
            };
            if badness > 0.0 {
                ranked.push((badness, seen, &eyes.name));
            }
        }
    }
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.slide.slide_id.cmp(&b.1.slide.slide_id)).then(a.1.run.name.cmp(&b.1.run.name)));
    let mut shown = Vec::new();
    // One slide as one recipe sees it, once: other seeds show much the same.
    let mut known = BTreeSet::new();
    for (_, seen, recipe) in ranked {
        let SlideMap { slide_id, label, predicted, .. } = seen.slide;
        if shown.len() == MOST || !known.insert((slide_id.as_str(), recipe)) {
            continue;
        }
        let path = seen.run.folder.join(PICTURES).join(format!("{slide_id}.png"));
        if !path.is_file() {
            continue;
        }
        let auroc = MEASURES[0].1(seen.slide);
        let agrees = if auroc.is_finite() { format!(", AUROC {auroc:.2}") } else { String::new() };
        match pictures::shrunk(&path, &PICTURE) {
            Ok(jpeg) => shown.push(Picture {
                slide_id: slide_id.clone(),
                label: if label.is_empty() { predicted.clone() } else { label.clone() },
                predicted: predicted.clone(),
                remark: format!("{recipe}, seed {}{agrees}", seen.run.file.seed),
                alt: format!("Attention of {recipe} over slide {slide_id}, class {label}"),
                jpeg,
            }),
            Err(error) => notes.push(format!("The heatmap of slide '{slide_id}' in '{}' cannot be shown: {error:#}.", seen.run.name)),
        }
    }
    shown
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
