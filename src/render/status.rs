//! How far a pipeline is: a table for a terminal, a tree for programs, a page for people.

use maud::{Markup, html};
use serde::Serialize;

use super::names;
use super::page::document;
use super::text::aligned;
use crate::ground::listing::listing;

/// A pipeline's stages, and what to do next.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The pipeline's name.
    pub pipeline: String,
    /// In their order.
    pub stages: Vec<Row>,
    /// All stages are complete.
    pub complete: bool,
    /// What to do, or that there is nothing to do.
    pub next: String,
    /// What could not be found out.
    pub notes: Vec<String>,
    /// Of this program.
    pub version: &'static str,
}

/// One stage.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its name.
    pub stage: String,
    /// What it works on, in the plural.
    pub what: &'static str,
    /// How many there are.
    pub items: usize,
    /// Of these, how many are whole.
    pub done: usize,
    /// Of these, how many somebody works on at this moment.
    pub in_work: usize,
    /// Jobs at work.
    pub running: usize,
    /// Jobs that wait, also for the stage before.
    pub waiting: usize,
    /// Jobs and items that failed.
    pub failed: Vec<Problem>,
    /// Jobs that are in the queue no more and left no exit code, and items whose worker is silent.
    pub lost: Vec<Problem>,
    /// Nothing is left to do.
    pub complete: bool,
}

/// A job or an item, and what became of it.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// A share (`3/8`), or an item's name.
    pub of: String,
    /// Why.
    pub reason: String,
}

impl Row {
    fn state(&self) -> &'static str {
        match self {
            Self { complete: true, .. } => "complete",
            Self { running: 1.., .. } | Self { in_work: 1.., .. } => "running",
            Self { waiting: 1.., .. } => "waiting",
            Self { failed, .. } if !failed.is_empty() => "failed",
            Self { lost, .. } if !lost.is_empty() => "lost",
            Self { done: 1.., .. } => "begun",
            _ => "to do",
        }
    }

    fn problems(&self) -> impl Iterator<Item = (String, Vec<&Problem>)> {
        [("failed", &self.failed), ("lost", &self.lost)].into_iter().flat_map(|(kind, problems)| {
            // Many jobs fail for one reason.
            let mut reasons: Vec<&str> = problems.iter().map(|problem| problem.reason.as_str()).collect();
            reasons.sort_unstable();
            reasons.dedup();
            let of = |reason: &str| problems.iter().filter(|problem| problem.reason == reason).collect::<Vec<_>>();
            reasons.into_iter().map(|reason| (kind.to_owned(), of(reason))).collect::<Vec<_>>()
        })
    }
}

const HEAD: [&str; 9] = ["stage", "state", "of", "done", "in work", "jobs running", "waiting", "failed", "lost"];

fn cells(row: &Row) -> [String; 9] {
    let count = |count: usize| if count == 0 { "–".to_owned() } else { count.to_string() };
    [
        row.stage.clone(),
        row.state().to_owned(),
        format!("{} {}", row.items, row.what),
        row.done.to_string(),
        count(row.in_work),
        count(row.running),
        count(row.waiting),
        count(row.failed.len()),
        count(row.lost.len()),
    ]
}

fn which(problems: &[&Problem]) -> String {
    listing(&problems.iter().map(|problem| problem.of.as_str()).collect::<Vec<_>>(), ", ")
}

/// One line a stage, aligned, then one for each reason why something failed, then what to do; ends with a line break.
pub fn text(status: &Status) -> String {
    let lines: Vec<_> = std::iter::once(HEAD.map(str::to_owned)).chain(status.stages.iter().map(cells)).collect();
    let mut text = aligned(&lines);
    for row in &status.stages {
        for (kind, problems) in row.problems() {
            let reason = problems.first().map_or("", |problem| problem.reason.as_str());
            text.push_str(&format!("{} {kind}: {}: {reason}\n", row.stage, which(&problems)));
        }
    }
    for note in &status.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    format!("{text}\n{}\n", status.next)
}

