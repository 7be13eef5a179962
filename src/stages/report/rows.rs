//! From groups of runs to the report's rows and comparisons.

use std::collections::{BTreeMap, BTreeSet};

use super::groups::{Group, Key};
use super::pool::Pool;
use super::runs::Probe;
use crate::ground::interval::Interval;
use crate::metrics::bootstrap::Bootstrap;
use crate::metrics::classification::{Confusion, LabelSet};
use crate::metrics::{holm, spread};
use crate::render::names;
use crate::store::pooled::{Difference, Row};
use crate::store::predictions::Prediction;
use crate::store::scores::{Decision, Information};

/// The rows of a group, one for each decision rule that any of its runs has. Notes say what is missing from them.
pub(super) fn rows(group: &Group, bootstrap: &Bootstrap, notes: &mut Vec<String>) -> Vec<Row> {
    let key = &group.key;
    for repeat in group.runs.keys() {
        let missing = group.missing(repeat);
        if !missing.is_empty() {
            let list: Vec<String> = missing.iter().map(ToString::to_string).collect();
            notes.push(format!(
                "{} ({}), {repeat}: {} missing ({} of {} folds found); that repeat is scored without its slides.",
                names::recipe(&key.loss, key.epochs),
                key.split,
                if missing.len() == 1 { format!("fold {} is", list[0]) } else { format!("folds {} are", list.join(", ")) },
                key.folds - missing.len(),
                key.folds,
            ));
        }
    }
    Decision::ALL.into_iter().filter_map(|decision| row(group, decision, bootstrap, notes)).collect()
}

fn row(group: &Group, decision: Decision, bootstrap: &Bootstrap, notes: &mut Vec<String>) -> Option<Row> {
    let key = &group.key;
    let classes = &group.probes().next()?.scores.classes;
    let pool = pool(group, decision, notes)?;
    let confusions = pool.confusions();
    let mean = |score: &dyn Fn(&Confusion) -> f64| confusions.iter().map(score).sum::<f64>() / confusions.len() as f64;
    let per_repeat: Vec<f64> = confusions.iter().map(|confusion| confusion.macro_f1(LabelSet::Observed)).collect();
    let shown = |score: Interval| if key.is_strict() { score } else { Interval::point(score.value) };
    let label = if key.settings.is_empty() { key.group.clone() } else { format!("{} · {}", key.group, key.settings) };
    Some(Row {
        group: label.trim_start_matches(" · ").to_owned(),
        loss: key.loss.clone(),
        aggregator: key.aggregator.clone(),
        encoder: key.encoder.clone(),
        labels: key.labels.clone(),
        split: key.split.clone(),
        epochs: key.epochs,
        checkpoint: key.checkpoint.clone(),
        decision,
        protocol: key.protocol.clone(),
        macro_f1: shown(pool.macro_f1(bootstrap)),
        macro_auc: shown(pool.macro_auc(bootstrap)),
        macro_f1_sd_over_seeds: spread::over_seeds(&per_repeat).sd,
        macro_f1_per_repeat: per_repeat,
        accuracy: mean(&Confusion::accuracy),
        balanced_accuracy: mean(&Confusion::balanced_accuracy),
        per_class_f1: (0..classes.len()).map(|class| mean(&|confusion| confusion.f1_per_class()[class])).collect(),
        confusion: sum(&confusions, classes.len()),
        auc_classes_undefined: pool.auc_classes_undefined(),
        information: information(group.probes()),
        classes: classes.clone(),
        repeats: group.runs.keys().map(ToString::to_string).collect(),
        seeds: group.runs.len(),
        folds: group.runs.values().map(BTreeMap::len).min().unwrap_or(0),
        folds_expected: key.folds,
        slides: pool.slides(),
        patients: pool.patients(),
    })
}

/// The test predictions of a group by one rule; `None` where there are none.
pub(super) fn pool(group: &Group, decision: Decision, notes: &mut Vec<String>) -> Option<Pool> {
    pool_of(group, decision, notes, |_| true)
}

/// [`pool`] of the slides that `kept` keeps.
pub(super) fn pool_of(group: &Group, decision: Decision, notes: &mut Vec<String>, kept: impl Fn(&Prediction) -> bool) -> Option<Pool> {
    let mut pool = Pool::new(group.probes().next()?.scores.classes.len(), group.runs.len());
    for (index, (repeat, folds)) in group.runs.iter().enumerate() {
        let mut tested = BTreeSet::new();
        for prediction in folds.values().filter_map(|probe| probe.predictions.get(&decision)).flatten().filter(|one| kept(one)) {
            if !tested.insert(&prediction.slide_id) {
                notes.push(format!(
                    "Slide '{}' is tested in two folds ({}, {repeat}); only the first counts. The folds are not of one division.",
                    prediction.slide_id, group.key.split
                ));
                continue;
            }
            pool.push(index, prediction);
        }
    }
    (pool.slides() > 0).then_some(pool)
}

fn sum(confusions: &[Confusion], classes: usize) -> Vec<Vec<u64>> {
    let cell = |label: usize, predicted: usize| confusions.iter().map(|confusion| confusion.counts[label][predicted]).sum();
    (0..classes).map(|label| (0..classes).map(|predicted| cell(label, predicted)).collect()).collect()
}

