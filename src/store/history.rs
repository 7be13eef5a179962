//! `history.csv`: one line per epoch of a training run, for curves and for choosing a checkpoint.

use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::table::{self, Cells};

/// The file's name inside a training folder.
pub const FILE: &str = "history.csv";

/// Rows on which the curves of an epoch were measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MeasuredOn {
    /// All validation rows.
    Validation,
    /// A fixed random sample of the training rows, without augmentation.
    TrainingSample,
    /// All test rows, for figures: nothing was chosen by it.
    Test,
}

impl MeasuredOn {
    /// The name in outputs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Validation => "validation",
            Self::TrainingSample => "training-sample",
            Self::Test => "test",
        }
    }
}

/// The column of [`Epoch::measured_on`].
const MEASURED_ON: &str = "measured_on";

/// One pass over the training set. The `valid_` fields are NaN where there is no validation set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Epoch {
    /// From 1.
    pub epoch: usize,
    /// At the epoch's first step.
    pub learning_rate: f64,
    /// Mean over the training set, in training mode.
    pub train_loss: f64,
    /// Mean over the validation set, in evaluation mode.
    pub valid_loss: f64,
    /// Of the objective's own decision.
    pub valid_macro_f1: f64,
    /// Of the objective's own probabilities.
    pub valid_macro_auc: f64,
    /// Rows of the next four, in evaluation mode; `None` where the epoch was not measured, they are NaN then.
    pub measured_on: Option<MeasuredOn>,
    /// Share of right decisions of the objective's own rule.
    pub accuracy: f64,
    /// Conditional mutual information of the output distributions, nats.
    pub cmi: f64,
    /// Their separation Γ, centroid form, nats.
    pub gamma: f64,
    /// CMI / Γ; NaN also where there is no separation.
    pub ncmi: f64,
}

impl Epoch {
    /// An epoch of which nothing else is known.
    pub fn new(epoch: usize, learning_rate: f64, train_loss: f64) -> Self {
        let nan = f64::NAN;
        Self {
            epoch,
            learning_rate,
            train_loss,
            valid_loss: nan,
            valid_macro_f1: nan,
            valid_macro_auc: nan,
            measured_on: None,
            accuracy: nan,
            cmi: nan,
            gamma: nan,
            ncmi: nan,
        }
    }

    /// All columns of real numbers, by name, in the order of the file.
    pub const COLUMNS: [(&'static str, Field, FieldMut); 9] = [
        ("learning_rate", |e| e.learning_rate, |e| &mut e.learning_rate),
        ("train_loss", |e| e.train_loss, |e| &mut e.train_loss),
        ("valid_loss", |e| e.valid_loss, |e| &mut e.valid_loss),
        ("valid_macro_f1", |e| e.valid_macro_f1, |e| &mut e.valid_macro_f1),
        ("valid_macro_auc", |e| e.valid_macro_auc, |e| &mut e.valid_macro_auc),
        ("accuracy", |e| e.accuracy, |e| &mut e.accuracy),
        ("cmi", |e| e.cmi, |e| &mut e.cmi),
        ("gamma", |e| e.gamma, |e| &mut e.gamma),
        ("ncmi", |e| e.ncmi, |e| &mut e.ncmi),
    ];
}

/// Columns that came with `measured_on`.
const CURVES: [&str; 4] = ["accuracy", "cmi", "gamma", "ncmi"];

type Field = fn(&Epoch) -> f64;
type FieldMut = fn(&mut Epoch) -> &mut f64;

/// Writes the table into a training folder.
///
/// # Errors
/// Names the file.
pub fn write(folder: &Path, epochs: &[Epoch]) -> Result<()> {
    write_as(&folder.join(FILE), epochs)
}

/// [`write`] under a name of its own.
///
/// # Errors
/// Names the file.
pub fn write_as(path: &Path, epochs: &[Epoch]) -> Result<()> {
    let mut columns = vec![("epoch", Cells::Whole(epochs.iter().map(|e| e.epoch as i64).collect()))];
    columns.extend(Epoch::COLUMNS.map(|(name, field, _)| (name, Cells::Real(epochs.iter().map(field).collect()))));
    let measured_on = epochs.iter().map(|e| e.measured_on.map_or("", MeasuredOn::name).to_owned());
    columns.push((MEASURED_ON, Cells::Text(measured_on.collect())));
    table::write(path, columns)
}

/// Reads the table of a training folder; in one of an earlier version, without the curves, these are NaN.
///
/// # Errors
/// Names the file: a missing column, a cell that is no number.
pub fn read(folder: &Path) -> Result<Vec<Epoch>> {
    read_as(&folder.join(FILE))
}

/// [`read`] of a table under a name of its own.
///
/// # Errors
/// As [`read`].
pub fn read_as(path: &Path) -> Result<Vec<Epoch>> {
    let frame = table::read(path)?;
    let nan = f64::NAN;
    let mut epochs: Vec<Epoch> =
        table::real(&frame, "epoch", path)?.into_iter().map(|epoch| Epoch::new(epoch as usize, nan, nan)).collect();
    let with_curves = table::has(&frame, MEASURED_ON);
    for (name, _, field) in Epoch::COLUMNS.into_iter().filter(|(name, ..)| with_curves || !CURVES.contains(name)) {
        for (epoch, value) in epochs.iter_mut().zip(table::real(&frame, name, path)?) {
            *field(epoch) = value;
        }
    }
    if with_curves {
        for (epoch, name) in epochs.iter_mut().zip(table::text(&frame, MEASURED_ON, path)?) {
            epoch.measured_on =
                [MeasuredOn::Validation, MeasuredOn::TrainingSample, MeasuredOn::Test].into_iter().find(|rows| rows.name() == name);
        }
    }
    Ok(epochs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_validation_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let measured = Epoch { measured_on: Some(MeasuredOn::TrainingSample), ncmi: 0.25, ..Epoch::new(1, 5e-4, 0.75) };
        write(folder.path(), &[measured, Epoch::new(2, 5e-4, 0.5)]).unwrap();
        let read = read(folder.path()).unwrap();
        assert_eq!((read[0].epoch, read[0].train_loss, read[0].ncmi), (1, 0.75, 0.25));
        assert_eq!((read[0].measured_on, read[1].measured_on), (Some(MeasuredOn::TrainingSample), None));
        assert!(read[0].valid_loss.is_nan() && read[1].ncmi.is_nan());
    }

    #[test]
    fn a_table_without_curves_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let head = "epoch,learning_rate,train_loss,valid_loss,valid_macro_f1,valid_macro_auc";
        std::fs::write(folder.path().join(FILE), format!("{head}\n1,0.1,0.75,0.5,0.9,0.95\n")).unwrap();
        let read = read(folder.path()).unwrap();
        assert_eq!((read[0].valid_macro_auc, read[0].measured_on), (0.95, None));
        assert!(read[0].accuracy.is_nan());
    }
}
