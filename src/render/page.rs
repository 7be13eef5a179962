//! The page itself: question and verdict first, then the numbers, then what they rest on.

use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::blocks::{self, Block, Figure};
use super::charts::{self, Bar};
use super::training::training;
use super::{Page, grid, matrix, names, tables};
use crate::store::pooled::Row;
use crate::store::scores::Decision;
use crate::store::table::Cells;

const STYLE: &str = include_str!("style.css");

/// A page and what belongs beside it.
#[derive(Debug)]
pub struct Rendered {
    /// The whole page; refers to nothing outside itself.
    pub html: String,
    /// Every chart on it, names all different.
    pub figures: Vec<Figure>,
}

/// The whole page.
///
/// # Errors
/// A chart that cannot be drawn.
pub fn page(page: &Page) -> Result<Rendered> {
    let rows = &page.pooled.rows;
    let mut figures = Vec::new();
    let mut scores = Vec::new();
    let sections = sections(rows);
    for (title, rows) in &sections {
        let (markup, chart) = section(title, rows, sections.len() > 1, rows_recipes(&page.pooled.rows))?;
        scores.push(markup);
        figures.extend(chart);
    }
    let (training, charts) = training(page.curves)?;
    figures.extend(charts);
    let confused: Vec<&Row> = rows.iter().filter(|row| row.labels == "true").collect();
    for row in &confused {
        figures.extend(matrix::figure(row)?);
    }
    let lists = [page.judged, page.learnt, page.cohort, page.sources];
    figures.extend(lists.into_iter().flatten().flat_map(|section| section.blocks.iter().flat_map(Block::figures)).cloned());
    let information: Vec<&Row> = one_per_recipe(rows).into_iter().filter(|row| row.information.is_some()).collect();
    let body = html! {
        header {
            p.brand { "wsi report" }
            h1 { (page.question) }
            p.verdict { (page.pooled.verdict) }
            (facts(page))
            @if !page.pooled.waivers.is_empty() { (waivers(&page.pooled.waivers)) }
            @if !page.pooled.notes.is_empty() { (notes(&page.pooled.notes)) }
        }
        main {
            section aria-labelledby="scores" {
                h2 #scores { "Scores" }
                (grid::grids(rows, &page.pooled.differences))
                @for one in &scores { (one) }
                @if !page.pooled.differences.is_empty() {
                    h3 { "Differences on the same slides" }
                    (tables::differences(&page.pooled.differences))
                    @if !page.pooled.test.is_empty() { p.lead { (page.pooled.test) "." } }
                }
                @if !information.is_empty() {
                    h3 { "How concentrated the outputs are" }
                    p.lead { "Small CMI: outputs of one class are alike. Large Γ: classes lie far apart. Test slides, mean over runs." }
                    (tables::information(&information))
                }
            }
            (confusions(rows))
            @for one in page.judged { (blocks::section(one)) }
            @if !page.curves.is_empty() { (training) }
            @for one in page.learnt.iter().chain(page.cohort) { (blocks::section(one)) }
            @if !page.pooled.cohorts.is_empty() { section aria-labelledby="parts" {
                h2 #parts { "Parts of the division" }
                @for parts in &page.pooled.cohorts { (tables::parts(parts)) }
            } }
            section aria-labelledby="methods" { h2 #methods { "Methods" } @for text in page.methods { p.prose { (text) } } }
            @for one in page.sources { (blocks::section(one)) }
            section aria-labelledby="provenance" {
                h2 #provenance { "Provenance" }
                p.lead {
                    "Every number on this page can be computed again from the predictions in these folders. scores.csv and pooled.json beside \
                     this page hold the same numbers; figures/ holds every chart as SVG and its numbers as CSV."
                }
                details { summary { (names::count(page.origins.len(), "run")) } (tables::origins(page.origins)) }
            }
        }
        footer { p { "wsi " (page.version) " · " (page.pooled.interval) } }
    };
    distinct(&mut figures);
    Ok(Rendered { html: document(page.question, &body), figures })
}

/// Two charts of one name would be one file.
fn distinct(figures: &mut [Figure]) {
    for index in 1..figures.len() {
        let (before, rest) = figures.split_at_mut(index);
        let taken = |name: &str| before.iter().any(|other| other.name == name);
        let name = rest[0].name.clone();
        let free = std::iter::once(name.clone()).chain((2..).map(|count| format!("{name}-{count}"))).find(|name| !taken(name));
        rest[0].name = free.unwrap_or(name);
    }
}

/// A page around its body, with all that it needs in itself.
pub(super) fn document(title: &str, body: &Markup) -> String {
    let whole = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " – wsi" }
                style { (PreEscaped(STYLE)) (PreEscaped(charts::style())) }
            }
            body { (body) }
        }
    };
    whole.into_string()
}

fn facts(page: &Page) -> Markup {
    let rows = &page.pooled.rows;
    let most = |field: fn(&Row) -> usize| rows.iter().map(field).max().unwrap_or(0);
    let recipes: std::collections::BTreeSet<String> = rows.iter().map(|row| names::recipe(&row.loss, row.epochs)).collect();
    html! { dl.facts {
        @if rows.iter().all(|row| names::of_images(&row.aggregator)) {
            div { dt { "images" } dd { (most(|row| row.slides)) } }
        } @else {
            div { dt { "slides" } dd { (most(|row| row.slides)) } }
            div { dt { "patients" } dd { (most(|row| row.patients)) } }
        }
        div { dt { "classes" } dd { (most(|row| row.classes.len())) } }
        div { dt { "recipes" } dd { (recipes.len()) } }
        div { dt { "seeds" } dd { (rows.iter().filter(|row| row.labels == "true").map(|row| row.seeds).max().unwrap_or(0)) } }
        div { dt { "runs" } dd { (page.runs) } }
    } }
}

