//! Checkpoint → predictions → scores.

use super::found::{Found, Run};
use super::{Outcome, broken, digest_of, not_checked, outputs};
use crate::learn::checkpoint;
use crate::store::predictions::{self, Prediction};
use crate::store::scores::ScoreFile;

pub(super) fn links(run: &Run, found: &Found, add: &mut impl FnMut(&'static str, Outcome)) {
    add("checkpoint → predictions", judged(run, found));
    add("predictions", outputs(run, "the probe"));
    add("predictions → scores", scored(run));
}

/// The checkpoint that was judged is the one in the train run.
fn judged(run: &Run, found: &Found) -> Outcome {
    let expected = run.inputs.get("train");
    let Some(train) = found.of_stage("train").find(|other| Some(&other.digest) == expected) else {
        return not_checked("its train run is not among the folders; name it, too");
    };
    let Some(recorded) = run.figure("checkpoint") else {
        return not_checked(format!("it judged {}, and recorded no digest of the checkpoint: an older version made it", train.name));
    };
    let name = if ScoreFile::read(&run.folder)?.checkpoint == "best" { checkpoint::BEST } else { checkpoint::LAST };
    match digest_of(&train.folder.join(name)) {
        Some(digest) if recorded == &digest => Ok(format!("{name} of {}", train.name)),
        Some(_) => broken(format!("{name} of {} is not the one that was judged", train.name)),
        None => broken(format!("{name} of {} cannot be read", train.name)),
    }
}

/// The counts of labels and predictions follow from the table of predictions.
fn scored(run: &Run) -> Outcome {
    let scores = ScoreFile::read(&run.folder)?;
    if scores.settings.pointer("/probe/keep-probabilities") == Some(&serde_json::Value::Bool(false)) {
        return not_checked("the predictions were written without probabilities");
    }
    let predictions = predictions::read(&run.folder, &scores.classes)?;
    for (decision, of) in &scores.decisions {
        let rows = predictions.get(decision).map_or(&[][..], Vec::as_slice);
        if counts(rows, scores.classes.len()) != of.confusion {
            return broken(format!("scores.json counts other predictions than predictions.csv has, for '{}'", decision.name()));
        }
    }
    Ok(format!("{} decision rules", scores.decisions.len()))
}

/// `[C][C]`, rows are labels, columns predictions.
fn counts(rows: &[Prediction], classes: usize) -> Vec<Vec<u64>> {
    let mut counts = vec![vec![0; classes]; classes];
    for row in rows {
        counts[row.label][row.predicted] += 1;
    }
    counts
}
