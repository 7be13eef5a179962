//! From the slides that were given to those that were scored: how many went at each step, and why.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::groups::Group;
use super::runs::Probe;
use crate::datasets::cohort::Status;
use crate::ground::listing::listing;
use crate::render::blocks::{Block, Cell, Column, Figure, Section, Table};
use crate::render::{self, Step, names};
use crate::store::table::{self, Cells};

/// Slides that are named on the page; the CSV names all.
const NAMED: usize = 50;
/// Different reasons in a box of the chart.
const REASONS: usize = 4;

/// A slide that went, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Gone {
    step: String,
    slide: String,
    reason: String,
}

/// What is known of the way of a cohort.
#[derive(Debug, Default)]
struct Way {
    steps: Vec<Step>,
    gone: Vec<Gone>,
    remarks: Vec<String>,
}

/// A division, the way of its cohort, and slides in each of its parts.
type Divided = (String, Way, Vec<(String, usize)>);

/// The section; `None` where neither the tiling nor the training run is there.
pub(super) fn section(groups: &[Group], notes: &mut Vec<String>) -> Result<Option<Section>> {
    let mut ways: Vec<Divided> = Vec::new();
    for group in groups.iter().filter(|group| group.key.labels == "true" && !names::of_images(&group.key.aggregator)) {
        let Some(probe) = group.probes().next() else { continue };
        let way = way(probe, notes);
        // Equal ways are one: divisions differ in their parts, which have a table of their own.
        if !way.steps.is_empty() && ways.iter().all(|(_, known, _)| known.steps != way.steps) {
            let part = |name: &str| Some((name.to_owned(), probe.scores.parts.get(name)?.iter().sum()));
            let parts = ["train", "valid", "test"].into_iter().filter_map(part).filter(|(_, count)| *count > 0).collect();
            ways.push((probe.scores.split.name.clone(), way, parts));
        }
    }
    let mut blocks = Vec::new();
    for (split, way, parts) in &ways {
        let named: Vec<(String, usize)> = parts.iter().map(|(part, count)| (format!("{part} ({split})"), *count)).collect();
        let alt = format!(
            "From {} slides to {}; the table that follows has every number.",
            way.steps[0].left,
            way.steps[way.steps.len() - 1].left
        );
        let short: Vec<(String, usize)> = parts.iter().map(|(part, count)| (part.clone(), *count)).collect();
        blocks.push(Block::Figures(vec![Figure {
            name: "cohort-flow".to_owned(),
            title: if parts.is_empty() { String::new() } else { format!("Parts: {split}") },
            svg: render::flow(&few_reasons(&way.steps), &short, &alt)?,
            data: data(&way.steps, &named),
            numbers: false,
        }]));
        blocks.push(Block::Table(table(&way.steps)));
        blocks.extend(way.remarks.iter().cloned().map(Block::Words));
        if !way.gone.is_empty() {
            blocks.push(Block::Folded(
                format!("{} left out, by name", names::count(way.gone.len(), "slide")),
                vec![Block::Table(named_table(&way.gone))],
            ));
        }
    }
    let lead = "From the slides that were given to those that were scored; what went at each step, and why.".to_owned();
    Ok((!blocks.is_empty()).then(|| Section { id: "flow", title: "Cohort".to_owned(), lead, blocks }))
}

fn way(probe: &Probe, notes: &mut Vec<String>) -> Way {
    let mut way = Way::default();
    if let Some(folder) = &probe.scores.tile_folder {
        way.read(&probe.folder.join(folder), "slides given to the tiling run", "tiled", &probe.name, notes);
    }
    if let Some(folder) = &probe.bags {
        way.read(folder, "slides given to the extract run", "with features", &probe.name, notes);
    }
    let of =
        |status: Status| probe.cohort.iter().filter(|entry| entry.status == status).map(|entry| entry.slide.clone()).collect::<Vec<_>>();
    if !probe.cohort.is_empty() {
        let [used, no_bag, no_label] = [Status::Used, Status::NoBag, Status::NoLabel].map(of);
        let bags = used.len() + no_label.len();
        way.enter(bags, "slides with a bag");
        let reason = "bag without a label";
        way.step("labelled and used", used.len(), no_label.into_iter().map(|slide| (slide, reason.to_owned())).collect());
        if !no_bag.is_empty() {
            way.remarks.push(format!(
                "{} in the labels {} no bag and could not be used: {}.",
                names::count(no_bag.len(), "slide"),
                if no_bag.len() == 1 { "has" } else { "have" },
                listing(&no_bag, ", ")
            ));
        }
        let patients: std::collections::BTreeSet<&str> =
            probe.cohort.iter().filter(|entry| entry.status == Status::Used).map(|entry| entry.patient.as_str()).collect();
        way.remarks.push(format!("The {} used are of {}.", names::count(used.len(), "slide"), names::count(patients.len(), "patient")));
    }
    way
}

