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
}

/// Writes the table into a training folder.
///
/// # Errors
/// Names the file.
pub fn write(folder: &Path, epochs: &[Epoch]) -> Result<()> {
    let real = |field: fn(&Epoch) -> f64| Cells::Real(epochs.iter().map(field).collect());
    let columns = vec![
        ("epoch", Cells::Whole(epochs.iter().map(|e| e.epoch as i64).collect())),
        ("learning_rate", real(|e| e.learning_rate)),
        ("train_loss", real(|e| e.train_loss)),
        ("valid_loss", real(|e| e.valid_loss)),
        ("valid_macro_f1", real(|e| e.valid_macro_f1)),
        ("valid_macro_auc", real(|e| e.valid_macro_auc)),
    ];
    table::write(&folder.join(FILE), columns)
}

/// Reads the table of a training folder.
///
/// # Errors
/// Names the file: a missing column, a cell that is no number.
pub fn read(folder: &Path) -> Result<Vec<Epoch>> {
    let path = folder.join(FILE);
    let frame = table::read(&path)?;
    let real = |name: &str| table::real(&frame, name, &path);
    let (epoch, learning_rate, train_loss) = (real("epoch")?, real("learning_rate")?, real("train_loss")?);
    let (valid_loss, valid_macro_f1, valid_macro_auc) = (real("valid_loss")?, real("valid_macro_f1")?, real("valid_macro_auc")?);
    let row = |i: usize| Epoch {
        epoch: epoch[i] as usize,
        learning_rate: learning_rate[i],
        train_loss: train_loss[i],
        valid_loss: valid_loss[i],
        valid_macro_f1: valid_macro_f1[i],
        valid_macro_auc: valid_macro_auc[i],
    };
    Ok((0..epoch.len()).map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_validation_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let nan = f64::NAN;
        let epoch = Epoch { epoch: 1, learning_rate: 5e-4, train_loss: 0.75, valid_loss: nan, valid_macro_f1: nan, valid_macro_auc: nan };
        write(folder.path(), &[epoch]).unwrap();
        let read = read(folder.path()).unwrap();
        assert_eq!((read[0].epoch, read[0].train_loss), (1, 0.75));
        assert!(read[0].valid_loss.is_nan());
    }
}
