//! What Slurm says of our jobs: those in its queue, and how those ended that have left it.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::Result;

use super::client::ask;
use super::script::{ENDED, job_name};
use super::shares::members;
use crate::pipeline::STAGES;
use crate::pipeline::executors::record::{Submission, Submitted};

/// A job in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pipeline) struct Queued {
    /// Number of its array.
    pub array: u64,
    pub share: usize,
    /// `RUNNING`, `PENDING`, `COMPLETING`, …
    pub state: String,
    /// Why it waits.
    pub reason: String,
}

/// All jobs of a pipeline's submissions that Slurm has in its queue, whoever submitted them.
///
/// # Errors
/// A controller that does not answer.
pub(in crate::pipeline) fn queued(submissions: &[Submission], pipeline: &str) -> Result<Vec<Queued>> {
    if submissions.is_empty() {
        return Ok(Vec::new());
    }
    let names = format!("--name={}", STAGES.map(|stage| job_name(pipeline, stage)).join(","));
    let listed = ask("squeue", &["--noheader", "--array", "--states=all", &names, "--format=%F|%K|%T|%r|%k"])?;
    let of_ours = |array: u64, tag: &str| {
        submissions.iter().any(|submission| submission.tag == tag || submission.stages.iter().any(|stage| stage.job == array))
    };
    let parse = |line: &str| {
        let mut cells = line.trim().splitn(5, '|');
        let array = cells.next()?.parse().ok()?;
        let share = cells.next()?.parse().unwrap_or(1);
        let (state, reason, tag) = (cells.next()?, cells.next()?, cells.next()?);
        let over = OVER.iter().any(|(over, _)| *over == state);
        (of_ours(array, tag) && !over).then(|| Queued { array, share, state: state.to_owned(), reason: reason.to_owned() })
    };
    Ok(listed.lines().filter_map(parse).collect())
}

/// States of jobs that have ended, and what they mean in words; the first is the good one.
const OVER: [(&str, &str); 11] = [
    ("COMPLETED", "done"),
    ("FAILED", "failed"),
    ("CANCELLED", "by hand, or because what it waited for failed"),
    ("TIMEOUT", "its time was over before it could save: give executor.time more"),
    ("OUT_OF_MEMORY", "killed for memory: give executor.memory more"),
    ("NODE_FAIL", "its node failed"),
    ("PREEMPTED", "its node was taken away"),
    ("BOOT_FAIL", "its node did not start"),
    ("DEADLINE", "its deadline passed"),
    ("REVOKED", "taken back"),
    ("SPECIAL_EXIT", "held after a failure"),
];

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pipeline) enum End {
    /// With exit code 0.
    Done,
    /// Slurm's state or an exit code, in words.
    Failed(String),
}

/// How the jobs of one array ended that are in the queue no more, by share: from the accounting, else from the controller's memory, which lasts
/// some minutes, else from the last line of what each wrote. A share without an entry left no trace.
pub(in crate::pipeline) fn ended(stage: &Submitted, folder: &Path) -> BTreeMap<usize, End> {
    let job = stage.job.to_string();
    // Neither needs to be there; what they do not know is read from the outputs.
    let accounted =
        ask("sacct", &["--noheader", "--parsable2", "--allocations", "--array", "--jobs", &job, "--format=JobID,State,ExitCode"]);
    let remembered = || ask("scontrol", &["--oneliner", "show", "job", &job]);
    let mut found: BTreeMap<usize, End> = match accounted {
        Ok(lines) if !lines.trim().is_empty() => lines.lines().flat_map(of_sacct).collect(),
        _ => remembered().map(|lines| lines.lines().flat_map(of_scontrol).collect()).unwrap_or_default(),
    };
    for share in stage.members() {
        let more = match found.get(&share) {
            None => true,
            // The program's own words say more than Slurm's.
            Some(End::Failed(state)) => state.starts_with(FAILED),
            Some(End::Done) => false,
        };
        let output = || tail(&folder.join(format!("{}-{job}_{share}.out", stage.stage)));
        if more && let Some(end) = output().as_deref().and_then(of_output) {
            found.insert(share, end);
        }
    }
    found
}

/// Beginning of the reason of a job that ended with an exit code of its own.
const FAILED: &str = "failed with exit code";

