//! `wsi status`: how far a pipeline is, from its folders and from Slurm's queue.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

use super::Pipeline;
use super::executors::slurm::{self, End, Queued};
use super::executors::{Call, Record, Submission, Submitted};
use super::survey::{self, StageState, survey};
use crate::render::status::{Problem, Row, Status};
use crate::store::leases;

/// What became of the call that was last made in `folder`, a pipeline's (`out/<name>`).
///
/// # Errors
/// A folder in which `wsi run` was never called; a pipeline file or inputs that are not where that call found them.
pub fn status(folder: &Path) -> Result<Status> {
    let record = record(folder)?;
    let Call { pipeline, scale, overrides } = &record.call;
    let from_here =
        || format!("'{}' was made by a call on '{}'; repeat `wsi status` from where that was called", folder.display(), pipeline.display());
    let pipeline = Pipeline::load(pipeline, scale.as_deref(), overrides).with_context(from_here)?;
    let states = survey(&pipeline)?;
    let mut notes = Vec::new();
    let queued = slurm::queued(&record.submissions, &pipeline.name).unwrap_or_else(|error| {
        notes.push(format!("the queue is not known, what is said of jobs comes from their outputs: {error:#}"));
        Vec::new()
    });
    let asked = notes.is_empty();
    let outputs = folder.join(slurm::FOLDER);
    let last = record.submissions.last();
    let stages: Vec<Row> = states.into_iter().map(|state| row(state, last, &queued, asked, &outputs)).collect::<Result<_>>()?;
    let next = next(&stages, &queued, &record.call);
    let complete = stages.iter().all(|row| row.complete);
    Ok(Status { pipeline: pipeline.name, stages, complete, next, notes, version: env!("CARGO_PKG_VERSION") })
}

/// Cancels the jobs that calls in `folder` have submitted and Slurm has in its queue; gives how many, and their arrays' numbers.
///
/// # Errors
/// A folder in which `wsi run` was never called; a controller that does not answer.
pub fn cancel(folder: &Path) -> Result<(usize, BTreeSet<u64>)> {
    let record = record(folder)?;
    let jobs = slurm::cancel(&record.submissions, &super::name(&record.call.pipeline))?;
    Ok((jobs.len(), jobs.into_iter().map(|job| job.array).collect()))
}

fn record(folder: &Path) -> Result<Record> {
    let name = folder.display();
    Record::read(folder)?
        .with_context(|| format!("'{name}' is no pipeline's folder: `wsi run` was never called in it; it is OUT/<pipeline's name>"))
}

/// `asked`: the queue is known.
fn row(state: StageState, last: Option<&Submission>, queued: &[Queued], asked: bool, outputs: &Path) -> Result<Row> {
    let what = match state.stage {
        "tile" | "extract" => "slides",
        "train" => "trainings",
        "probe" => "probes",
        "heatmap" => "heatmaps",
        _ => "report",
    };
    let of_items = state.failed.into_iter().map(|(of, reason)| Problem { of, reason });
    let mut row = Row {
        stage: state.stage.to_owned(),
        what,
        items: state.items,
        done: state.done,
        in_work: 0,
        running: 0,
        waiting: 0,
        failed: of_items.collect(),
        lost: Vec::new(),
        complete: state.complete,
    };
    for run in &state.open {
        of_leases(&mut row, run, state.stage)?;
    }
    let submitted = last.and_then(|last| last.stages.iter().find(|stage| stage.stage == state.stage));
    if let Some(submitted) = submitted.filter(|_| !state.complete) {
        of_jobs(&mut row, submitted, queued, asked, outputs);
    }
    Ok(row)
}

/// What is in work in a run folder, and what was when its worker fell silent.
fn of_leases(row: &mut Row, run: &Path, stage: &str) -> Result<()> {
    let finished = survey::finished(run, stage)?;
    // A lease on what is no slide is about the tables.
    let slides = survey::outputs(stage).is_some();
    for sight in leases::look(run)?.into_iter().filter(|sight| !slides || !(finished.contains(&sight.item) || sight.item.starts_with('@')))
    {
        let name = || if slides { sight.item.clone() } else { run.file_name().unwrap_or_default().to_string_lossy().into_owned() };
        match sight.silent {
            _ if sight.alive => row.in_work += 1,
            Some(seconds) => {
                let reason = format!("begun by {}, silent for {seconds:.0} s; the next call takes it over", sight.holder);
                row.lost.push(Problem { of: name(), reason });
            }
            // Its worker ended in an orderly way: it failed or was asked to stop.
            None => {}
        }
    }
    Ok(())
}

/// What the jobs of a stage's last submission do, or how they ended.
fn of_jobs(row: &mut Row, submitted: &Submitted, queued: &[Queued], asked: bool, outputs: &Path) {
    let ours: Vec<&Queued> = queued.iter().filter(|job| job.array == submitted.job).collect();
    row.running = ours.iter().filter(|job| job.state == "RUNNING" || job.state == "COMPLETING").count();
    row.waiting = ours.len() - row.running;
    let left: BTreeSet<usize> = submitted.members().into_iter().filter(|share| ours.iter().all(|job| job.share != *share)).collect();
    if left.is_empty() {
        return;
    }
    let ended = slurm::ended(submitted, outputs);
    for share in left {
        let problem = |reason: &str| Problem { of: format!("share {share}/{}", submitted.shares), reason: reason.to_owned() };
        match ended.get(&share) {
            Some(End::Done) => {}
            Some(End::Failed(reason)) => row.failed.push(problem(reason)),
            None if asked => row.lost.push(problem("in the queue no more, and it left no exit code: killed, or its node is gone")),
            None => row.lost.push(problem("it left no exit code so far")),
        }
    }
}

fn next(stages: &[Row], queued: &[Queued], call: &Call) -> String {
    let again = || format!("`{}`", call.command());
    let in_work = stages.iter().any(|row| row.in_work > 0);
    let troubled = stages.iter().any(|row| !(row.failed.is_empty() && row.lost.is_empty()));
    match (stages.iter().all(|row| row.complete), queued.is_empty() && !in_work, troubled) {
        (true, ..) => "Complete.".to_owned(),
        (false, false, false) => "In work: nothing to do.".to_owned(),
        (false, false, true) => {
            format!("Some failed, others go on. When they have ended, remove the cause and repeat {}: it does what is missing.", again())
        }
        (false, true, true) => format!("Remove the cause, then repeat {}: it does what is missing.", again()),
        (false, true, false) => format!("Nobody works on it. Repeat {}: it does what is missing.", again()),
    }
}