fn waivers(waivers: &[String]) -> Markup {
    html! { aside.waivers aria-label="Waived checks" {
        strong { "Waived: these checks did not pass, and a reason was given" }
        ul { @for waiver in waivers { li { (waiver) } } }
    } }
}

pub(super) fn notes(notes: &[String]) -> Markup {
    html! { aside.notes aria-label="Read this first" {
        strong { "Read this first" }
        ul { @for note in notes { li { (note) } } }
    } }
}

/// Rows of the same division, bag model, encoder and kind of labels, in order.
fn sections(rows: &[Row]) -> Vec<(String, Vec<&Row>)> {
    let mut sections: Vec<(String, Vec<&Row>)> = Vec::new();
    for row in rows {
        let labels = if row.labels == "true" { "" } else { " · labels shuffled, a control" };
        let title = names::setting(&row.split, &row.aggregator, &row.encoder) + labels;
        match sections.iter_mut().find(|(known, _)| *known == title) {
            Some((_, rows)) => rows.push(row),
            None => sections.push((title, vec![row])),
        }
    }
    sections
}

/// Names of the recipes in order of appearance: a recipe has one colour on the whole page.
fn rows_recipes(rows: &[Row]) -> Vec<String> {
    let mut recipes: Vec<String> = Vec::new();
    for row in rows {
        let name = names::recipe(&row.loss, row.epochs);
        if !recipes.contains(&name) {
            recipes.push(name);
        }
    }
    recipes
}

/// The scores of one setting and their chart; one row needs none.
fn section(title: &str, rows: &[&Row], several: bool, recipes: Vec<String>) -> Result<(Markup, Option<Figure>)> {
    let bar = |row: &&Row| Bar {
        label: names::recipe_and_decision(&row.loss, row.epochs, row.decision),
        interval: row.macro_f1,
        series: recipes.iter().position(|name| *name == names::recipe(&row.loss, row.epochs)).unwrap_or(0),
        shape: Decision::ALL.iter().position(|decision| *decision == row.decision).unwrap_or(0),
    };
    let bars: Vec<Bar> = rows.iter().map(bar).collect();
    let alt = format!("Macro-F1 with 95 % intervals of {}; the table below holds the numbers.", names::count(bars.len(), "row"));
    let data = || {
        let real = |field: fn(&Row) -> f64| Cells::Real(rows.iter().map(|row| field(row)).collect());
        vec![
            ("row".to_owned(), Cells::Text(rows.iter().map(|row| names::row(row)).collect())),
            ("macro_f1".to_owned(), real(|row| row.macro_f1.value)),
            ("low".to_owned(), real(|row| row.macro_f1.low)),
            ("high".to_owned(), real(|row| row.macro_f1.high)),
        ]
    };
    let figure = match bars.len() {
        0 | 1 => None,
        _ => Some(Figure {
            name: names::slug(&format!("macro-f1 {title}")),
            title: String::new(),
            svg: charts::forest(&bars, &alt)?,
            data: data(),
            numbers: false,
        }),
    };
    let markup = html! {
        @if several { h3 { (title) } } @else { p.lead { (title) } }
        @if let Some(figure) = &figure { figure.forest { (PreEscaped(&figure.svg)) } }
        (tables::scores(title, rows))
    };
    Ok((markup, figure))
}

/// The first row of each group, which speaks for what does not depend on the decision rule.
fn one_per_recipe(rows: &[Row]) -> Vec<&Row> {
    let same = |a: &Row, b: &Row| {
        (&a.group, &a.loss, &a.split, &a.labels, &a.aggregator, &a.encoder, a.epochs, &a.checkpoint)
            == (&b.group, &b.loss, &b.split, &b.labels, &b.aggregator, &b.encoder, b.epochs, &b.checkpoint)
    };
    let mut first: Vec<&Row> = Vec::new();
    for row in rows {
        if !first.iter().any(|known| same(known, row)) {
            first.push(row);
        }
    }
    first
}

fn confusions(rows: &[Row]) -> Markup {
    let (probe, other): (Vec<&Row>, Vec<&Row>) =
        rows.iter().filter(|row| row.labels == "true").partition(|row| row.decision == Decision::Lp);
    let (shown, folded) = if probe.is_empty() { (other, Vec::new()) } else { (probe, other) };
    html! { section aria-labelledby="confusion" {
        h2 #confusion { "Confusion" }
        p.lead {
            @if rows.iter().any(tables::fits_a_matrix) { "Rows are true classes; a cell holds the count and its share of the row." }
            @else { "The most frequent confusions; there are too many classes for a matrix." }
        }
        div.matrices { @for row in shown { (tables::confusion(row)) } }
        @if !folded.is_empty() { details {
            summary { "Other decision rules" }
            div.matrices { @for row in folded { (tables::confusion(row)) } }
        } }
    } }
}
