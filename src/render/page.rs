//! The page itself: question and verdict first, then the numbers, then what they rest on.

use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::charts::{self, Bar, Trace};
use super::{Curves, Page, Picture, grid, names, tables};
use crate::store::pooled::Row;
use crate::store::scores::Decision;

const STYLE: &str = include_str!("style.css");

/// Recipes whose curves are open from the start.
const PANELS: usize = 4;

/// The whole page as HTML; refers to nothing outside itself.
///
/// # Errors
/// A chart that cannot be drawn.
pub fn page(page: &Page) -> Result<String> {
    let rows = &page.pooled.rows;
    let sections = sections(rows);
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
                @for (title, rows) in &sections { (section(title, rows, sections.len() > 1, rows_recipes(&page.pooled.rows))?) }
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
            @if !page.curves.is_empty() { (training(page.curves)?) }
            @if !page.pictures.is_empty() { (slides(page.pictures)) }
            @if !page.pooled.cohorts.is_empty() { section aria-labelledby="cohort" {
                h2 #cohort { "Cohort" }
                @for parts in &page.pooled.cohorts { (tables::parts(parts)) }
            } }
            section aria-labelledby="methods" { h2 #methods { "Methods" } p.prose { (page.methods) } }
            section aria-labelledby="provenance" {
                h2 #provenance { "Provenance" }
                p.lead { "Every number on this page can be computed again from the predictions in these folders. scores.csv and pooled.json beside this page hold the same numbers." }
                details { summary { (names::count(page.origins.len(), "run")) } (tables::origins(page.origins)) }
            }
        }
        footer { p { "wsi " (page.version) " · " (page.pooled.interval) } }
    };
    Ok(document(page.question, &body))
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

fn section(title: &str, rows: &[&Row], several: bool, recipes: Vec<String>) -> Result<Markup> {
    let bar = |row: &&Row| Bar {
        label: names::recipe_and_decision(&row.loss, row.epochs, row.decision),
        interval: row.macro_f1,
        series: recipes.iter().position(|name| *name == names::recipe(&row.loss, row.epochs)).unwrap_or(0),
        shape: Decision::ALL.iter().position(|decision| *decision == row.decision).unwrap_or(0),
    };
    let bars: Vec<Bar> = rows.iter().map(bar).collect();
    let alt = format!("Macro-F1 with 95 % intervals of {}; the table below holds the numbers.", names::count(bars.len(), "row"));
    // One row needs no picture.
    let chart = if bars.len() > 1 { Some(charts::forest(&bars, &alt)?) } else { None };
    Ok(html! {
        @if several { h3 { (title) } } @else { p.lead { (title) } }
        @if let Some(chart) = chart { figure.forest { (PreEscaped(chart)) } }
        (tables::scores(rows))
    })
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

fn training(all: &[Curves]) -> Result<Markup> {
    let losses = [
        Trace { field: |e| e.train_loss, series: 0, label: "training" },
        Trace { field: |e| e.valid_loss, series: 1, label: "validation" },
    ];
    let scores =
        [Trace { field: |e| e.valid_macro_f1, series: 1, label: "F1" }, Trace { field: |e| e.valid_macro_auc, series: 2, label: "AUC" }];
    let mut panels = Vec::new();
    for curves in all {
        let alt = |what: &str| format!("{what} over epochs, {}; the numbers are in the table that follows.", curves.title);
        let loss = charts::curves(curves, &losses, "loss", false, &alt("Loss"))?;
        let score = charts::curves(curves, &scores, "validation score", true, &alt("Validation scores"))?;
        panels.push(html! { div.panel {
            h3 { (curves.title) }
            div.pair { @for chart in [loss, score].into_iter().flatten() { figure { (PreEscaped(chart)) } } }
            (tables::curve_numbers(curves))
        } });
    }
    Ok(html! { section aria-labelledby="training" {
        h2 #training { "Training" }
        p.lead { "A thin line is a run (a fold of a seed), the thick one their mean. Losses of different objectives are not comparable with each other." }
        @for panel in panels.iter().take(PANELS) { (panel) }
        @if panels.len() > PANELS { details { summary { "More recipes" } @for panel in panels.iter().skip(PANELS) { (panel) } } }
    } })
}

fn slides(pictures: &[Picture]) -> Markup {
    html! { section aria-labelledby="slides" {
        h2 #slides { "Slides" }
        p.lead { "Thumbnails with tissue mask and grid; wrongly classified slides first." }
        ul.slides { @for picture in pictures {
            @let wrong = picture.label != picture.predicted;
            li class=[wrong.then_some("wrong")] {
                img src={ "data:image/jpeg;base64," (picture.jpeg) } loading="lazy"
                    alt={ "Thumbnail of slide " (picture.slide_id) ", class " (picture.label) ", with tissue mask" };
                strong { (picture.slide_id) }
                @if wrong { span { (picture.label) ", taken for " em { (picture.predicted) } } } @else { span { (picture.label) ", right" } }
            }
        } }
    } }
}
