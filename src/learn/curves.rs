//! What an epoch makes of the output distributions: accuracy, CMI, Γ and NCMI, for every loss (the paper's Fig. 4).

use anyhow::Result;
use rand::seq::SliceRandom;

use super::evaluate::{Evaluated, evaluate, rows};
use super::{Learner, Training};
use crate::ground::seed;
use crate::metrics::classification::{Confusion, argmax};
use crate::metrics::information::{Gamma, concentration};
use crate::store::history::{Epoch, MeasuredOn};

/// Most training rows that a point of the curves is measured on; bounds its time, and its memory to this many distributions.
const TRAINING_SAMPLES: usize = 2000;

/// Fills the columns of an epoch from what the model makes of the rows `on`; `probabilities [n][C]` by the objective's own rule.
pub fn measure(seen: &Evaluated, probabilities: &[Vec<f64>], on: MeasuredOn, line: &mut Epoch) {
    let targets = seen.targets();
    let decided: Vec<usize> = probabilities.iter().map(|row| argmax(row)).collect();
    let classes = probabilities.first().map_or(0, Vec::len);
    line.measured_on = Some(on);
    line.accuracy = Confusion::new(&targets, &decided, classes).accuracy();
    let found = concentration(&rows(&seen.log_distributions.exp()), &targets, classes, Gamma::Centroid);
    (line.cmi, line.gamma, line.ncmi) = (found.cmi, found.gamma, found.ncmi);
}

/// Fills the columns from a sample of the training rows, the same in every epoch, without augmentation.
///
/// A loss with class centroids gets them from the sample itself, which spares a pass over all training rows.
///
/// # Errors
/// A sample that cannot be read, or an interruption.
pub(super) fn measure_on_training_sample(learner: &mut Learner, training: &Training, batch_size: usize, line: &mut Epoch) -> Result<()> {
    let mut sample = training.train.0.clone();
    sample.shuffle(&mut seed::stream(training.seed, "curves"));
    sample.truncate(TRAINING_SAMPLES);
    let seen = evaluate(learner, training.dataset, &sample, batch_size, training.device)?;
    if learner.loss.wants_refresh() {
        learner.loss.refresh(&seen.output(training.device), &seen.targets.to_device(training.device));
    }
    measure(&seen, &seen.probabilities(learner), MeasuredOn::TrainingSample, line);
    Ok(())
}