/// The same as a page; refers to nothing outside itself.
pub fn page(status: &Status) -> String {
    let sum = |of: fn(&Row) -> usize| status.stages.iter().map(of).sum::<usize>();
    let body = html! {
        header {
            p.brand { "wsi status" }
            h1 { (status.pipeline) }
            p.verdict { (status.next) }
            dl.facts {
                @for (name, count) in [
                    ("stages complete", status.stages.iter().filter(|row| row.complete).count()),
                    ("jobs running", sum(|row| row.running)),
                    ("waiting", sum(|row| row.waiting)),
                    ("failed", sum(|row| row.failed.len())),
                    ("lost", sum(|row| row.lost.len())),
                ] { div { dt { (name) } dd { (count) } } }
            }
            @if !status.notes.is_empty() { (super::page::notes(&status.notes)) }
        }
        main {
            section aria-labelledby="stages" {
                h2 #stages { "Stages" }
                (table(&status.stages))
            }
            @if status.stages.iter().any(|row| row.problems().next().is_some()) {
                section aria-labelledby="problems" { h2 #problems { "What failed or was lost" } (problems(&status.stages)) }
            }
        }
        footer { p { "wsi " (status.version) } }
    };
    document(&format!("{}: status", status.pipeline), &body)
}

fn table(rows: &[Row]) -> Markup {
    html! { div.wide tabindex="0" role="region" aria-label="Stages" { table {
        thead { tr { @for (column, name) in HEAD.into_iter().enumerate() { th scope="col" class=[(column > 2).then_some("number")] { (name) } } } }
        tbody { @for row in rows { tr {
            @for (column, cell) in cells(row).into_iter().enumerate() {
                @match column {
                    0 => { th scope="row" { (cell) } }
                    1 if ["failed", "lost"].contains(&row.state()) => { td.warn { (cell) } }
                    1 | 2 => { td { (cell) } }
                    _ => { td.number { (cell) } }
                }
            }
        } } }
    } } }
}

fn problems(rows: &[Row]) -> Markup {
    html! { div.wide tabindex="0" role="region" aria-label="What failed or was lost" { table.small {
        thead { tr { th scope="col" { "stage" } th scope="col" { "" } th scope="col" { "which" } th scope="col" { "why" } } }
        tbody { @for row in rows { @for (kind, problems) in row.problems() { tr {
            th scope="row" { (row.stage) }
            td.warn { (kind) }
            td { (which(&problems)) span.under { (names::count(problems.len(), "item")) } }
            td { (problems.first().map_or("", |problem| problem.reason.as_str())) }
        } } } }
    } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half_failed() -> Status {
        let problem = |of: &str, reason: &str| Problem { of: of.to_owned(), reason: reason.to_owned() };
        let row = |stage: &str, what, items, done| Row {
            stage: stage.to_owned(),
            what,
            items,
            done,
            in_work: 0,
            running: 0,
            waiting: 0,
            failed: Vec::new(),
            lost: Vec::new(),
            complete: items == done,
        };
        let killed = "OUT_OF_MEMORY: killed for memory";
        let extract = Row {
            failed: vec![problem("2/4", killed), problem("3/4", killed)],
            lost: vec![problem("4/4", "no <exit> code")],
            ..row("extract", "slides", 48, 12)
        };
        let stages = vec![row("tile", "slides", 48, 48), extract, Row { waiting: 4, in_work: 1, ..row("train", "trainings", 200, 0) }];
        Status { pipeline: "lung".into(), stages, complete: false, next: "repeat it".into(), notes: vec!["a note".into()], version: "1" }
    }

    #[test]
    fn the_table_is_aligned_and_reasons_are_said_once() {
        let expected = "\
stage    state     of             done  in work  jobs running  waiting  failed  lost
tile     complete  48 slides      48    –        –             –        –       –
extract  failed    48 slides      12    –        –             –        2       1
train    running   200 trainings  0     1        –             4        –       –
extract failed: 2/4, 3/4: OUT_OF_MEMORY: killed for memory
extract lost: 4/4: no <exit> code
note: a note

repeat it
";
        assert_eq!(text(&half_failed()), expected);
    }

    #[test]
    fn the_page_says_the_same_and_escapes_it() {
        let page = page(&half_failed());
        for part in ["<h1>lung</h1>", "OUT_OF_MEMORY", "2/4, 3/4", "no &lt;exit&gt; code", "repeat it"] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("http"), "the page refers to nothing outside itself");
    }
}
