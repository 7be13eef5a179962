//! NCMI of the test images against accuracy over several trained networks, and how the two hang together (Figure 2).

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::choose::Choice;
use super::runs::Finished;
use super::{Setting, Shown, seeds};
use crate::ground::interval::Interval;
use crate::metrics::correlation::{pearson, spearman};
use crate::metrics::spread::mean_over_seeds;
use crate::render::blocks::{Block, Cell, Column, Table};
use crate::render::figures::{self, Axes, Point};
use crate::store::scores::Decision;
use crate::store::table::Cells;

/// Settings of `scatter`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scatter {
    /// The networks, a point each: their mean over seeds.
    pub points: Vec<Choice>,
    /// What the paper says of it, in words.
    pub paper: String,
}

/// A network.
struct Network<'a> {
    label: &'a str,
    seeds: usize,
    ncmi: Interval,
    /// Percent.
    accuracy: Interval,
}

impl Scatter {
    pub(super) fn show(&self, runs: &[Finished], setting: &Setting) -> Result<Shown> {
        let (mut networks, mut undefined) = (Vec::new(), Vec::new());
        for choice in &self.points {
            let chosen = choice.of(runs)?;
            let ncmi = |run: &&Finished| run.scores.as_ref().and_then(|scores| scores.information.as_ref()).map_or(f64::NAN, |of| of.ncmi);
            let accuracy: Vec<f64> = chosen.iter().map(|run| 100.0 * run.figure(Decision::Own, "top_1_accuracy")).collect();
            let network = Network {
                label: &choice.label,
                seeds: chosen.len(),
                ncmi: mean_over_seeds(&chosen.iter().map(ncmi).collect::<Vec<_>>()),
                accuracy: mean_over_seeds(&accuracy),
            };
            if network.ncmi.value.is_finite() && network.accuracy.value.is_finite() {
                networks.push(network);
            } else if network.seeds > 0 {
                undefined.push(choice.label.as_str());
            }
        }
        ensure!(!networks.is_empty(), "[page.exhibit]: none of the runs is a network of the list");
        let columns = |of: fn(&Network) -> f64| networks.iter().map(of).collect::<Vec<_>>();
        let (x, y) = (columns(|n| n.ncmi.value), columns(|n| n.accuracy.value));
        let (r, rho) = (pearson(&x, &y), spearman(&x, &y));
        let points: Vec<Point> = networks.iter().map(|n| Point { label: n.label.to_owned(), x: n.ncmi, y: n.accuracy }).collect();
        let axes = Axes { title: "", x: "NCMI of the test images", y: "Top-1 accuracy, %", doubling: false };
        let alt = format!("{} as points, NCMI against accuracy; the numbers are in the table that follows.", setting.page.title);
        let chart = figures::scatter(&points, &axes, &alt)?;
        Ok(Shown {
            verdict: verdict(&r, &rho, networks.len()),
            blocks: vec![
                Block::heading(
                    &setting.page.source,
                    "A point is a network, its mean over seeds; lines are Student's 95 % intervals over seeds. Small NCMI: the outputs of a class \
                     lie close together and far from those of other classes.",
                ),
                Block::Pictures(vec![chart.clone()]),
                Block::Table(table(&networks)),
            ],
            notes: if undefined.is_empty() {
                Vec::new()
            } else {
                vec![format!("NCMI is undefined where the classes' outputs are equal: {} left out.", undefined.join(", "))]
            },
            methods: vec![
                "NCMI is CMI / Γ of the soft-max outputs on all test images, Γ by class centroids. Correlations are over the networks' means; their \
                 intervals treat networks as independent draws, which networks of one family on one training set are not: they show how little a \
                 handful of points can say, not more."
                    .to_owned(),
                format!("The paper: {}", self.paper),
            ],
            table: vec![
                ("network".to_owned(), Cells::Text(networks.iter().map(|n| n.label.to_owned()).collect())),
                ("seeds".to_owned(), Cells::Whole(networks.iter().map(|n| n.seeds as i64).collect())),
                ("ncmi".to_owned(), Cells::Real(x)),
                ("top_1_percent".to_owned(), Cells::Real(y)),
            ],
            picture: Some(figures::standalone(&[chart], 1)),
        })
    }
}

fn table(networks: &[Network]) -> Table {
    let columns = vec![
        Column::text("Network"),
        Column::number("NCMI", "95 % interval"),
        Column::number("Top-1", "percent"),
        Column::number("Seeds", ""),
    ];
    let row = |n: &Network| {
        let ncmi = if n.ncmi.is_bounded() {
            format!("{} ± {}", figures::short(n.ncmi.value), figures::short(n.ncmi.high - n.ncmi.value))
        } else {
            figures::short(n.ncmi.value)
        };
        let half = n.accuracy.high - n.accuracy.value;
        let accuracy =
            if n.accuracy.is_bounded() { format!("{:.2} ± {half:.2}", n.accuracy.value) } else { format!("{:.2}", n.accuracy.value) };
        vec![Cell::text(n.label), Cell::text(&ncmi), Cell::text(&accuracy), Cell::text(&seeds(n.seeds))]
    };
    Table { name: "Networks".to_owned(), columns, rows: networks.iter().map(row).collect(), folded: None }
}

fn verdict(r: &Interval, rho: &Interval, networks: usize) -> String {
    let shown = |of: &Interval| {
        let text = match (of.value.is_finite(), of.is_bounded()) {
            (false, _) => "undefined".to_owned(),
            (true, false) => format!("{:+.2}", of.value),
            (true, true) => format!("{:+.2} (95 % interval {:+.2} to {:+.2})", of.value, of.low, of.high),
        };
        text.replace('-', "−")
    };
    let says = match (r.is_bounded(), r.low > 0.0, r.high < 0.0) {
        (false, ..) if networks < 4 => "Fewer than four networks have no interval, and decide nothing.",
        (false, ..) => "Without an interval this decides nothing.",
        (_, _, true) => "Networks with smaller NCMI are the more accurate ones.",
        (_, true, _) => "Networks with larger NCMI are the more accurate ones, the opposite of what the paper finds.",
        _ => "The interval includes 0: these networks show no relation.",
    };
    format!("NCMI and accuracy over {networks} networks: Pearson {}, Spearman {}. {says}", shown(r), shown(rho))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_correlation_says() {
        let of = |value, low, high| Interval { low, high, ..Interval::point(value) };
        let said = verdict(&of(-0.9, -0.98, -0.5), &of(-0.8, -0.95, -0.2), 6);
        assert!(
            said.contains("Pearson −0.90 (95 % interval −0.98 to −0.50)") && said.contains("smaller NCMI are the more accurate"),
            "{said}"
        );
        assert!(verdict(&Interval::point(-1.0), &Interval::point(-1.0), 3).contains("decide nothing"));
        assert!(verdict(&of(0.1, -0.5, 0.6), &of(0.1, -0.5, 0.6), 8).contains("no relation"));
    }
}
