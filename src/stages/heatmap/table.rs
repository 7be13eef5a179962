//! `slides.csv`: a line a slide, for spreadsheets.

use std::path::Path;

use anyhow::Result;

use crate::store::heatmap::{Agreement, HeatmapFile, SlideMap};
use crate::store::table::{self, Cells};

/// # Errors
/// Names the file.
pub(super) fn write(path: &Path, file: &HeatmapFile) -> Result<()> {
    let text = |cell: &dyn Fn(&SlideMap) -> &str| Cells::Text(file.slides.iter().map(|map| cell(map).to_owned()).collect());
    let agreed = |cell: &dyn Fn(&Agreement) -> String| {
        Cells::Text(file.slides.iter().map(|map| map.agreement.as_ref().map(cell).unwrap_or_default()).collect())
    };
    let number = |value: f64| if value.is_finite() { value.to_string() } else { String::new() };
    let columns: Vec<(String, Cells)> = file
        .classes
        .iter()
        .enumerate()
        .map(|(class, name)| (format!("p_{name}"), Cells::Real(file.slides.iter().map(|map| map.probabilities[class]).collect())))
        .collect();
    let mut all = vec![
        ("slide_id", text(&|map| &map.slide_id)),
        ("patient_id", text(&|map| &map.patient_id)),
        ("label", text(&|map| &map.label)),
        ("predicted", text(&|map| &map.predicted)),
        ("tiles", Cells::Whole(file.slides.iter().map(|map| map.tiles as i64).collect())),
    ];
    all.extend(columns.iter().map(|(name, cells)| (name.as_str(), cells.clone())));
    if file.annotations.is_some() {
        all.extend([
            ("tiles_inside", agreed(&|a| a.tiles_inside.to_string())),
            ("attention_auroc", agreed(&|a| number(a.auroc))),
            ("attention_auprc", agreed(&|a| number(a.auprc))),
            ("pointing", agreed(&|a| a.pointing.to_string())),
            ("lesions", agreed(&|a| a.lesions.to_string())),
        ]);
    }
    table::write(path, all)
}
