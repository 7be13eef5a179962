//! Accuracy, CMI, Γ and NCMI of the test images over a training, a panel each, recipes as lines (Figure 4).

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::choose::Choice;
use super::runs::Finished;
use super::{Setting, Shown};
use crate::ground::interval::Interval;
use crate::render::blocks::{Block, Cell, Column, Table};
use crate::render::figures::{self, Axes, Line};
use crate::render::names;
use crate::stages::course::{PANELS, Seen};
use crate::stages::watch;
use crate::store::history::{self, Epoch};
use crate::store::table::Cells;

/// Lines of the numbers behind the panels.
const LINES: usize = 12;

/// Settings of `course`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Course {
    /// The recipes, a line each.
    pub lines: Vec<Choice>,
    /// What the paper says of it, in words.
    pub paper: String,
}

impl Course {
    pub(super) fn show(&self, runs: &[Finished], setting: &Setting) -> Result<Shown> {
        let mut seen = Vec::new();
        for choice in &self.lines {
            let mut looks = Vec::new();
            for run in choice.of(runs)? {
                let path = run.train_folder.join(watch::CURVES);
                let looked = history::read_as(&path).with_context(|| format!("the run '{}': set train.watch-test", run.name))?;
                looks.push((run.seed, looked));
            }
            if !looks.is_empty() {
                seen.push(Seen { label: choice.label.clone(), runs: looks });
            }
        }
        ensure!(!seen.is_empty(), "[page.exhibit]: none of the runs is a recipe of the list");
        let mut charts = Vec::new();
        for panel in &PANELS {
            let lines: Vec<Line> = seen.iter().enumerate().map(|(series, of)| of.line(panel.field, series)).collect();
            let alt = format!(
                "{} of the test images over epochs for {}; the numbers are in the table that follows.",
                panel.title, setting.page.title
            );
            charts.push(figures::lines(&lines, &Axes { title: panel.title, x: "epoch", y: panel.unit, doubling: false }, &alt)?);
        }
        let lead = "Measured on the test images while the models were trained. Nothing was selected on them: no epoch, no rate, no checkpoint. \
                    A thin line is a seed, the thick one their mean.";
        Ok(Shown {
            verdict: seen.iter().map(ending).collect::<Vec<_>>().join(" "),
            blocks: vec![Block::heading(&setting.page.source, lead), Block::Pictures(charts.clone()), Block::Table(table(&seen))],
            notes: Vec::new(),
            methods: vec![
                "A recipe with a head decides by it, NCMI by the nearest class mean of the training images' output distributions under that epoch's \
                 model. CMI, Γ (by class centroids) and NCMI are of the recipe's own output distribution: soft-max over classes for cross-entropy, \
                 over the embedding's coordinates for NCMI. The two have other numbers of coordinates, so that CMI and Γ compare within NCMI, not \
                 with cross-entropy."
                    .to_owned(),
                format!("The paper: {}", self.paper),
            ],
            table: numbers(&seen),
            picture: Some(figures::standalone(&charts, 2)),
        })
    }
}

/// Where a recipe ends, and from where it fell if it fell.
fn ending(of: &Seen) -> String {
    let accuracy = of.mean(PANELS[0].field);
    let Some((last_epoch, last)) = accuracy.last() else { return format!("{} was never looked at.", of.label) };
    let best = accuracy.iter().max_by(|a, b| a.1.value.total_cmp(&b.1.value)).expect("there is a last one");
    let ncmi = of.mean(PANELS[3].field).last().filter(|(epoch, _)| epoch == last_epoch).map(|(_, mean)| mean.value);
    let ncmi = ncmi.map_or_else(|| "NCMI undefined".to_owned(), |ncmi| format!("NCMI {ncmi:.3}"));
    let fell =
        if last.value < best.1.value / 2.0 { format!(", after {:.1}\u{a0}% at epoch {:.0}", best.1.value, best.0) } else { String::new() };
    format!("{} ends at {:.1}\u{a0}%{fell}, {ncmi} ({}).", of.label, last.value, names::count(of.runs.len(), "seed"))
}

fn table(seen: &[Seen]) -> Table {
    let mut columns = vec![Column::text("Recipe"), Column::number("Epoch", "")];
    columns.extend(PANELS.iter().map(|panel| Column::number(panel.title, panel.unit)));
    let mut rows = Vec::new();
    for of in seen {
        let means: Vec<_> = PANELS.iter().map(|panel| of.mean(panel.field)).collect();
        let epochs: Vec<f64> = means[0].iter().map(|point| point.0).collect();
        let stride = epochs.len().div_ceil(LINES).max(1);
        for (index, epoch) in epochs.iter().enumerate().filter(|(index, _)| index.is_multiple_of(stride) || index + 1 == epochs.len()) {
            let of_panel = |mean: &Vec<(f64, Interval)>| {
                mean.iter().find(|point| point.0 == *epoch).map_or_else(|| "–".to_owned(), |point| figures::short(point.1.value))
            };
            let mut cells = vec![Cell::text(if index == 0 { &of.label } else { "" }), Cell::text(&format!("{epoch:.0}"))];
            cells.extend(means.iter().map(|mean| Cell::text(&of_panel(mean))));
            rows.push(cells);
        }
    }
    Table { name: "Numbers of the panels".to_owned(), columns, rows, folded: Some("Numbers, mean over seeds".to_owned()) }
}

fn numbers(seen: &[Seen]) -> Vec<(String, Cells)> {
    let lines: Vec<(&str, u64, &Epoch)> = seen
        .iter()
        .flat_map(|of| of.runs.iter().flat_map(move |(seed, run)| run.iter().map(move |line| (of.label.as_str(), *seed, line))))
        .collect();
    let mut columns = vec![
        ("recipe".to_owned(), Cells::Text(lines.iter().map(|line| line.0.to_owned()).collect())),
        ("seed".to_owned(), Cells::Whole(lines.iter().map(|line| line.1 as i64).collect())),
        ("epoch".to_owned(), Cells::Whole(lines.iter().map(|line| line.2.epoch as i64).collect())),
    ];
    for (name, field) in ["accuracy_percent", "cmi", "gamma", "ncmi"].into_iter().zip(PANELS.map(|panel| panel.field)) {
        columns.push((name.to_owned(), Cells::Real(lines.iter().map(|line| field(line.2)).collect())));
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collapse_is_said() {
        let run = |accuracies: [f64; 3]| {
            accuracies
                .into_iter()
                .zip(1..)
                .map(|(accuracy, epoch)| Epoch { accuracy, ncmi: 0.5, ..Epoch::new(epoch, 0.0, 0.0) })
                .collect::<Vec<_>>()
        };
        let of = Seen { label: "NSF alone".into(), runs: vec![(0, run([0.3, 0.6, 0.1])), (1, run([0.5, 0.8, 0.3]))] };
        assert_eq!(ending(&of), "NSF alone ends at 20.0\u{a0}%, after 70.0\u{a0}% at epoch 2, NCMI 0.500 (2 seeds).");
    }
}
