//! `slurm`: each stage becomes an array of jobs that wait for the stage before.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::record::{Record, Submission, Submitted};
use super::settings::ExecutorSettings;
use super::{Order, Ran};
use crate::ground::listing::listing;
use crate::pipeline::survey::{StageState, survey};
use crate::pipeline::{OF_TRAININGS, Pipeline};
use crate::render::names;
use crate::store::files;
use crate::store::leases::{Leases, Taken};
use script::Script;
use shares::Shares;

mod client;
mod queue;
mod script;
pub(super) mod shares;

pub(in crate::pipeline) use queue::{End, Queued, ended, queued};

/// Folder of scripts and outputs inside a pipeline's.
pub(in crate::pipeline) const FOLDER: &str = "slurm";

/// A stage that is to be submitted.
struct Wanted {
    stage: &'static str,
    settings: ExecutorSettings,
    shares: Shares,
    /// How it waits for the one before it.
    after: Option<&'static str>,
}

/// Submits the stages that are not complete, each after the one before.
///
/// # Errors
/// Jobs of an earlier call that are still there; a controller that does not answer; a submission that Slurm refuses, after the others of this call were
/// cancelled.
pub(super) fn submit(pipeline: &Pipeline, order: &Order) -> Result<Ran> {
    let stages = wanted(pipeline, &survey(pipeline)?)?;
    if stages.is_empty() {
        return Ok(Ran::Nothing);
    }
    let folder = pipeline.folder.join(FOLDER);
    if order.dry {
        let mut text = String::new();
        let mut before = None;
        for stage in &stages {
            let file = folder.join(format!("{}.sbatch", stage.stage));
            let dependency = dependency(stage, before.map(|name: &str| format!("<job of {name}>")));
            let call = [vec!["sbatch".to_owned()], dependency, vec![file.display().to_string()]].concat();
            text.push_str(&format!("# {}\n{}\n", call.join(" "), script(pipeline, order, stage, "wsi-<tag>", &folder).text()));
            before = Some(stage.stage);
        }
        return Ok(Ran::Submitted(text));
    }
    // Two calls at the same time would each find the queue empty.
    let leases = Leases::open(&pipeline.folder)?;
    let Taken::Mine { .. } = leases.take("submission")? else {
        bail!("another call is submitting '{}' at this moment; see `wsi status '{}'`", pipeline.name, pipeline.folder.display())
    };
    let submitted = submit_all(pipeline, order, &stages, &folder);
    leases.close()?;
    let line = |stage: &Submitted| format!("{}: job {}, array {} of {} shares\n", stage.stage, stage.job, stage.array, stage.shares);
    Ok(Ran::Submitted(submitted?.stages.iter().map(line).collect()))
}

/// Submits the stages and notes each, unless earlier jobs are there.
fn submit_all(pipeline: &Pipeline, order: &Order, stages: &[Wanted], folder: &Path) -> Result<Submission> {
    let mut submission = Submission::new()?;
    let earlier = Record::read(&pipeline.folder)?;
    if let Some(record) = &earlier {
        let queued = queued(&record.submissions, &pipeline.name)?;
        ensure!(queued.is_empty(), "{}", busy(pipeline, &queued));
    }
    let mut record = Record::for_call(earlier, &order.call);
    // A call that is killed between `sbatch` and the next note leaves jobs that their tag finds.
    record.submissions.push(submission.clone());
    record.write(&pipeline.folder)?;
    for stage in stages {
        match submit_one(pipeline, order, stage, &submission, folder) {
            Ok(submitted) => submission.stages.push(submitted),
            Err(error) => return Err(take_back(&submission, &pipeline.name, stage.stage, error)),
        }
        *record.submissions.last_mut().context("one was just made")? = submission.clone();
        record.write(&pipeline.folder)?;
    }
    Ok(submission)
}

/// The stages that are not complete, divided into shares.
fn wanted(pipeline: &Pipeline, states: &[StageState]) -> Result<Vec<Wanted>> {
    let open: Vec<&StageState> = states.iter().filter(|state| !state.complete).collect();
    let mut stages: Vec<Wanted> = Vec::new();
    for state in &open {
        let settings = pipeline.executor.for_stage(state.stage)?;
        let trainings = pipeline.trainings()?.into_iter().collect::<BTreeSet<_>>();
        let by_training = OF_TRAININGS.contains(&state.stage);
        let items = if by_training { trainings.len() } else { state.items };
        let of = settings.array.0.min(items).max(1);
        // Whatever is missing of a slide is found by its share; trainings are known one by one.
        let shares = if by_training && !state.missing.is_empty() { Shares::holding(of, &state.missing) } else { Shares::all(of) };
        let after = stages.last().map(|before| {
            let same = by_training && OF_TRAININGS.contains(&before.stage) && before.shares.of == of;
            // A page shows what ended well beside what did not.
            let needs_all = pipeline.page.is_none() || !OF_TRAININGS.contains(&before.stage);
            if !needs_all {
                "afterany"
            } else if same {
                "aftercorr"
            } else {
                "afterok"
            }
        });
        stages.push(Wanted { stage: state.stage, settings, shares, after });
    }
    // A job that waits for its counterpart needs one, which may wait for another: there and back.
    for place in (1..stages.len()).rev().chain(1..stages.len()) {
        if stages[place].after == Some("aftercorr") {
            let both: BTreeSet<usize> = stages[place - 1].shares.wanted.union(&stages[place].shares.wanted).copied().collect();
            stages[place - 1].shares.wanted.clone_from(&both);
            stages[place].shares.wanted = both;
        }
    }
    Ok(stages)
}

