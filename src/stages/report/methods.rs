//! How the numbers were made, in paragraphs to paste into a paper, with the figures of what was done, not of what settings say by default.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::groups::Group;
use super::licences;
use super::runs::{Probe, SLIDES};
use crate::render::names;
use crate::store::scores::{Decision, Selection};
use crate::store::table;

/// Digits of a digest that a paper prints.
const DIGITS: usize = 12;

/// The paragraphs. `interval` and `test` say how intervals and p values were made.
pub(super) fn methods(groups: &[Group], interval: &str, test: &str) -> Vec<String> {
    let Some((group, probe)) = groups.first().and_then(|group| Some((group, group.probes().next()?))) else { return Vec::new() };
    let images = names::of_images(&group.key.aggregator);
    let mut all = Vec::new();
    if !images {
        all.push(format!("{}{}", tiles(probe), embedding(groups)));
    }
    all.push(format!("{} {}", division(groups, images), training(groups, images)));
    let test = if test.is_empty() { String::new() } else { format!(" {}.", test.replacen("p:", "Values of p:", 1)) };
    all.push(format!(
        "Test predictions were pooled over the folds of a seed, so that each slide counts once, and scored together. LP is a linear classifier \
         fitted to the frozen embeddings of the training set{}; CC chooses the class whose mean output distribution over the training set is \
         nearest in Kullback–Leibler divergence; kNN weighs the votes of the nearest embeddings of the training set by their cosine{}. Macro-F1 \
         is the mean of the per-class F1 over classes that occur in labels or predictions; macro-AUC is the mean of the one-vs-rest areas under \
         the ROC curve over classes for which it is defined.",
        selection(groups, Decision::Lp),
        selection(groups, Decision::Knn),
    ));
    all.push(format!(
        "Intervals: {interval}; whole patients are drawn, the same for all seeds, and the scores are means over seeds. Differences are absolute \
         and paired by patient.{test} The spread is over seeds (standard deviation, smallest to largest), and is no part of the intervals. All \
         of it was computed with wsi {}.",
        versions(groups)
    ));
    all
}

/// What slides were cut, how, and at which pixel size.
fn tiles(probe: &Probe) -> String {
    let number = |pointer: &str| probe.tiling.pointer(pointer).and_then(Value::as_f64);
    let (Some(side), Some(mpp)) = (number("/tile/tile-px"), number("/tile/mpp")) else { return String::new() };
    let native = probe.scores.tile_folder.as_ref().map(|folder| probe.folder.join(folder).join(SLIDES));
    let native = native.and_then(|path| {
        let frame = table::read(&path).ok()?;
        let (mpp, residual) = (table::real(&frame, "mpp", &path).ok()?, table::real(&frame, "residual", &path).ok()?);
        Some((range(&mpp)?, range(&residual)?))
    });
    let (slides, exact) = match native {
        Some(((least, most), residual)) => {
            let off = residual.0.abs().max(residual.1.abs());
            (
                format!(" of {} µm/px", if most - least < 5e-5 { format!("{least:.4}") } else { format!("{least:.4} to {most:.4}") }),
                if off < 5e-6 { "exactly".to_owned() } else { format!("true to {:.2} %", 100.0 * off) },
            )
        }
        None => (String::new(), "as asked for".to_owned()),
    };
    format!("Slides{slides} were cut into tiles of {side} × {side} px at {mpp} µm/px ({:.0} µm a side, {exact}). ", side * mpp)
}

fn range(values: &[f64]) -> Option<(f64, f64)> {
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    Some((finite().reduce(f64::min)?, finite().reduce(f64::max)?))
}

fn embedding(groups: &[Group]) -> String {
    let one = |encoder: &licences::Used| {
        let mut known = Vec::new();
        if !encoder.weights.is_empty() {
            known.push(format!("weights sha256 {}", short(&encoder.weights)));
        }
        if let Some(licence) = &encoder.licence {
            known.push(format!("licence {licence}"));
        }
        if known.is_empty() { encoder.name.clone() } else { format!("{} ({})", encoder.name, known.join(", ")) }
    };
    let all: Vec<String> = licences::used(groups).iter().map(one).collect();
    format!("Tiles were embedded by {}, which {} not trained further.", all.join(" and "), if all.len() == 1 { "was" } else { "were" })
}

