//! Accuracy, CMI, Γ and NCMI of the outputs over a training, a panel each, recipes as lines: the paper's Figure 4, and a section of reports.

use crate::ground::interval::Interval;
use crate::metrics::spread::mean_over_seeds;
use crate::render::figures::Line;
use crate::store::history::Epoch;

/// A column of the looks as a panel.
pub(super) struct Panel {
    pub title: &'static str,
    pub unit: &'static str,
    pub field: fn(&Epoch) -> f64,
}

pub(super) const PANELS: [Panel; 4] = [
    Panel { title: "Accuracy", unit: "percent", field: |line| 100.0 * line.accuracy },
    Panel { title: "CMI", unit: "nats", field: |line| line.cmi },
    Panel { title: "Γ", unit: "nats", field: |line| line.gamma },
    Panel { title: "NCMI", unit: "CMI / Γ", field: |line| line.ncmi },
];

/// What was seen of the outputs of a recipe's runs, seed by seed.
pub(super) struct Seen {
    pub label: String,
    pub runs: Vec<(u64, Vec<Epoch>)>,
}

impl Seen {
    /// Mean over seeds at each epoch at which every run looked.
    pub(super) fn mean(&self, field: fn(&Epoch) -> f64) -> Vec<(f64, Interval)> {
        let Some(((_, first), others)) = self.runs.split_first() else { return Vec::new() };
        let at = |line: &Epoch| {
            let same = others.iter().map(|(_, run)| run.iter().find(|other| other.epoch == line.epoch).map(field));
            let values: Option<Vec<f64>> = std::iter::once(Some(field(line))).chain(same).collect();
            values.map(|values| (line.epoch as f64, mean_over_seeds(&values)))
        };
        first.iter().filter_map(at).filter(|(_, mean)| mean.value.is_finite()).collect()
    }

    /// Single runs as thin lines, where there are several, and their mean.
    pub(super) fn line(&self, field: fn(&Epoch) -> f64, series: usize) -> Line {
        let points = |run: &[Epoch]| run.iter().map(|line| (line.epoch as f64, field(line))).filter(|point| point.1.is_finite()).collect();
        let runs = if self.runs.len() > 1 { self.runs.iter().map(|(_, run)| points(run)).collect() } else { Vec::new() };
        // The runs' lines show the spread; whiskers at every epoch would hide them.
        let mean = self.mean(field).into_iter().map(|(epoch, mean)| (epoch, Interval::point(mean.value))).collect();
        Line { label: self.label.clone(), runs, mean, series }
    }
}
