//! The page's tables: scores, differences, confusions, curves in numbers, provenance.

use maud::{Markup, PreEscaped, html};

use super::{Curves, Origin, charts, names};
use crate::ground::interval::Interval;
use crate::store::history::Epoch;
use crate::store::pooled::{Difference, Parts, Row};

/// Classes up to which a whole confusion matrix is shown.
const MATRIX_CLASSES: usize = 12;
/// Lines of a table of curves, or of the most frequent confusions.
const LINES: usize = 12;

pub(super) fn interval(of: &Interval) -> Markup {
    html! {
        (names::score(of.value))
        @if of.is_bounded() { " " span.bounds { (names::score(of.low)) "–" (names::score(of.high)) } }
    }
}

pub(super) fn signed(of: &Interval) -> Markup {
    html! {
        (names::signed(of.value))
        @if of.is_bounded() { " " span.bounds { (names::signed(of.low)) " to " (names::signed(of.high)) } }
    }
}

/// The difference as a share of the second score; beside the absolute one, never alone.
pub(super) fn relative(one: &Difference) -> Markup {
    let share = one.macro_f1.value / one.second_macro_f1 * 100.0;
    html! { @if share.is_finite() { (format!("{share:+.1} %").replace('-', "−")) } @else { "–" } }
}

pub(super) fn scores(title: &str, rows: &[&Row]) -> Markup {
    html! {
        div.wide tabindex="0" role="region" aria-label={ "Scores, " (title) } { table {
            thead { tr {
                th scope="col" { "Recipe" }
                th.number scope="col" { "Macro-F1 " span.unit { "95 % interval" } }
                th.number scope="col" { "Macro-AUC " span.unit { "95 % interval" } }
                th.number scope="col" { "Accuracy" }
                th.number scope="col" { "Seeds " span.unit { "F1 sd, from–to" } }
                th.number scope="col" { "Folds" }
                th.number scope="col" { "Slides " span.unit { "patients" } }
            } }
            tbody { @for (index, row) in rows.iter().enumerate() {
                (score_line(row, index == 0 || rows[index - 1].group != row.group))
            } }
        } }
    }
}

/// `label`: whether the sweep's label is shown; the rules of one recipe share it.
fn score_line(row: &Row, label: bool) -> Markup {
    let finite = || row.macro_f1_per_repeat.iter().copied().filter(|f1| f1.is_finite());
    let (least, most) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    html! { tr {
        th scope="row" { (names::row(row)) @if label && !row.group.is_empty() { span.under { (row.group) } } }
        td.number.strong { (interval(&row.macro_f1)) }
        td.number { (interval(&row.macro_auc)) @if row.auc_classes_undefined > 0 {
            span.under { "without " (names::count(row.auc_classes_undefined, "class")) }
        } }
        td.number { (names::score(row.accuracy)) }
        td.number { (row.seeds) @if row.seeds > 1 && least <= most { " " span.bounds {
            @if row.macro_f1_sd_over_seeds.is_finite() { "± " (names::score(row.macro_f1_sd_over_seeds)) ", " } (names::score(least)) "–" (names::score(most))
        } } }
        td.number {
            @if row.folds < row.folds_expected { strong.warn { (row.folds) " of " (row.folds_expected) } } @else { (row.folds) }
        }
        td.number { (row.slides) " " span.bounds { (row.patients) } }
    } }
}

pub(super) fn differences(all: &[Difference]) -> Markup {
    html! {
        div.wide tabindex="0" role="region" aria-label="Differences" { table {
            thead { tr {
                th scope="col" { "Comparison" }
                th.number scope="col" { "Macro-F1 " span.unit { "each" } }
                th.number scope="col" { "Difference " span.unit { "absolute, 95 % interval" } }
                th.number scope="col" { "relative" }
                th.number scope="col" { "p " span.unit { "as said below" } }
                th.number scope="col" { "Macro-AUC, difference" }
                th.number scope="col" { "Seeds" }
                th.number scope="col" { "Slides " span.unit { "patients" } }
            } }
            tbody { @for one in all { tr {
                th scope="row" { (one.first) " − " (one.second) span.under { (one.setting) } }
                td.number { (names::score(one.first_macro_f1)) ", " (names::score(one.second_macro_f1)) }
                td.number.strong { (signed(&one.macro_f1)) }
                td.number { (relative(one)) }
                td.number { (names::p_value(one.p_adjusted).unwrap_or_else(|| "–".to_owned()).trim_start_matches("= ")) }
                td.number { (signed(&one.macro_auc)) }
                td.number { (one.seeds) }
                td.number { (one.slides) " " span.bounds { (one.patients) } }
            } } }
        } }
    }
}

