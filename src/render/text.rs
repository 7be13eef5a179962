//! Score tables for a terminal or a pipe.

use crate::render::names;
use crate::store::heatmap::{Agreement, HeatmapFile, SlideMap};
use crate::store::pooled::{Pooled, Row};
use crate::store::scores::{Decision, ScoreFile, Selection};

/// Verdict, then one line for each row, aligned; ends with a line break.
pub fn table(pooled: &Pooled) -> String {
    let head = ["recipe", "model", "split", "macro-F1", "macro-AUC", "seeds", "folds", "slides"].map(str::to_owned);
    let cells = |row: &Row| {
        [
            names::row(row),
            if names::of_images(&row.aggregator) { row.encoder.clone() } else { row.aggregator.clone() },
            if row.group.is_empty() || row.group == row.split { row.split.clone() } else { format!("{} · {}", row.group, row.split) },
            row.macro_f1.to_string(),
            row.macro_auc.to_string(),
            row.seeds.to_string(),
            format!("{}/{}", row.folds, row.folds_expected),
            row.slides.to_string(),
        ]
    };
    let lines: Vec<_> = std::iter::once(head).chain(pooled.rows.iter().map(cells)).collect();
    let mut text = format!("{}\n\n{}", pooled.verdict, aligned(&lines));
    for waiver in &pooled.waivers {
        text.push_str(&format!("\nWAIVED: {waiver}"));
    }
    for note in &pooled.notes {
        text.push_str(&format!("\nnote: {note}"));
    }
    if !(pooled.notes.is_empty() && pooled.waivers.is_empty()) {
        text.push('\n');
    }
    text
}

/// One trained model under every decision rule: what was tested, then one line a rule, aligned; ends with a line break.
pub fn decisions(scores: &ScoreFile) -> String {
    let head = ["decision", "macro-F1", "macro-AUC"].map(str::to_owned);
    let name = |decision: Decision| names::recipe_and_decision(&scores.loss, scores.epochs, decision);
    let lines = Decision::ALL.into_iter().filter_map(|decision| {
        let of = scores.decisions.get(&decision)?;
        Some([name(decision), of.macro_f1.to_string(), of.macro_auc.to_string()])
    });
    let lines: Vec<_> = std::iter::once(head).chain(lines).collect();
    let chosen = |(decision, selection): (&Decision, &Selection)| {
        let values: Vec<String> = selection.chosen.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let score = selection.validation_macro_f1.map_or_else(String::new, |f1| format!(" ({f1:.3}, best of {})", selection.candidates));
        format!("{}: {}, chosen by {}{score}\n", name(*decision), values.join(", "), selection.by)
    };
    let chosen: String = scores.selections.iter().map(chosen).collect();
    let labels = if scores.labels == "true" { String::new() } else { format!(" with labels {}", scores.labels) };
    format!(
        "test rows{labels}: {}, of {}; {} checkpoint\n\n{}\nintervals: {}\n{chosen}",
        names::crowd(scores.slides, scores.patients, &scores.aggregator),
        scores.split.name,
        scores.checkpoint,
        aligned(&lines),
        scores.interval,
    )
}

/// What a model looked at, one line a slide, aligned, and what agrees with annotations; ends with a line break.
pub fn heatmap(file: &HeatmapFile) -> String {
    let head = ["slide", "label", "predicted", "tiles", "tiles inside", "AUROC", "AUPRC", "pointing"].map(str::to_owned);
    let number = |value: f64| if value.is_finite() { format!("{value:.3}") } else { "–".to_owned() };
    let cells = |map: &SlideMap| {
        let agreement = map.agreement.as_ref();
        let of = |cell: &dyn Fn(&Agreement) -> String| agreement.map_or_else(|| "–".to_owned(), cell);
        [
            map.slide_id.clone(),
            map.label.clone(),
            map.predicted.clone(),
            map.tiles.to_string(),
            of(&|a| a.tiles_inside.to_string()),
            of(&|a| number(a.auroc)),
            of(&|a| number(a.auprc)),
            of(&|a| if a.pointing { "inside" } else { "outside" }.to_owned()),
        ]
    };
    let lines: Vec<_> = std::iter::once(head).chain(file.slides.iter().map(cells)).collect();
    let mut text = format!("{} with {}, seed {}, {}\n\n{}", file.aggregator, file.loss, file.seed, file.split.name, aligned(&lines));
    if file.branches == 0 {
        text.push_str("\nThe aggregator has no attention: maps show the score of the chosen class.\n");
    }
    if let Some(froc) = &file.froc {
        let points: Vec<String> = froc.points.iter().map(|(most, share)| format!("{share:.2} at {most}")).collect();
        text.push_str(&format!(
            "\n{} lesions on {} annotated slides; found, at false positives a slide: {}; mean {:.3}\n",
            froc.lesions,
            froc.slides,
            points.join(", "),
            froc.score
        ));
    }
    text
}

pub(super) fn aligned<const N: usize>(lines: &[[String; N]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: &[String; N]| {
        let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    };
    lines.iter().map(line).collect()
}
