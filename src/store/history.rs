//! `history.csv`: one line per epoch of a training run, for curves and for choosing a checkpoint.

use std::path::Path;

use anyhow::Result;

use super::table::{self, Cells};

/// The file's name inside a training folder.
pub const FILE: &str = "history.csv";

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
    /// Share of right decisions of the objective's own rule; with the next three on the validation rows, or without any on a
    /// sample of the training rows, in evaluation mode. NaN where the epoch was not measured.
    pub accuracy: f64,
    /// Conditional mutual information of the output distributions, nats.
    pub cmi: f64,
    /// Their separation Γ, centroid form, nats.
    pub gamma: f64,
    /// CMI / Γ
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
            accuracy: nan,
            cmi: nan,
            gamma: nan,
            ncmi: nan,
        }
    }

    /// All columns but the epoch's number, by name, in the order of the file.
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

type Field = fn(&Epoch) -> f64;
type FieldMut = fn(&mut Epoch) -> &mut f64;

/// Writes the table into a training folder.
///
/// # Errors
/// Names the file.
pub fn write(folder: &Path, epochs: &[Epoch]) -> Result<()> {
    let mut columns = vec![("epoch", Cells::Whole(epochs.iter().map(|e| e.epoch as i64).collect()))];
    columns.extend(Epoch::COLUMNS.map(|(name, field, _)| (name, Cells::Real(epochs.iter().map(field).collect()))));
    table::write(&folder.join(FILE), columns)
}

/// Reads the table of a training folder.
///
/// # Errors
/// Names the file: a missing column, a cell that is no number.
pub fn read(folder: &Path) -> Result<Vec<Epoch>> {
    let path = folder.join(FILE);
    let frame = table::read(&path)?;
    let nan = f64::NAN;
    let mut epochs: Vec<Epoch> =
        table::real(&frame, "epoch", &path)?.into_iter().map(|epoch| Epoch::new(epoch as usize, nan, nan)).collect();
    for (name, _, field) in Epoch::COLUMNS {
        for (epoch, value) in epochs.iter_mut().zip(table::real(&frame, name, &path)?) {
            *field(epoch) = value;
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
        write(folder.path(), &[Epoch { ncmi: 0.25, ..Epoch::new(1, 5e-4, 0.75) }]).unwrap();
        let read = read(folder.path()).unwrap();
        assert_eq!((read[0].epoch, read[0].train_loss, read[0].ncmi), (1, 0.75, 0.25));
        assert!(read[0].valid_loss.is_nan());
    }
}
