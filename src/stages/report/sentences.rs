//! The report's words: the verdict, no stronger than the interval allows, and a methods paragraph to paste into a paper.

use serde_json::Value;

use super::groups::Group;
use crate::ground::interval::Interval;
use crate::render::names;
use crate::store::pooled::{Difference, Row};
use crate::store::scores::Decision;

/// What the report asks.
pub(super) fn question(answers: &[Difference]) -> &'static str {
    if answers.is_empty() { "How well do these models classify?" } else { "Does training with NCMI beat cross-entropy?" }
}

/// How many comparisons fell which way, where there are several; then one sentence on the first, or on the first row where there
/// is none.
pub(super) fn verdict(answers: &[Difference], rows: &[Row], incomplete: bool) -> String {
    let provisional = if incomplete { "; folds are missing, so this is provisional" } else { "" };
    let Some(answer) = answers.first() else {
        let Some(row) = rows.iter().find(|row| row.decision == Decision::Lp).or(rows.first()) else {
            return "There are no scores.".to_owned();
        };
        return format!(
            "{} reaches a macro-F1 of {} on {}, {}; NCMI and cross-entropy cannot be compared, because no two runs share seed, fold and split{provisional}.",
            names::row(row),
            bounded(&row.macro_f1),
            names::crowd(row.slides, row.patients, &row.aggregator),
            row.split,
        );
    };
    let tally = if answers.len() > 1 { tally(answers) } else { String::new() };
    let Difference { first, second, macro_f1, .. } = answer;
    let meaning = match (macro_f1.is_bounded(), macro_f1.low > 0.0, macro_f1.high < 0.0) {
        (false, ..) => "there are too few patients for an interval, so this decides nothing".to_owned(),
        (_, low, high) if (low || high) && test_disagrees(answer) => {
            "the interval excludes zero but the permutation test does not reject, so this test set does not tell which is better".to_owned()
        }
        (_, true, _) => format!("{first} is better here"),
        (_, _, true) => format!("{second} is better here"),
        _ => "the interval includes zero, so this test set does not tell which is better".to_owned(),
    };
    format!(
        "{tally}On {} ({}, {}), {first} reaches a macro-F1 of {:.3} and {second} {:.3}, a difference of {}{}: {meaning}{provisional}.",
        names::crowd(answer.slides, answer.patients, &answer.aggregator),
        answer.setting,
        names::count(answer.seeds, "seed"),
        answer.first_macro_f1,
        answer.second_macro_f1,
        signed(macro_f1),
        names::p_value(answer.p_adjusted).map_or_else(String::new, |p| format!(", permutation test p {p}")),
    )
}

/// A comparison counts as decided only where interval and corrected test agree.
fn tally(answers: &[Difference]) -> String {
    let decided = |one: &&Difference| one.macro_f1.is_bounded() && !test_disagrees(one);
    let better = answers.iter().filter(decided).filter(|one| one.macro_f1.low > 0.0).count();
    let worse = answers.iter().filter(decided).filter(|one| one.macro_f1.high < 0.0).count();
    let least = answers.iter().map(|one| one.macro_f1.value).fold(f64::INFINITY, f64::min);
    let most = answers.iter().map(|one| one.macro_f1.value).fold(f64::NEG_INFINITY, f64::max);
    format!(
        "Of {} comparisons of NCMI-LP with CE+LP, {better} favour NCMI-LP, {worse} favour CE+LP and {} are not decided; the differences in macro-F1 run from {} to {}. ",
        answers.len(),
        answers.len() - better - worse,
        names::signed(least),
        names::signed(most),
    )
}

/// Whether the permutation test speaks against what the interval says.
// METHOD: α = 0.05, as the interval has 95 %.
fn test_disagrees(answer: &Difference) -> bool {
    answer.p_adjusted > 0.05
}

fn bounded(interval: &Interval) -> String {
    if interval.is_bounded() {
        format!("{:.3} (95 % interval {:.3} to {:.3})", interval.value, interval.low, interval.high)
    } else {
        interval.to_string()
    }
}

fn signed(interval: &Interval) -> String {
    let bounds = if interval.is_bounded() {
        format!(" (95 % interval {} to {})", names::signed(interval.low), names::signed(interval.high))
    } else {
        String::new()
    };
    format!("{}{bounds}", names::signed(interval.value))
}

/// How the numbers were made, with the figures of the first group's first run.
pub(super) fn methods(groups: &[Group], interval: &str, test: &str) -> String {
    let Some((group, probe)) = groups.first().and_then(|group| Some((group, group.probes().next()?))) else { return String::new() };
    let key = &group.key;
    // What was done, not what the settings of a later stage say by default.
    let number = |pointer: &str| probe.tiling.pointer(pointer).and_then(Value::as_f64);
    let tiles = match (number("/tile/tile-px"), number("/tile/mpp")) {
        (Some(side), Some(mpp)) => format!("Slides were cut into tiles of {side} × {side} px at {mpp} µm/px. "),
        _ => String::new(),
    };
    let images = names::of_images(&key.aggregator);
    let apart = if images { "" } else { "; no patient is in two parts" };
    let embedding = if images { String::new() } else { format!("Tiles were embedded by {}, which was not trained further. ", key.encoder) };
    let mut objectives: Vec<&str> = groups.iter().filter(|g| g.key.epochs > 0).map(|g| g.key.loss.as_str()).collect();
    objectives.sort_unstable();
    objectives.dedup();
    let test = if test.is_empty() { String::new() } else { format!(" {}.", test.replacen("p:", "Values of p:", 1)) };
    let trained = groups.iter().find(|g| g.key.epochs > 0);
    let training = trained.map_or_else(String::new, |group| {
        let chosen = if group.key.checkpoint == "best" { "the checkpoint with the best validation score" } else { "the last checkpoint" };
        format!(
            "{} ({}) were trained for {} epochs with {}; {chosen} was evaluated. ",
            if images { "Networks" } else { "Bag models" },
            if images { &group.key.encoder } else { &group.key.aggregator },
            group.key.epochs,
            objectives.join(" and "),
        )
    });
    format!(
        "{tiles}{embedding}{training}\
         The cohort was divided as follows: {}{apart}. Test predictions were pooled over the folds \
         of a seed, so that each slide counts once, and scored together. LP is a linear classifier fitted to the frozen \
         embeddings of the training set; CC chooses the class whose mean output distribution over the training set is nearest \
         in Kullback–Leibler divergence; kNN weighs the votes of the nearest embeddings of the training set by their cosine. Macro-F1 is the mean of the per-class F1 over classes that occur in labels or \
         predictions; macro-AUC is the mean of the one-vs-rest areas under the ROC curve over classes for which it is defined. \
         Intervals: {interval}; whole patients are drawn, the same for all seeds, and the scores are means over seeds. \
         Differences are absolute and paired by patient.{test} The spread is over seeds (standard deviation, smallest to largest), \
         and is no part of the intervals.",
        key.split,
    )
}