/// Slides of each class in each part; many classes are one line.
pub(super) fn parts(of: &Parts) -> Markup {
    let parts: Vec<(&str, &Vec<usize>)> =
        ["train", "valid", "test"].into_iter().filter_map(|part| Some((part, of.counts.get(part)?))).collect();
    let sum = |counts: &[usize]| counts.iter().sum::<usize>();
    html! {
        p.lead { strong { (of.split) } " · digest " code { (of.digest.chars().take(12).collect::<String>()) } }
        div.wide tabindex="0" role="region" aria-label={ "Slides of " (of.split) } { table {
            thead { tr { th scope="col" { "Class" } @for (part, _) in &parts { th.number scope="col" { (part) } } th.number scope="col" { "all" } } }
            tbody {
                @if of.classes.len() <= MATRIX_CLASSES { @for (index, class) in of.classes.iter().enumerate() { tr {
                    th scope="row" { (class) }
                    @for (_, counts) in &parts { td.number { (counts[index]) } }
                    td.number { (parts.iter().map(|(_, counts)| counts[index]).sum::<usize>()) }
                } } }
                tr { th scope="row" { "all" } @for (_, counts) in &parts { td.number { (sum(counts)) } } td.number { (parts.iter().map(|(_, counts)| sum(counts)).sum::<usize>()) } }
            }
        } }
    }
}

/// Counts with the share of the row as shade; for many classes only the most frequent confusions.
pub(super) fn confusion(row: &Row) -> Markup {
    let times = if row.seeds > 1 { format!(", counted over {}", names::count(row.seeds, "seed")) } else { String::new() };
    html! { figure.matrix {
        figcaption { strong { (names::row(row)) } span.under { (names::setting(&row.split, &row.aggregator, "")) (times) } }
        @if fits_a_matrix(row) { (matrix(row)) } @else { (frequent(row)) }
    } }
}

/// The sweep's label, where there is one.
fn of_group(row: &Row) -> String {
    if row.group.is_empty() { String::new() } else { format!(", {}", row.group) }
}

/// Whether a whole matrix is shown.
pub(super) fn fits_a_matrix(row: &Row) -> bool {
    row.classes.len() <= MATRIX_CLASSES
}

fn matrix(row: &Row) -> Markup {
    html! {
        div.wide tabindex="0" role="region" aria-label={ "Confusion matrix of " (names::row(row)) ", " (names::setting(&row.split, &row.aggregator, "")) (of_group(row)) } { table.confusion {
            thead {
                tr { td {} th scope="colgroup" colspan=(row.classes.len()) { "predicted" } td {} }
                tr { th scope="col" { "true" } @for class in &row.classes { th.number scope="col" { (class) } } th.number scope="col" { "F1" } }
            }
            tbody { @for (label, counts) in row.confusion.iter().enumerate() {
                @let total: u64 = counts.iter().sum();
                tr {
                    th scope="row" { (row.classes[label]) }
                    @for (predicted, count) in counts.iter().enumerate() {
                        @let share = if total == 0 { 0.0 } else { *count as f64 / total as f64 };
                        @let kind = if label == predicted { "hit" } else { "miss" };
                        td class=(format!("number cell {kind}")) style=(format!("--share:{share:.3}")) {
                            (count) @if total > 0 { span.bounds { (format!("{:.0} %", share * 100.0)) } }
                        }
                    }
                    td.number { (names::score(row.per_class_f1[label])) }
                }
            } }
        } }
    }
}

