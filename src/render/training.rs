//! The page's training curves: loss and validation scores of each recipe over epochs.

use anyhow::Result;
use maud::{Markup, PreEscaped, html};

use super::blocks::Figure;
use super::charts::{self, Trace};
use super::{Curves, names, tables};
use crate::store::history::Epoch;
use crate::store::table::Cells;

/// Recipes whose curves are open from the start.
const PANELS: usize = 4;
/// Recipes whose curves are on the page; those of all are beside it.
const MOST: usize = 40;

/// The section and its charts.
pub(super) fn training(all: &[Curves]) -> Result<(Markup, Vec<Figure>)> {
    let losses = [
        Trace { field: |e| e.train_loss, series: 0, label: "training" },
        Trace { field: |e| e.valid_loss, series: 1, label: "validation" },
    ];
    let scores =
        [Trace { field: |e| e.valid_macro_f1, series: 1, label: "F1" }, Trace { field: |e| e.valid_macro_auc, series: 2, label: "AUC" }];
    let (mut panels, mut figures) = (Vec::new(), Vec::new());
    for curves in all {
        let alt = |what: &str| format!("{what} over epochs, {}; the numbers are in the table that follows.", curves.title);
        let loss = charts::curves(curves, &losses, "loss", false, &alt("Loss"))?;
        let score = charts::curves(curves, &scores, "validation score", true, &alt("Validation scores"))?;
        let figure = |what: &str, svg: Option<String>, traces: &[Trace]| {
            let name = names::slug(&format!("{what} {}", curves.title));
            svg.map(|svg| Figure { name, title: String::new(), svg, data: data(curves, what, traces), numbers: false })
        };
        let charts: Vec<Figure> =
            [figure("training-loss", loss, &losses), figure("validation", score, &scores)].into_iter().flatten().collect();
        panels.push(html! { div.panel {
            h3 { (curves.title) }
            div.pair { @for chart in &charts { figure { (PreEscaped(&chart.svg)) } } }
            (tables::curve_numbers(curves))
        } });
        figures.extend(charts);
    }
    let markup = html! { section aria-labelledby="training" {
        h2 #training { "Training" }
        p.lead { "A thin line is a run (a fold of a seed), the thick one their mean. Losses of different objectives are not comparable with each other." }
        @for panel in panels.iter().take(PANELS) { (panel) }
        @if panels.len() > PANELS { details { summary { "More recipes" } @for panel in panels[PANELS..].iter().take(MOST - PANELS) { (panel) } } }
        @if panels.len() > MOST { p.lead { "The curves of " (names::count(panels.len() - MOST, "recipe")) " more are in figures/." } }
    } };
    Ok((markup, figures))
}

/// Every epoch of every run.
fn data(curves: &Curves, what: &str, traces: &[Trace]) -> Vec<(String, Cells)> {
    let lines: Vec<(usize, &Epoch)> =
        curves.runs.iter().enumerate().flat_map(|(run, epochs)| epochs.iter().map(move |epoch| (run, epoch))).collect();
    let mut columns = vec![
        ("run".to_owned(), Cells::Whole(lines.iter().map(|(run, _)| *run as i64).collect())),
        ("epoch".to_owned(), Cells::Whole(lines.iter().map(|(_, epoch)| epoch.epoch as i64).collect())),
    ];
    for trace in traces {
        let name = names::slug(&format!("{what} {}", trace.label)).replace('-', "_");
        columns.push((name, Cells::Real(lines.iter().map(|(_, epoch)| (trace.field)(epoch)).collect())));
    }
    columns
}