fn division(groups: &[Group], images: bool) -> String {
    // One name stands for all folds; the first digest for all of them.
    let mut splits: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for group in groups {
        splits.entry(&group.key.split).or_default().extend(group.probes().map(|probe| probe.scores.split.digest.as_str()));
    }
    let one = |(name, digests): (&str, BTreeSet<&str>)| {
        let first = digests.iter().next().map_or(String::new(), |digest| short(digest));
        let more = if digests.len() > 1 { format!(" and {} more, one a fold and seed", digests.len() - 1) } else { String::new() };
        format!("{name} (digest {first}{more})")
    };
    let all: Vec<String> = splits.into_iter().map(one).collect();
    let waived = groups.iter().flat_map(Group::probes).any(|probe| !probe.scores.waivers.is_empty());
    let apart = match (images, waived) {
        (true, _) => "",
        (false, false) => "; no patient is in two parts",
        (false, true) => "; leaks that were allowed are listed as waivers",
    };
    format!("The cohort was divided as follows: {}{apart}.", all.join("; "))
}

fn training(groups: &[Group], images: bool) -> String {
    let trained: Vec<&Group> = groups.iter().filter(|group| group.key.epochs > 0).collect();
    let Some((first, probe)) = trained.first().and_then(|group| Some((group, group.probes().next()?))) else {
        return "No model was trained.".to_owned();
    };
    let setting = |pointer: &str| probe.scores.settings.pointer(&format!("/train/train/{pointer}")).unwrap_or(&Value::Null);
    let distinct = |of: fn(&Group) -> String| {
        let mut seen: Vec<String> = Vec::new();
        for value in trained.iter().map(|group| of(group)) {
            if !seen.contains(&value) {
                seen.push(value);
            }
        }
        seen.join(" and ")
    };
    let chosen = match first.key.checkpoint.as_str() {
        "best" => format!("the checkpoint with the best validation score ({}) was evaluated", words(setting("select"))),
        _ => "the last checkpoint was evaluated, nothing was selected".to_owned(),
    };
    let mut objectives: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for group in &trained {
        let settings = group.probes().next().and_then(|probe| probe.scores.settings.pointer("/train/train/loss"));
        let known = objectives.entry(&group.key.loss).or_default();
        let settings = settings.map(listed).unwrap_or_default();
        if !known.contains(&settings) {
            known.push(settings);
        }
    }
    let objective = |(name, settings): (&str, Vec<String>)| match settings.iter().filter(|one| !one.is_empty()).count() {
        0 => name.to_owned(),
        _ => format!("{name} ({})", settings.join("; or ")),
    };
    let objectives: Vec<String> = objectives.into_iter().map(objective).collect();
    let optimizer = match setting("optimizer/name").as_str() {
        Some(name) => format!(
            " by {name} ({}), {} {} a step, {} schedule",
            listed(setting("optimizer")),
            words(setting("batch-size")),
            if images { "images" } else { "bags" },
            words(setting("schedule/name"))
        ),
        None => String::new(),
    };
    format!(
        "{} ({}) were trained for {} epochs{optimizer}, with the objectives {}; {chosen}.",
        if images { "Networks" } else { "Bag models" },
        if images { distinct(|group| group.key.encoder.clone()) } else { distinct(|group| group.key.aggregator.clone()) },
        distinct(|group| group.key.epochs.to_string()),
        objectives.join(", and ")
    )
}

/// `learning-rate 0.0005, beta1 0.9`, without the member's name.
fn listed(settings: &Value) -> String {
    let all = settings.as_object().into_iter().flatten().filter(|(key, _)| *key != "name");
    all.map(|(key, value)| format!("{} {}", key.replace('-', " "), words(value))).collect::<Vec<_>>().join(", ")
}

fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Who chose a probe's hyper-parameters, and which, where all runs have the same.
fn selection(groups: &[Group], decision: Decision) -> String {
    let all: Vec<&Selection> = groups.iter().flat_map(Group::probes).filter_map(|probe| probe.scores.selections.get(&decision)).collect();
    let Some(first) = all.first() else { return String::new() };
    let same = all.iter().all(|other| other.chosen == first.chosen);
    let name = |(name, value): (&String, &f64)| {
        let name = name.replace('-', " ");
        if same { format!("{name} {value}") } else { name }
    };
    let names: Vec<String> = first.chosen.iter().map(name).collect();
    let by: BTreeSet<&str> = all.iter().map(|one| one.by.as_str()).collect();
    format!(" ({}, chosen by {})", names.join(" and "), by.into_iter().collect::<Vec<_>>().join(" or "))
}

fn versions(groups: &[Group]) -> String {
    let all: BTreeSet<&str> =
        groups.iter().flat_map(Group::probes).map(|probe| probe.version.as_str()).filter(|version| !version.is_empty()).collect();
    if all.is_empty() { env!("CARGO_PKG_VERSION").to_owned() } else { all.into_iter().collect::<Vec<_>>().join(", ") }
}

pub(super) fn short(digest: &str) -> String {
    digest.chars().take(DIGITS).collect()
}