impl Way {
    /// Takes the rows of a stage's `slides.csv`; a folder that is not there is no step.
    fn read(&mut self, folder: &Path, given: &str, done: &str, run: &str, notes: &mut Vec<String>) {
        let path = folder.join("slides.csv");
        if !path.is_file() {
            return;
        }
        let rows = || -> Result<Vec<(String, String, String)>> {
            let frame = table::read(&path)?;
            let text = |name: &str| table::text(&frame, name, &path);
            let (slides, statuses, reasons) = (text("slide_id")?, text("status")?, text("reason")?);
            Ok(slides.into_iter().zip(statuses).zip(reasons).map(|((slide, status), reason)| (slide, status, reason)).collect())
        };
        match rows() {
            Ok(rows) => {
                self.enter(rows.len(), given);
                let gone = rows.iter().filter(|row| row.1 != "done");
                let gone =
                    gone.map(|(slide, status, reason)| (slide.clone(), if reason.is_empty() { status } else { reason }.clone())).collect();
                self.step(done, rows.iter().filter(|row| row.1 == "done").count(), gone);
            }
            Err(error) => notes.push(format!(
                "The cohort of '{run}' is not whole: {}.",
                format!("{error:#}").replace(&format!("{}/", folder.display()), "")
            )),
        }
    }

    /// `count` slides come to the next step: as many as the last one left, fewer (the others went on elsewhere), or more.
    fn enter(&mut self, count: usize, what: &str) {
        match self.steps.last().map(|step| step.left) {
            None => self.steps.push(Step { title: what.to_owned(), left: count, gone: Vec::new() }),
            Some(before) if count < before => {
                self.steps.push(Step { title: what.to_owned(), left: count, gone: vec![("not passed on".to_owned(), before - count)] });
            }
            Some(before) if count > before => {
                self.remarks.push(format!("{} came in here from other runs: {what}.", names::count(count - before, "slide")));
                self.steps.push(Step { title: what.to_owned(), left: count, gone: Vec::new() });
            }
            Some(_) => {}
        }
    }

    /// `left` slides stay of those of the last step; the others are named.
    fn step(&mut self, title: &str, left: usize, gone: Vec<(String, String)>) {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for (slide, reason) in gone {
            *counts.entry(kind(&reason, &slide)).or_default() += 1;
            self.gone.push(Gone { step: title.to_owned(), slide, reason });
        }
        let mut gone: Vec<(String, usize)> = counts.into_iter().collect();
        gone.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        self.steps.push(Step { title: title.to_owned(), left, gone });
    }
}

/// What reasons of different slides have in common: what stands before the first colon or semicolon, without names and numbers.
fn kind(reason: &str, slide: &str) -> String {
    let plain = reason.replace(slide, "…");
    let quoted: String = plain.split('\'').enumerate().map(|(place, part)| if place % 2 == 1 { "…" } else { part }).collect();
    let first = quoted.split([':', ';']).map(str::trim).find(|part| part.chars().filter(|c| c.is_alphabetic()).count() > 3);
    first.unwrap_or(&quoted).chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).take(90).collect()
}