fn frequent(row: &Row) -> Markup {
    let off = |label: usize| {
        row.confusion[label].iter().enumerate().filter(move |(p, n)| *p != label && **n > 0).map(move |(p, n)| (*n, label, p))
    };
    let mut all: Vec<(u64, usize, usize)> = (0..row.classes.len()).flat_map(off).collect();
    all.sort_by(|a, b| b.0.cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    html! { table {
        thead { tr { th scope="col" { "true" } th scope="col" { "taken for" } th.number scope="col" { "times" } } }
        tbody { @for (count, label, predicted) in all.iter().take(LINES) {
            tr { td { (row.classes[*label]) } td { (row.classes[*predicted]) } td.number { (count) } }
        } }
    } }
}

/// Concentration of the output distributions, for the rows that measured it; one line a recipe.
pub(super) fn information(rows: &[&Row]) -> Markup {
    html! { div.wide tabindex="0" role="region" aria-label="Concentration" { table {
        thead { tr {
            th scope="col" { "Recipe" } th.number scope="col" { "CMI " span.unit { "nats" } } th.number scope="col" { "Γ " span.unit { "nats" } }
            th.number scope="col" { "NCMI = CMI / Γ" } th scope="col" { "Γ as" }
        } }
        tbody { @for row in rows { @if let Some(of) = &row.information { tr {
            th scope="row" { (names::recipe(&row.loss, row.epochs)) @if row.labels != "true" { ", labels " (row.labels) } span.under { (row.split) } }
            td.number { (small(of.cmi)) } td.number { (small(of.gamma)) } td.number { (small(of.ncmi)) } td { (of.variant) }
        } } } }
    } } }
}

/// Four significant digits: these are often far below 1.
fn small(value: f64) -> String {
    match value.abs() {
        v if !v.is_finite() => "–".to_owned(),
        v if v == 0.0 || v >= 0.01 => format!("{value:.4}"),
        _ => format!("{value:.2e}").replace("e-", " × 10⁻").chars().map(superscript_after_power()).collect(),
    }
}

fn superscript_after_power() -> impl FnMut(char) -> char {
    let mut power = false;
    move |c| {
        power |= c == '⁻';
        match (power, c.to_digit(10)) {
            (true, Some(digit)) => ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'][digit as usize],
            _ => c,
        }
    }
}

/// Means over runs at about a dozen epochs, of what any run measured.
pub(super) fn curve_numbers(curves: &Curves) -> Markup {
    let names = ["Training loss", "Validation loss", "Validation macro-F1", "Validation macro-AUC"];
    let fields: [fn(&Epoch) -> f64; 4] = [|e| e.train_loss, |e| e.valid_loss, |e| e.valid_macro_f1, |e| e.valid_macro_auc];
    let mean = |(name, field)| (name, charts::mean(&charts::of_runs(curves, field)));
    let means: Vec<(&str, Vec<(f64, f64)>)> = names.into_iter().zip(fields).map(mean).filter(|(_, mean)| !mean.is_empty()).collect();
    let epochs: Vec<f64> = means.first().map_or(Vec::new(), |(_, mean)| mean.iter().map(|point| point.0).collect());
    let stride = epochs.len().div_ceil(LINES).max(1);
    let cell = |mean: &[(f64, f64)], epoch: f64| {
        mean.iter().find(|point| point.0 == epoch).map_or("–".to_owned(), |point| format!("{:.4}", point.1))
    };
    html! { details {
        summary { "Numbers" @if curves.runs.len() > 1 { ", mean of " (curves.runs.len()) " runs" } }
        div.wide tabindex="0" role="region" aria-label={ "Training curves of " (curves.title) } { table {
            thead { tr { th.number scope="col" { "Epoch" } @for (name, _) in &means { th.number scope="col" { (name) } } } }
            tbody { @for (index, epoch) in epochs.iter().enumerate() { @if index.is_multiple_of(stride) || index + 1 == epochs.len() { tr {
                th.number scope="row" { (format!("{epoch:.0}")) }
                @for (_, mean) in &means { td.number { (cell(mean, *epoch)) } }
            } } } }
        } }
    } }
}

pub(super) fn origins(all: &[Origin]) -> Markup {
    let short = |digest: &str| digest.chars().take(12).collect::<String>();
    html! { div.wide tabindex="0" role="region" aria-label="Runs and their inputs" { table.small {
        thead { tr { @for head in ["Run", "Split", "Split digest", "Seed", "Inputs", "Program"] { th scope="col" { (head) } } } }
        tbody { @for one in all { tr {
            th scope="row" { code { (one.run) } }
            td { (one.split) }
            td { code { (short(&one.split_digest)) } }
            td.number { (one.seed) }
            td { @for (role, digest) in &one.inputs { span.pair { (role) " " code { (short(digest)) } } (PreEscaped(" ")) } }
            td { @if one.version.is_empty() { "–" } @else { "wsi " (one.version) } }
        } } }
    } } }
}
