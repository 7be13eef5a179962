//! Features and labels → checkpoint.

use std::path::Path;

use anyhow::{Context, Result};

use super::found::{Found, Run};
use super::{Inputs, Outcome, broken, not_checked, outputs};
use crate::datasets::DataKind;
use crate::datasets::cohort::{self, Status};
use crate::stages::{Data, settings_of};
use crate::store::{bag, table};

pub(super) fn links(run: &Run, found: &Found, inputs: &Inputs, add: &mut impl FnMut(&'static str, Outcome)) {
    let bags = settings_of(&run.folder).is_ok_and(|config| config.train.data == DataKind::Bags);
    add(if bags { "features → checkpoint" } else { "data → checkpoint" }, data(run, found, inputs.data.as_deref()));
    if run.inputs.contains_key("labels") {
        add("labels → checkpoint", labels(run, inputs.labels.as_deref()));
    }
    add("checkpoint", outputs(run, "the training"));
}

/// The run's data are an extract run among those given, and its bags hold what they held; else what `--data` names has its digest.
fn data(run: &Run, found: &Found, given: Option<&Path>) -> Outcome {
    let expected = run.inputs.get("data");
    if let Some(bags) = found.of_stage("extract").find(|other| Some(&other.digest) == expected) {
        return features(run, bags);
    }
    let Some(given) = given else {
        return not_checked("what was trained on is not among the folders; name the extract run, too, or give --data");
    };
    let config = settings_of(&run.folder)?;
    let data = Data { data: given.to_owned(), labels: None, split: None };
    match data.digests(&config)?.get("data") {
        digest if digest == expected => Ok("the data have their digest".to_owned()),
        _ => broken("the data given are not those that were trained on"),
    }
}

/// The seals of the bags that were used.
fn features(run: &Run, bags: &Run) -> Outcome {
    let Some(expected) = run.figure("bags") else {
        return not_checked(format!("it was trained on {}, and recorded no digest of its bags: an older version made it", bags.name));
    };
    let ids = used(&run.folder.join(cohort::FILE))?;
    match bag::seal_of_all(&bag::folder(&bags.folder), &ids).context("a bag that was trained on is missing")? {
        Some(digest) if expected == &digest => Ok(format!("{} bags of {}", ids.len(), bags.name)),
        _ => broken(format!("the bags in {} are not those that were trained on", bags.name)),
    }
}

/// Slides that were trained or tested on, in the data set's order.
fn used(path: &Path) -> Result<Vec<String>> {
    let frame = table::read(path)?;
    let rows = table::text(&frame, "slide_id", path)?.into_iter().zip(table::text(&frame, "status", path)?);
    Ok(rows.filter(|(_, status)| status == Status::Used.name()).map(|(id, _)| id).collect())
}

fn labels(run: &Run, given: Option<&Path>) -> Outcome {
    let Some(given) = given else { return not_checked("no --labels") };
    match cohort::labels_digest(given)? {
        digest if run.inputs.get("labels") == Some(&digest) => Ok(digest),
        _ => broken("the labels given are not those that were trained on"),
    }
}
