//! Bag models side by side, as the paper's Table III: a line each, cross-entropy beside NCMI, then what lies between them.

use maud::{Markup, html};

use super::names;
use super::tables::{interval, relative, signed};
use crate::store::pooled::{Difference, Row};
use crate::store::scores::Decision;

/// What stands beside each other, in the order of the paper's argument.
const COLUMNS: [(&str, Decision); 4] =
    [("cross-entropy", Decision::Own), ("cross-entropy", Decision::Lp), ("ncmi", Decision::Lp), ("ncmi", Decision::Cc)];

/// Bag models on one division under one label of the sweep.
struct Grid<'a> {
    title: String,
    lines: Vec<Line<'a>>,
}

struct Line<'a> {
    aggregator: &'a str,
    cells: [Option<&'a Row>; COLUMNS.len()],
    difference: Option<&'a Difference>,
}

/// One table for each division on which two bag models or more were trained with both objectives; nothing where there is none.
pub(super) fn grids(rows: &[Row], differences: &[Difference]) -> Markup {
    let grids = collect(rows, differences);
    html! { @if !grids.is_empty() {
        h3 { "Bag models side by side" }
        p.lead { "Macro-F1 with its 95 % interval, macro-AUC below it. Same projection, bags a step and probe for both objectives." }
        @for grid in &grids { (table(grid)) }
    } }
}

fn collect<'a>(rows: &'a [Row], differences: &'a [Difference]) -> Vec<Grid<'a>> {
    let mut places: Vec<(&str, &str, &str)> = Vec::new();
    let trained = || rows.iter().filter(|row| row.epochs > 0 && row.labels == "true" && !names::of_images(&row.aggregator));
    for row in trained() {
        let place = (row.split.as_str(), row.encoder.as_str(), row.group.as_str());
        if !places.contains(&place) {
            places.push(place);
        }
    }
    let grid = |&(split, encoder, group): &(&'a str, &'a str, &'a str)| {
        let here: Vec<&Row> = trained().filter(|row| row.split == split && row.encoder == encoder && row.group == group).collect();
        // Rows are sorted by bag model.
        let mut models: Vec<&str> = here.iter().map(|row| row.aggregator.as_str()).collect();
        models.dedup();
        let line = |&aggregator: &&'a str| {
            let cell = |(loss, decision)| {
                here.iter().find(|row| row.aggregator == aggregator && row.loss == loss && row.decision == decision).copied()
            };
            let setting = names::setting(split, aggregator, encoder);
            let question = |one: &&Difference| one.setting == setting && one.groups == [group, group] && one.second == "CE+LP";
            Line { aggregator, cells: COLUMNS.map(cell), difference: differences.iter().find(question) }
        };
        let lines: Vec<Line> = models.iter().map(line).filter(|line| line.difference.is_some()).collect();
        let title = [group, split, encoder].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" · ");
        Grid { title, lines }
    };
    places.iter().map(grid).filter(|grid| grid.lines.len() > 1).collect()
}

fn table(grid: &Grid) -> Markup {
    html! {
        p.lead { strong { (grid.title) } }
        div.wide tabindex="0" role="region" aria-label={ "Bag models, " (grid.title) } { table {
            thead { tr {
                th scope="col" { "Bag model" }
                @for (loss, decision) in COLUMNS { th.number scope="col" { (names::recipe_and_decision(loss, 1, decision)) } }
                th.number scope="col" { "NCMI-LP − CE+LP " span.unit { "absolute, below it relative" } }
                th.number scope="col" { "p " span.unit { "as said below" } }
            } }
            tbody { @for line in &grid.lines { tr {
                th scope="row" { (line.aggregator) }
                @for cell in line.cells { td.number { @if let Some(row) = cell {
                    (interval(&row.macro_f1)) span.under { (interval(&row.macro_auc)) }
                } @else { "–" } } }
                @if let Some(one) = line.difference {
                    td.number.strong { (signed(&one.macro_f1)) span.under { (relative(one)) } }
                    td.number { (names::p_value(one.p_adjusted).unwrap_or_else(|| "–".to_owned()).trim_start_matches("= ")) }
                }
            } } }
        } }
    }
}
