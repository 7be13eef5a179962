//! What an epoch of each objective costs: seconds and memory, and how much more than the first one's (Table IV).

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::choose::{Choice, Where};
use super::runs::{Finished, by_seed};
use super::{Setting, Shown};
use crate::render::blocks::{Block, Cell, Column, Table};
use crate::store::table::Cells;

/// Settings of `costs`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Costs {
    /// Networks, left to right.
    pub columns: Vec<Choice>,
    /// Objectives, top to bottom; the first is what the others are held against.
    pub rows: Vec<Row>,
    /// The machine behind the paper's values, in words.
    pub paper_machine: String,
}

/// An objective.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Row {
    /// Its name.
    pub label: String,
    /// Its settings.
    #[serde(rename = "where")]
    pub chosen: Where,
    /// The paper's seconds an epoch and GB, network by network; none where it has none.
    #[serde(default)]
    pub paper: Vec<[f64; 2]>,
}

/// What one objective costs on one network.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Cost {
    /// Median over epochs; the first epoch counts only where it is the only one.
    seconds: Option<f64>,
    epochs: usize,
    /// Bytes.
    memory: Option<f64>,
    paper: Option<[f64; 2]>,
}

impl Costs {
    pub(super) fn show(&self, runs: &[Finished], setting: &Setting) -> Result<Shown> {
        for row in &self.rows {
            let given = row.paper.len();
            ensure!(given == 0 || given == self.columns.len(), "[page.exhibit]: row '{}' has {given} of the paper's pairs", row.label);
        }
        let costs = self.rows.iter().map(|row| self.costs(row, runs)).collect::<Result<Vec<_>>>()?; // [row][column]
        let columns: Vec<usize> = (0..self.columns.len()).filter(|&column| costs.iter().any(|row| row[column].seconds.is_some())).collect();
        ensure!(!columns.is_empty(), "[page.exhibit]: none of the runs fits a row and a column, or none measured its epochs");
        let devices: std::collections::BTreeSet<&str> = runs.iter().filter_map(|run| run.train.figures["device"].as_str()).collect();
        let on = devices.into_iter().collect::<Vec<_>>().join(", ");
        let lead = format!(
            "Seconds of an epoch's steps and the most memory of a run, measured on {on}; in brackets how many times the first line's. \
             Below, the paper's ratios, from {}.",
            self.paper_machine
        );
        let mut notes = Vec::new();
        if costs.iter().flatten().any(|cost| cost.seconds.is_some() && cost.memory.is_none()) {
            notes.push("This system does not tell the most memory of a single run; it is left out.".to_owned());
        }
        Ok(Shown {
            verdict: self.verdict(&costs, &columns),
            blocks: vec![Block::heading(&setting.page.source, &lead), Block::Table(self.table(&costs, &columns))],
            notes,
            methods: vec![
                "Seconds are the median over a run's epochs without the first, which pays for warming up; validation, looks at test images and \
                 checkpoints are not counted. On a GPU memory is what the run held there at most; on a processor it is the most memory of the \
                 process while it trained, the images included, and what an earlier run of the same call left unused can count. Only ratios \
                 carry over between machines."
                    .to_owned(),
            ],
            table: self.numbers(&costs, &columns),
            picture: None,
        })
    }

    fn costs(&self, row: &Row, runs: &[Finished]) -> Result<Vec<Cost>> {
        let of = |(index, column): (usize, &Choice)| {
            let chosen = runs.iter().filter(|run| row.chosen.is_met_by(run) && column.chosen.is_met_by(run)).collect();
            let chosen = by_seed(chosen, &format!("{}, {}", row.label, column.label))?;
            let paper = row.paper.get(index).copied();
            Ok(chosen.first().map_or(Cost { paper, ..Cost::default() }, |run| measured(run, paper)))
        };
        self.columns.iter().enumerate().map(of).collect()
    }

