//! The report's words: the question and the verdict, no stronger than the interval allows.

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
