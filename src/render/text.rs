//! Score tables for a terminal or a pipe.

use crate::render::names;
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

pub(super) fn aligned<const N: usize>(lines: &[[String; N]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: &[String; N]| {
        let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    };
    lines.iter().map(line).collect()
}