    fn table(&self, costs: &[Vec<Cost>], columns: &[usize]) -> Table {
        let mut head = vec![Column::text("Objective")];
        for &column in columns {
            head.push(Column::number(&self.columns[column].label, "seconds an epoch"));
            head.push(Column::number(&self.columns[column].label, "GB at most"));
        }
        let rows = self.rows.iter().zip(costs).map(|(row, own)| {
            let mut cells = vec![Cell::text(&row.label)];
            for &column in columns {
                let (cost, first) = (&own[column], &costs[0][column]);
                let paper = |place: usize| Some((cost.paper?[place], first.paper?[place]));
                cells.push(cell(cost.seconds, first.seconds, paper(0)));
                cells.push(cell(cost.memory.map(|bytes| bytes / 1e9), first.memory.map(|bytes| bytes / 1e9), paper(1)));
            }
            cells
        });
        Table { name: "Costs".to_owned(), columns: head, rows: rows.collect(), folded: None }
    }

    fn verdict(&self, costs: &[Vec<Cost>], columns: &[usize]) -> String {
        let mut parts = Vec::new();
        for &column in columns {
            let Some(first) = costs[0][column].seconds else { continue };
            let others = self.rows.iter().zip(costs).skip(1).filter_map(|(row, own)| {
                let ratio = own[column].seconds? / first;
                Some(format!("{} {ratio:.2}", row.label))
            });
            let others: Vec<String> = others.collect();
            parts.push(format!("An epoch on {}, in epochs of {}: {}.", self.columns[column].label, self.rows[0].label, others.join(", ")));
        }
        parts.join(" ")
    }

    fn numbers(&self, costs: &[Vec<Cost>], columns: &[usize]) -> Vec<(String, Cells)> {
        let lines: Vec<(&str, &str, Cost)> = self
            .rows
            .iter()
            .zip(costs)
            .flat_map(|(row, own)| {
                columns.iter().map(move |&column| (row.label.as_str(), self.columns[column].label.as_str(), own[column]))
            })
            .collect();
        let real = |of: fn(&Cost) -> Option<f64>| Cells::Real(lines.iter().map(|line| of(&line.2).unwrap_or(f64::NAN)).collect());
        vec![
            ("objective".to_owned(), Cells::Text(lines.iter().map(|line| line.0.to_owned()).collect())),
            ("network".to_owned(), Cells::Text(lines.iter().map(|line| line.1.to_owned()).collect())),
            ("seconds_an_epoch".to_owned(), real(|cost| cost.seconds)),
            ("epochs_measured".to_owned(), Cells::Whole(lines.iter().map(|line| line.2.epochs as i64).collect())),
            ("bytes_at_most".to_owned(), real(|cost| cost.memory)),
            ("paper_seconds".to_owned(), real(|cost| cost.paper.map(|paper| paper[0]))),
            ("paper_gb".to_owned(), real(|cost| cost.paper.map(|paper| paper[1]))),
        ]
    }
}

fn measured(run: &Finished, paper: Option<[f64; 2]>) -> Cost {
    let figures = &run.train.figures;
    let all: Vec<f64> = figures["epoch_seconds"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_f64).collect();
    let warm = if all.len() > 1 { &all[1..] } else { &all[..] };
    let memory = figures["peak_gpu_memory"].as_f64().or_else(|| figures["peak_memory"].as_f64());
    Cost { seconds: median(warm), epochs: warm.len(), memory, paper }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// `paper`: its value and that of its first line.
fn cell(value: Option<f64>, first: Option<f64>, paper: Option<(f64, f64)>) -> Cell {
    let text = match (value, first) {
        (None, _) => "–".to_owned(),
        (Some(value), Some(first)) if first > 0.0 => format!("{} (× {:.2})", significant(value), value / first),
        (Some(value), _) => significant(value),
    };
    let under = paper.map_or_else(String::new, |(value, first)| format!("paper {} (× {:.2})", significant(value), value / first));
    Cell { text, under, strong: false }
}

/// Three digits that count.
fn significant(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 1.0 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_epoch_counts_only_alone() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0]), median(&[])), (Some(2.0), Some(2.5), None));
        let shown = cell(Some(0.5), Some(0.25), Some((592.0, 399.0)));
        assert_eq!((shown.text.as_str(), shown.under.as_str()), ("0.500 (× 2.00)", "paper 592 (× 1.48)"));
    }
}
