//! Attention against what people drew, recipe by recipe and against each other.

use std::collections::{BTreeMap, BTreeSet};

use super::{Eyes, NCMI, Seen, distinct};
use crate::ground::interval::Interval;
use crate::metrics::bootstrap::Bootstrap;
use crate::render::blocks::{Cell, Column, Table};
use crate::render::names;
use crate::store::heatmap::SlideMap;
use crate::store::pooled::{Attention, AttentionDifference};

/// Of a slide; NaN where it is undefined.
pub(super) type Measure = fn(&SlideMap) -> f64;

/// What says how far attention agrees with a drawing; each is averaged over slides and seeds.
pub(super) const MEASURES: [(&str, Measure); 3] = [
    ("AUROC", |slide| slide.agreement.as_ref().map_or(f64::NAN, |agreement| agreement.auroc)),
    ("Average precision", |slide| slide.agreement.as_ref().map_or(f64::NAN, |agreement| agreement.auprc)),
    // A slide on which nothing was drawn has no place to point at.
    ("Pointing", |slide| {
        let drawn = slide.agreement.as_ref().filter(|agreement| agreement.tiles_inside > 0);
        drawn.map_or(f64::NAN, |agreement| f64::from(u8::from(agreement.pointing)))
    }),
];

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

pub(super) fn attention(eyes: &Eyes, bootstrap: &Bootstrap) -> Attention {
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

pub(super) fn agreement(all: &[Attention]) -> Table {
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

fn seeds(of: impl Iterator<Item = u64>) -> usize {
    of.collect::<BTreeSet<_>>().len()
}

fn bounded(interval: &Interval) -> Cell {
    let under =
        if interval.is_bounded() { format!("{}–{}", names::score(interval.low), names::score(interval.high)) } else { String::new() };
    Cell { text: names::score(interval.value), under, strong: false }
}

/// NCMI against every other recipe of the same setting.
pub(super) fn pairs<'a>(all: &'a [Eyes<'a>]) -> impl Iterator<Item = (&'a Eyes<'a>, &'a Eyes<'a>)> {
    all.iter().filter(|eyes| eyes.rank == NCMI).flat_map(move |first| {
        all.iter().filter(move |second| second.rank != NCMI && second.setting == first.setting).map(move |second| (first, second))
    })
}

/// The mean difference in per-slide AUROC where both looked at a slide in the same fold and seed; `None` where they did not.
pub(super) fn difference(first: &Eyes, second: &Eyes, bootstrap: &Bootstrap) -> Option<AttentionDifference> {
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

pub(super) fn compared(all: &[AttentionDifference]) -> Table {
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
