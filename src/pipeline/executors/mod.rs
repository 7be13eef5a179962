//! Who runs a pipeline's jobs. A job is a command line of `wsi`, "this stage of the pipeline, my share of it", so that every executor runs the very
//! same thing, and whatever was killed, put back or divided anew does only what is missing.

use anyhow::{Result, ensure};

use super::Pipeline;
use super::jobs::{Outcome, Part, execute};
use super::survey::{StageState, survey};
use crate::learn::parallel::Ranks;
use crate::stages::Machine;

mod bash;
mod record;
mod settings;
pub(super) mod slurm;

pub use record::{Call, Record, Submission, Submitted};
pub use settings::{Executor, ExecutorSettings, Name};

/// What a whole call left behind.
pub enum Ran {
    /// The pipeline ran here.
    Here(Outcome),
    /// What was submitted, or would be, in words.
    Submitted(String),
    /// There is nothing to do.
    Nothing,
}

/// How a whole pipeline is to run.
pub struct Order<'a> {
    /// What was typed.
    pub call: Call,
    /// The program, as it was called.
    pub program: String,
    /// `--device`, `--threads` and `--scratch`, where they were given.
    pub machine: &'a [String],
    /// Nothing is run, written or submitted.
    pub dry: bool,
}

/// Runs `pipeline` where its settings say.
///
/// # Errors
/// Jobs of an earlier call that are still in Slurm's queue; whatever the executor says.
pub fn run(pipeline: &Pipeline, order: &Order, machine: impl FnOnce() -> Result<Machine>) -> Result<Ran> {
    if pipeline.executor.name == Name::Slurm {
        return slurm::submit(pipeline, order);
    }
    if order.dry {
        return Ok(Ran::Submitted(plan(&survey(pipeline)?)));
    }
    let earlier = Record::read(&pipeline.folder)?;
    // Where Slurm is gone, so are its jobs.
    let submissions = earlier.as_ref().map(|record| record.submissions.clone()).unwrap_or_default();
    let queued = slurm::queued(&submissions, &pipeline.name).unwrap_or_default();
    ensure!(queued.is_empty(), "{}", slurm::busy(pipeline, &queued));
    Record::for_call(earlier, &order.call).write(&pipeline.folder)?;
    Ok(Ran::Here(execute(pipeline, &machine()?, Part::default(), &Ranks::alone())?))
}

/// What would run here, one line a stage.
fn plan(states: &[StageState]) -> String {
    let line = |state: &StageState| format!("{}: {} of {} done\n", state.stage, state.done, state.items);
    format!("executor local: the stages run here, one after the other\n{}", states.iter().map(line).collect::<String>())
}
