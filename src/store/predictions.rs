//! `predictions.csv`: what each decision rule said of each test slide; enough to compute every score again.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, anyhow, bail};

use super::scores::Decision;
use super::table::{self, Cells};

/// The file's name inside a probe folder.
pub const FILE: &str = "predictions.csv";

/// One test slide under one decision rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The slide, or the image's name.
    pub slide_id: String,
    /// Whom the slide belongs to; intervals resample patients.
    pub patient_id: String,
    /// Index of the true class.
    pub label: usize,
    /// Index of the chosen class.
    pub predicted: usize,
    /// `[C]`, sums to 1.
    pub probabilities: Vec<f64>,
}

/// The test slides by decision rule.
pub type Predictions = BTreeMap<Decision, Vec<Prediction>>;

/// Writes the table into a probe folder: `decision,slide_id,patient_id,label,predicted,p_<class>…`, the last only `with_probabilities`.
///
/// # Errors
/// Names the file.
pub fn write(folder: &Path, classes: &[String], predictions: &Predictions, with_probabilities: bool) -> Result<()> {
    let rows: Vec<(Decision, &Prediction)> =
        predictions.iter().flat_map(|(decision, rows)| rows.iter().map(move |row| (*decision, row))).collect();
    let text = |cell: &dyn Fn(Decision, &Prediction) -> String| Cells::Text(rows.iter().map(|(d, row)| cell(*d, row)).collect());
    let names: Vec<String> = classes.iter().map(|class| column(class)).collect();
    let mut columns = vec![
        ("decision", text(&|decision, _| decision.name().to_owned())),
        ("slide_id", text(&|_, row| row.slide_id.clone())),
        ("patient_id", text(&|_, row| row.patient_id.clone())),
        ("label", text(&|_, row| classes[row.label].clone())),
        ("predicted", text(&|_, row| classes[row.predicted].clone())),
    ];
    for (index, name) in names.iter().enumerate().filter(|_| with_probabilities) {
        columns.push((name, Cells::Real(rows.iter().map(|(_, row)| row.probabilities[index]).collect())));
    }
    table::write(&folder.join(FILE), columns)
}

/// Reads the table of a probe folder.
///
/// # Errors
/// Names the file and the slide: a missing column, a class that is not in `classes`, a probability that is no number.
pub fn read(folder: &Path, classes: &[String]) -> Result<Predictions> {
    let path = folder.join(FILE);
    let frame = table::read(&path)?;
    let text = |name: &str| table::text(&frame, name, &path);
    let (decisions, slides, patients) = (text("decision")?, text("slide_id")?, text("patient_id")?);
    let (labels, predicted) = (text("label")?, text("predicted")?);
    let probabilities = classes.iter().map(|class| table::real(&frame, &column(class), &path)).collect::<Result<Vec<Vec<f64>>>>()?; // [C][rows]
    let class = |name: &str, slide: &str| {
        classes
            .iter()
            .position(|known| known == name)
            .ok_or_else(|| anyhow!("'{}': slide '{slide}': class '{name}' is not one of: {}", path.display(), classes.join(", ")))
    };
    let mut predictions = Predictions::new();
    for (row, slide) in slides.iter().enumerate() {
        let Some(decision) = Decision::named(&decisions[row]) else {
            bail!("'{}': slide '{slide}': '{}' is no decision rule", path.display(), decisions[row]);
        };
        let probabilities: Vec<f64> = probabilities.iter().map(|column| column[row]).collect();
        if probabilities.iter().any(|p| !p.is_finite()) {
            bail!("'{}': slide '{slide}': a probability is missing or not finite; run `wsi probe` again", path.display());
        }
        predictions.entry(decision).or_default().push(Prediction {
            slide_id: slide.clone(),
            patient_id: patients[row].clone(),
            label: class(&labels[row], slide)?,
            predicted: class(&predicted[row], slide)?,
            probabilities,
        });
    }
    Ok(predictions)
}

fn column(class: &str) -> String {
    format!("p_{class}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let classes = ["normal".to_owned(), "tumour, mixed".to_owned()];
        let row = |slide: &str, label, p: f64| Prediction {
            slide_id: slide.into(),
            patient_id: "007".into(),
            label,
            predicted: usize::from(p < 0.5),
            probabilities: vec![p, 1.0 - p],
        };
        let predictions = Predictions::from([
            (Decision::Cc, vec![row("s1", 0, 1.0 / 3.0)]),
            (Decision::Lp, vec![row("s1", 0, 0.1), row("s2", 1, 1e-12)]),
        ]);
        write(folder.path(), &classes, &predictions, true).unwrap();
        assert_eq!(read(folder.path(), &classes).unwrap(), predictions);
        write(folder.path(), &classes, &predictions, false).unwrap();
        let error = read(folder.path(), &classes).unwrap_err().to_string();
        assert!(error.contains("no column 'p_normal'"), "{error}");
    }
}
