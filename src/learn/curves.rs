//! What each epoch makes of the output distributions: accuracy, CMI, Γ and NCMI, for every loss (the paper's Fig. 4).

use anyhow::Result;
use rand::seq::SliceRandom;

use super::Learner;
use super::evaluate::{Evaluated, evaluate, rows};
use super::fit::Training;
use crate::ground::seed;
use crate::metrics::classification::{Confusion, argmax};
use crate::metrics::information::{Gamma, concentration};
use crate::store::history::Epoch;

/// Most samples that a point of the curves is measured on; bounds its time, and its memory to this many distributions.
const SAMPLES: usize = 2000;

/// Rows that the curves are measured on: of the validation rows if there are any, else of the training rows.
pub(super) fn sample(training: &Training) -> Vec<usize> {
    let from = if training.valid.0.is_empty() { &training.train.0 } else { &training.valid.0 };
    let mut rows = from.clone();
    rows.shuffle(&mut seed::stream(training.seed, "curves"));
    rows.truncate(SAMPLES);
    rows
}

/// Fills the columns of an epoch. Without validation rows a loss with centroids takes them from the sample itself.
///
/// # Errors
/// A sample that cannot be read, or an interruption.
pub(super) fn measure(learner: &mut Learner, training: &Training, rows_at: &[usize], batch_size: usize, line: &mut Epoch) -> Result<()> {
    let seen = evaluate(learner, training.dataset, rows_at, batch_size, training.device)?;
    if training.valid.0.is_empty() && learner.loss.wants_refresh() {
        learner.loss.refresh(&seen.output(training.device), &seen.targets.to_device(training.device));
    }
    fill(learner, &seen, training.dataset.classes().len(), line);
    Ok(())
}

fn fill(learner: &Learner, seen: &Evaluated, classes: usize, line: &mut Epoch) {
    let targets = seen.targets();
    let decided: Vec<usize> = seen.probabilities(learner).iter().map(|row| argmax(row)).collect();
    line.accuracy = Confusion::new(&targets, &decided, classes).accuracy();
    let found = concentration(&rows(&seen.log_distributions.exp()), &targets, classes, Gamma::Centroid);
    (line.cmi, line.gamma, line.ncmi) = (found.cmi, found.gamma, found.ncmi);
}
