//! The score table for a terminal or a pipe.

use crate::render::names;
use crate::store::pooled::{Pooled, Row};

/// Verdict, then one line for each row, aligned; ends with a line break.
pub fn table(pooled: &Pooled) -> String {
    let head = ["recipe", "split", "macro-F1", "macro-AUC", "seeds", "folds", "slides"].map(str::to_owned);
    let cells = |row: &Row| {
        [
            names::row(row),
            row.split.clone(),
            row.macro_f1.to_string(),
            row.macro_auc.to_string(),
            row.seeds.to_string(),
            format!("{}/{}", row.folds, row.folds_expected),
            row.slides.to_string(),
        ]
    };
    let lines: Vec<_> = std::iter::once(head).chain(pooled.rows.iter().map(cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = format!("{}\n\n", pooled.verdict);
    for line in &lines {
        let padded: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    for note in &pooled.notes {
        text.push_str(&format!("\nnote: {note}"));
    }
    if !pooled.notes.is_empty() {
        text.push('\n');
    }
    text
}