/// The commonest reasons, and the others in one.
fn few_reasons(steps: &[Step]) -> Vec<Step> {
    let few = |step: &Step| {
        let mut gone: Vec<(String, usize)> = step.gone.iter().take(REASONS).cloned().collect();
        let others: usize = step.gone.iter().skip(REASONS).map(|(_, count)| count).sum();
        if others > 0 {
            gone.push(("for other reasons".to_owned(), others));
        }
        Step { gone, ..step.clone() }
    };
    steps.iter().map(few).collect()
}

fn table(steps: &[Step]) -> Table {
    let columns = vec![Column::text("Step"), Column::number("Slides", ""), Column::number("Left out", ""), Column::text("Why")];
    let line = |step: &Step| {
        let why: Vec<String> = step.gone.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let gone: usize = step.gone.iter().map(|(_, count)| count).sum();
        vec![Cell::text(&step.title), Cell::text(&step.left.to_string()), Cell::text(&gone.to_string()), Cell::text(&why.join("; "))]
    };
    Table { name: "Cohort, step by step".to_owned(), columns, rows: steps.iter().map(line).collect(), folded: None }
}

fn named_table(gone: &[Gone]) -> Table {
    let columns = vec![Column::text("Slide"), Column::text("Not"), Column::text("Why")];
    let line = |one: &Gone| vec![Cell::text(&one.slide), Cell::text(&one.step), Cell::text(&one.reason)];
    let mut rows: Vec<Vec<Cell>> = gone.iter().take(NAMED).map(line).collect();
    if gone.len() > NAMED {
        rows.push(vec![
            Cell::text(&format!("and {} more; slides.csv and failed.csv of the runs name them", gone.len() - NAMED)),
            Cell::text(""),
            Cell::text(""),
        ]);
    }
    Table { name: "Slides that were left out".to_owned(), columns, rows, folded: None }
}

fn data(steps: &[Step], parts: &[(String, usize)]) -> Vec<(String, Cells)> {
    let mut lines: Vec<(String, usize, usize, String)> = Vec::new();
    for step in steps {
        lines.push((step.title.clone(), step.left, 0, String::new()));
        lines.extend(step.gone.iter().map(|(reason, count)| (step.title.clone(), step.left, *count, reason.clone())));
    }
    lines.extend(parts.iter().map(|(part, count)| (part.clone(), *count, 0, String::new())));
    vec![
        ("step".to_owned(), Cells::Text(lines.iter().map(|line| line.0.clone()).collect())),
        ("slides".to_owned(), Cells::Whole(lines.iter().map(|line| line.1 as i64).collect())),
        ("left_out".to_owned(), Cells::Whole(lines.iter().map(|line| line.2 as i64).collect())),
        ("reason".to_owned(), Cells::Text(lines.into_iter().map(|line| line.3).collect())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_a_kind_are_counted_together() {
        let tissue = |squares: u32| format!("no tissue: none of {squares} squares has 0.1 of it; look at visualization/s{squares}.jpg");
        assert_eq!(kind(&tissue(12), "s12"), "no tissue");
        assert_eq!(kind("'s1.svs' is no slide; it may be damaged", "s1"), "… is no slide");
        assert_eq!(kind("s1: it has 3 levels", "s1"), "it has # levels");
    }

    #[test]
    fn every_slide_that_comes_in_stays_or_goes() {
        let mut way = Way::default();
        way.enter(10, "given");
        way.step("tiled", 8, vec![("a".into(), "no tissue: x".into()), ("b".into(), "no tissue: y".into())]);
        way.enter(7, "given to the extract run");
        way.step("with features", 6, vec![("c".into(), "unreadable".into())]);
        way.enter(6, "with a bag");
        way.step("used", 5, vec![("d".into(), "bag without a label".into())]);
        for pair in way.steps.windows(2) {
            assert_eq!(pair[0].left, pair[1].left + pair[1].gone.iter().map(|(_, count)| count).sum::<usize>(), "{pair:?}");
        }
        assert_eq!((way.steps.len(), way.gone.len()), (5, 4));
        assert_eq!(way.steps[1].gone, [("no tissue".to_owned(), 2)]);
        way.enter(9, "of two extract runs");
        assert!(way.remarks[0].contains("4 slides came in here"), "{:?}", way.remarks);
    }
}