fn script<'a>(pipeline: &'a Pipeline, order: &Order, wanted: &'a Wanted, tag: &'a str, folder: &'a Path) -> Script<'a> {
    Script {
        pipeline: &pipeline.name,
        stage: wanted.stage,
        settings: &wanted.settings,
        shares: &wanted.shares,
        tag,
        folder,
        command: command(order, wanted),
    }
}

/// `wsi run PIPELINE … --stage STAGE`
fn command(order: &Order, wanted: &Wanted) -> Vec<String> {
    let settings = &wanted.settings;
    let inside = settings.container.as_ref().map(|_| "wsi".to_owned());
    let program = settings.program.clone().or(inside).unwrap_or_else(|| order.program.clone());
    let mut words = vec![program];
    words.extend(order.call.of_jobs().words());
    words.extend(order.machine.iter().cloned());
    // Without control groups a job sees every processor of its node.
    if let Some(cpus) = settings.cpus.filter(|_| !order.machine.iter().any(|word| word == "--threads")) {
        words.extend(["--threads".to_owned(), cpus.to_string()]);
    }
    words.extend(["--stage".to_owned(), wanted.stage.to_owned()]);
    words
}

fn dependency(wanted: &Wanted, before: Option<String>) -> Vec<String> {
    match (wanted.after, before) {
        (Some(kind), Some(job)) => vec![format!("--dependency={kind}:{job}"), "--kill-on-invalid-dep=yes".to_owned()],
        _ => Vec::new(),
    }
}

fn submit_one(pipeline: &Pipeline, order: &Order, wanted: &Wanted, submission: &Submission, folder: &Path) -> Result<Submitted> {
    let file = folder.join(format!("{}.sbatch", wanted.stage));
    files::write_bytes(&file, script(pipeline, order, wanted, &submission.tag, folder).text().as_bytes())?;
    let before = submission.stages.last().map(|stage| stage.job.to_string());
    let mut words = vec!["--parsable".to_owned()];
    words.extend(dependency(wanted, before));
    words.push(file.display().to_string());
    let said = client::ask("sbatch", &words.iter().map(String::as_str).collect::<Vec<_>>())?;
    // `NUMBER` or `NUMBER;CLUSTER`
    let job = said.trim().lines().last().and_then(|line| line.split(';').next()?.parse().ok());
    let job = job.with_context(|| format!("sbatch gave no job number but '{}'", said.trim()))?;
    Ok(Submitted { stage: wanted.stage.to_owned(), shares: wanted.shares.of, array: wanted.shares.array(None), job })
}

/// Cancels what a call has submitted so far, and says so beside the error that ended it.
fn take_back(submission: &Submission, pipeline: &str, stage: &str, error: anyhow::Error) -> anyhow::Error {
    let what = match cancel(std::slice::from_ref(submission), pipeline) {
        Ok(jobs) if jobs.is_empty() => "nothing is in the queue".to_owned(),
        Ok(_) => "the jobs that were submitted before it are cancelled".to_owned(),
        Err(_) => {
            format!("jobs may be in the queue: look for the comment {} with `squeue --me --format='%i %k'` and cancel them", submission.tag)
        }
    };
    anyhow!("the stage '{stage}' was not submitted: {error:#}; {what}; correct [executor] or --set executor.… and repeat the call")
}

/// Cancels every job of the submissions that is in the queue, so that none comes back. Gives those that were.
///
/// # Errors
/// A controller that does not answer or refuses.
pub(in crate::pipeline) fn cancel(submissions: &[Submission], pipeline: &str) -> Result<Vec<Queued>> {
    let jobs = queued(submissions, pipeline)?;
    let arrays: BTreeSet<u64> = jobs.iter().map(|job| job.array).collect();
    // The last stage first, so that none begins because the one before it is gone.
    for array in arrays.iter().rev().map(u64::to_string) {
        // A job that has just ended cannot be changed, and need not be.
        if let Err(error) = client::ask("scontrol", &["update", &format!("JobId={array}"), "Requeue=0"]) {
            tracing::debug!("{error:#}");
        }
        client::ask("scancel", &[&array])?;
    }
    Ok(jobs)
}

/// What an error says of jobs that are still there.
pub(super) fn busy(pipeline: &Pipeline, queued: &[Queued]) -> String {
    let arrays: BTreeSet<u64> = queued.iter().map(|job| job.array).collect();
    let folder = pipeline.folder.display();
    format!(
        "{} of an earlier call in Slurm's queue (numbers {}); see `wsi status '{folder}'`, or end them with `wsi cancel '{folder}'`",
        names::count(queued.len(), "job"),
        listing(&arrays.into_iter().collect::<Vec<_>>(), ", ")
    )
}