/// Mean over the runs that measured it; variants do not mix, the first found counts.
fn information<'a>(probes: impl Iterator<Item = &'a Probe>) -> Option<Information> {
    let all: Vec<&Information> = probes.filter_map(|probe| probe.scores.information.as_ref()).collect();
    let variant = &all.first()?.variant;
    let same: Vec<&&Information> = all.iter().filter(|one| one.variant == *variant).collect();
    let mean = |field: fn(&Information) -> f64| same.iter().map(|one| field(one)).sum::<f64>() / same.len() as f64;
    Some(Information { cmi: mean(|i| i.cmi), gamma: mean(|i| i.gamma), ncmi: mean(|i| i.ncmi), variant: variant.clone() })
}

/// NCMI-LP against CE+LP, wherever both stand on the same division: the report's question.
pub(super) fn answers(groups: &[Group], bootstrap: &Bootstrap) -> Vec<Difference> {
    compare(groups, bootstrap, |key| key.epochs > 0 && key.loss == "ncmi", |key| key.epochs > 0 && key.loss == "cross-entropy")
}

/// NCMI-LP against every other objective but cross-entropy with the same probe.
pub(super) fn against_others(groups: &[Group], bootstrap: &Bootstrap) -> Vec<Difference> {
    let other = |loss: &str| loss != "ncmi" && loss != "cross-entropy";
    compare(groups, bootstrap, |key| key.epochs > 0 && key.loss == "ncmi", |key| key.epochs > 0 && other(&key.loss))
}

/// Every trained recipe against the untrained model with the same probe: what training added at all.
pub(super) fn against_untrained(groups: &[Group], bootstrap: &Bootstrap) -> Vec<Difference> {
    compare(groups, bootstrap, |key| key.epochs > 0, |key| key.epochs == 0)
}

fn compare(groups: &[Group], bootstrap: &Bootstrap, first: impl Fn(&Key) -> bool, second: impl Fn(&Key) -> bool) -> Vec<Difference> {
    let mut found = Vec::new();
    for a in groups.iter().filter(|group| group.key.labels == "true" && first(&group.key)) {
        for b in groups.iter().filter(|group| group.key.labels == "true" && second(&group.key)) {
            if a.key.same_setting(&b.key) && a.key.is_strict() && b.key.is_strict() {
                found.extend(difference(a, b, bootstrap));
            }
        }
    }
    found
}

/// Corrects the p values for the number of comparisons that stand together on the page, and says so in words.
// METHOD: one family for all of them; which comparison a reader looks at is not known beforehand.
pub(super) fn correct(differences: &mut [Difference]) -> String {
    let adjusted = holm::adjusted(&differences.iter().map(|one| one.p).collect::<Vec<_>>());
    differences.iter_mut().zip(&adjusted).for_each(|(one, &p)| one.p_adjusted = p);
    let tests = adjusted.iter().filter(|p| p.is_finite()).count();
    let correction = match tests {
        0 => return String::new(),
        1 => "not corrected, as there is one comparison".to_owned(),
        _ => format!("Holm-corrected over {tests} comparisons"),
    };
    let arrangements = differences.iter().filter(|one| one.p.is_finite()).map(|one| match one.exact {
        true => "all exchanges".to_owned(),
        false => format!("{} exchanges", one.arrangements),
    });
    let counts = arrangements.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" or ");
    format!("p: two-sided paired permutation test of the macro-F1, whole patients exchanged between the two ({counts}); {correction}")
}

/// `None` where the two share no seed, fold and split, or no slide.
fn difference(first: &Group, second: &Group, bootstrap: &Bootstrap) -> Option<Difference> {
    let shared: Vec<_> = first.runs.keys().filter(|repeat| second.runs.contains_key(repeat)).collect();
    let classes = first.probes().next()?.scores.classes.len();
    let (mut ours, mut theirs) = (Pool::new(classes, shared.len()), Pool::new(classes, shared.len()));
    let mut seeds = BTreeSet::new();
    for (index, repeat) in shared.into_iter().enumerate() {
        for (fold, a) in &first.runs[repeat] {
            let Some(b) = second.runs[repeat].get(fold).filter(|b| b.scores.split.digest == a.scores.split.digest) else { continue };
            let (Some(a), Some(b)) = (a.predictions.get(&Decision::Lp), b.predictions.get(&Decision::Lp)) else { continue };
            let by_slide: BTreeMap<&str, &Prediction> = b.iter().map(|prediction| (prediction.slide_id.as_str(), prediction)).collect();
            for a in a {
                if let Some(b) = by_slide.get(a.slide_id.as_str()) {
                    ours.push(index, a);
                    theirs.push(index, b);
                    seeds.insert(repeat);
                }
            }
        }
    }
    if seeds.is_empty() {
        return None;
    }
    let key = &first.key;
    let macro_f1 = ours.macro_f1_minus(&theirs, bootstrap);
    let first_macro_f1 = ours.macro_f1(bootstrap).value;
    let permuted = ours.macro_f1_permuted(&theirs, bootstrap);
    Some(Difference {
        first: names::recipe_and_decision(&key.loss, key.epochs, Decision::Lp),
        second: names::recipe_and_decision(&second.key.loss, second.key.epochs, Decision::Lp),
        groups: [key.group.clone(), second.key.group.clone()],
        aggregator: key.aggregator.clone(),
        setting: names::setting(&key.split, &key.aggregator, &key.encoder),
        first_macro_f1,
        second_macro_f1: first_macro_f1 - macro_f1.value,
        macro_f1,
        macro_auc: ours.macro_auc_minus(&theirs, bootstrap),
        p: permuted.p,
        p_adjusted: permuted.p,
        arrangements: permuted.arrangements,
        exact: permuted.exact,
        seeds: seeds.len(),
        slides: ours.slides(),
        patients: ours.patients(),
    })
}