fn in_words(state: &str, exit: &str) -> Option<End> {
    // `CANCELLED by 1000`
    let state = state.split_whitespace().next()?.trim_end_matches('+');
    let (name, words) = OVER.iter().find(|(name, _)| *name == state)?;
    Some(match *name {
        "COMPLETED" => End::Done,
        "FAILED" => End::Failed(format!("{FAILED} {}", exit.split(':').next().unwrap_or(exit))),
        _ => End::Failed(format!("{state}: {words}")),
    })
}

/// `12_3|FAILED|1:0`, or `12_[4-9]|CANCELLED|0:0` of jobs that never started.
fn of_sacct(line: &str) -> Vec<(usize, End)> {
    let cells: Vec<&str> = line.trim().split('|').collect();
    let [job, state, exit] = cells[..] else { return Vec::new() };
    let shares = job.split_once('_').map_or("", |(_, shares)| shares.trim_matches(['[', ']']));
    of_each(shares, in_words(state, exit))
}

/// `JobId=4 ArrayJobId=3 ArrayTaskId=1 … JobState=FAILED … ExitCode=1:0 …`; of jobs that never started `ArrayTaskId=4-9`.
fn of_scontrol(line: &str) -> Vec<(usize, End)> {
    let value = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default();
    of_each(value("ArrayTaskId"), in_words(value("JobState"), value("ExitCode")))
}

fn of_each(shares: &str, end: Option<End>) -> Vec<(usize, End)> {
    end.map_or_else(Vec::new, |end| members(shares).into_iter().map(|share| (share, end.clone())).collect())
}

fn of_output(tail: &str) -> Option<End> {
    let last = tail.lines().map(str::trim).rfind(|line| line.starts_with(ENDED))?;
    let code = last.strip_prefix(ENDED)?;
    Some(match code {
        "0" => End::Done,
        "75" => End::Failed("stopped before its end (exit code 75)".to_owned()),
        _ => End::Failed(format!("{FAILED} {code}{}", last_error(tail))),
    })
}

/// The program's own last error, shortened.
fn last_error(tail: &str) -> String {
    const LONGEST: usize = 300;
    let Some(line) = tail.lines().map(str::trim).rfind(|line| line.starts_with("ERROR")) else { return String::new() };
    let text: String = line.trim_start_matches("ERROR").trim().trim_end_matches(':').chars().take(LONGEST).collect();
    format!(": {text}")
}

/// The last few lines of a job's output; `None` where there is none.
fn tail(path: &Path) -> Option<String> {
    const LENGTH: i64 = 8 << 10;
    let mut file = std::fs::File::open(path).ok()?;
    let size = file.metadata().ok()?.len() as i64;
    file.seek(SeekFrom::End(-size.min(LENGTH))).ok()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_read_from_each_source() {
        let failed = |text: &str| End::Failed(text.to_owned());
        assert_eq!(of_sacct("12_3|COMPLETED|0:0"), [(3, End::Done)]);
        let cancelled = || failed("CANCELLED: by hand, or because what it waited for failed");
        assert_eq!(of_sacct("12_3|CANCELLED by 1000|0:15"), [(3, cancelled())]);
        assert_eq!(of_sacct("12_[4-5%2]|CANCELLED by 1000|0:0"), [(4, cancelled()), (5, cancelled())]);
        assert_eq!(of_sacct("12_[4-9]|PENDING|0:0"), []);
        let line = "JobId=4 ArrayJobId=3 ArrayTaskId=2 JobName=a b JobState=OUT_OF_MEMORY Reason=None ExitCode=0:125";
        assert_eq!(of_scontrol(line), [(2, failed("OUT_OF_MEMORY: killed for memory: give executor.memory more"))]);
        assert_eq!(of_scontrol("JobId=4 ArrayJobId=3 ArrayTaskId=4-5,7 JobState=CANCELLED ExitCode=0:0").len(), 3);
        assert_eq!(of_scontrol("JobId=4 ArrayJobId=3 ArrayTaskId=2 JobState=RUNNING ExitCode=0:0"), []);
        let output = format!("INFO train\nERROR slide 'x' is broken\n{ENDED}1\n");
        assert_eq!(of_output(&output), Some(failed("failed with exit code 1: slide 'x' is broken")));
        assert_eq!(of_output(&format!("{ENDED}75\nINFO started again\n{ENDED}0\n")), Some(End::Done));
        assert_eq!(of_output("INFO train\n"), None);
    }
}
