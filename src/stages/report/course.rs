//! What became of the output distributions while the models were trained: accuracy, CMI, Γ and NCMI over epochs.

use anyhow::Result;

use super::sides::{Judged, LINES, Side};
use crate::render::blocks::{Block, Figure, Section};
use crate::render::figures::{self, Axes};
use crate::render::names;
use crate::stages::course::{PANELS, Seen};
use crate::store::history::{Epoch, MeasuredOn};
use crate::store::table::Cells;

/// Epochs of a line that are drawn; all are in the files.
const POINTS: usize = 100;
/// Thin lines of a recipe.
const RUNS: usize = 12;

/// The section; `None` where no run measured anything.
pub(super) fn section(sides: &[Side]) -> Result<Option<Section>> {
    let mut blocks = Vec::new();
    let mut on = Vec::new();
    for side in sides {
        let all: Vec<(usize, Seen)> =
            side.recipes.iter().map(|recipe| (recipe.series, seen(recipe))).filter(|(_, seen)| !seen.runs.is_empty()).collect();
        if all.is_empty() {
            continue;
        }
        on.extend(all.iter().flat_map(|(_, seen)| &seen.runs).flat_map(|(_, run)| run).filter_map(|epoch| epoch.measured_on));
        let charts = PANELS.iter().map(|panel| {
            let line = |(series, seen): &(usize, Seen)| {
                let mut line = thinned(seen).line(panel.field, *series);
                line.runs.truncate(RUNS);
                line
            };
            let lines: Vec<figures::Line> = all.iter().take(LINES).map(line).collect();
            let alt = format!("{} over epochs for {}; some of the numbers follow.", panel.title, names::count(lines.len(), "recipe"));
            let axes = Axes { title: "", x: "epoch", y: panel.unit, doubling: false };
            Ok(Figure {
                name: names::slug(&format!("course {} {}", if panel.title == "Γ" { "gamma" } else { panel.title }, side.title)),
                title: panel.title.to_owned(),
                svg: figures::lines(&lines, &axes, &alt)?,
                data: data(&all, panel.field),
                numbers: true,
            })
        });
        if sides.len() > 1 {
            blocks.push(Block::Title(side.title.clone()));
        }
        blocks.push(Block::Figures(charts.collect::<Result<_>>()?));
    }
    let rows = |which: MeasuredOn| on.contains(&which);
    let measured = [
        (MeasuredOn::Test, "the test rows, on which nothing was selected"),
        (MeasuredOn::Validation, "the validation rows"),
        (MeasuredOn::TrainingSample, "a sample of the training rows (set train.watch-test for the test rows)"),
    ];
    let measured: Vec<&str> = measured.into_iter().filter(|(which, _)| rows(*which)).map(|(_, words)| words).collect();
    let lead = format!(
        "Of the objective's own output distribution, measured on {}. Small CMI: outputs of one class are alike; large Γ: classes lie far \
         apart; NCMI is their quotient. The numbers of coordinates differ between objectives, so that CMI and Γ compare within one. Thin lines \
         are runs, at most {RUNS} of a recipe; the thick one is their mean.",
        measured.join(" and on ")
    );
    Ok((!blocks.is_empty()).then(|| Section { id: "course", title: "CMI, Γ, NCMI and accuracy over epochs".to_owned(), lead, blocks }))
}

/// What the runs of a recipe measured: on the test rows if all of them did, otherwise what their histories hold.
fn seen(recipe: &Judged) -> Seen {
    let trained: Vec<_> = recipe.group.probes().filter(|probe| !probe.history.is_empty()).collect();
    let watched = !trained.is_empty() && trained.iter().all(|probe| !probe.watched.is_empty());
    let runs = trained.iter().map(|probe| {
        let lines: &[Epoch] = if watched { &probe.watched } else { &probe.history };
        (probe.scores.seed, lines.iter().filter(|line| line.measured_on.is_some()).copied().collect::<Vec<_>>())
    });
    Seen {
        label: names::recipe(&recipe.group.key.loss, recipe.group.key.epochs) + &recipe.suffix,
        runs: runs.filter(|(_, run)| !run.is_empty()).collect(),
    }
}

/// Every so many epochs, the last one included.
fn thinned(seen: &Seen) -> Seen {
    let thin = |run: &[Epoch]| -> Vec<Epoch> {
        let stride = run.len().div_ceil(POINTS).max(1);
        let kept = |index: &usize| index.is_multiple_of(stride) || index + 1 == run.len();
        (0..run.len()).filter(kept).map(|index| run[index]).collect()
    };
    Seen { label: seen.label.clone(), runs: seen.runs.iter().map(|(seed, run)| (*seed, thin(run))).collect() }
}

/// Mean over runs at each epoch.
fn data(all: &[(usize, Seen)], field: fn(&Epoch) -> f64) -> Vec<(String, Cells)> {
    let lines: Vec<(&str, f64, f64)> = all
        .iter()
        .flat_map(|(_, seen)| seen.mean(field).into_iter().map(|(epoch, mean)| (seen.label.as_str(), epoch, mean.value)))
        .collect();
    vec![
        ("recipe".to_owned(), Cells::Text(lines.iter().map(|line| line.0.to_owned()).collect())),
        ("epoch".to_owned(), Cells::Whole(lines.iter().map(|line| line.1 as i64).collect())),
        ("mean_over_runs".to_owned(), Cells::Real(lines.iter().map(|line| line.2).collect())),
    ]
}
