//! Predictions → attention and class scores of every tile.

use super::found::{Found, Run};
use super::{Outcome, not_checked, outputs};

pub(super) fn links(run: &Run, found: &Found, add: &mut impl FnMut(&'static str, Outcome)) {
    add("predictions → heatmap", looked(run, found));
    add("heatmap", outputs(run, "the look"));
}

/// The probe run whose slides were looked at is the one that is there.
fn looked(run: &Run, found: &Found) -> Outcome {
    let expected = run.inputs.get("probe");
    match found.of_stage("probe").find(|other| Some(&other.digest) == expected) {
        Some(probe) => Ok(format!("of {}", probe.name)),
        None => not_checked("its probe run is not among the folders; name it, too"),
    }
}
