//! The text of a job: what it asks Slurm for, and one command line of `wsi`.

use std::fmt::Write;
use std::path::Path;

use super::shares::Shares;
use crate::pipeline::executors::bash::{plain, quoted, with_variables};
use crate::pipeline::executors::settings::ExecutorSettings;

/// Seconds before a job's time limit at which it is told.
const NOTICE: u32 = 120;
/// Beginning of the last line of a job's output; the exit code follows.
pub(super) const ENDED: &str = "wsi: the job ended with exit code ";

/// What a stage's jobs are called. A comma would end the name where `squeue` is given several.
pub(super) fn job_name(pipeline: &str, stage: &str) -> String {
    format!("wsi-{}-{stage}", pipeline.replace(',', "_"))
}

/// An array of jobs, one share of a stage each.
pub(super) struct Script<'a> {
    /// Of the pipeline.
    pub pipeline: &'a str,
    pub stage: &'a str,
    pub settings: &'a ExecutorSettings,
    /// Shares that have a job.
    pub shares: &'a Shares,
    /// By which the jobs of this submission are found again.
    pub tag: &'a str,
    /// Folder for what the jobs say.
    pub folder: &'a Path,
    /// Program and arguments, without `--shard`.
    pub command: Vec<String>,
}

impl Script<'_> {
    /// Name of the jobs' outputs in the folder: `%A` is the array's number, `%a` the share.
    fn output(&self) -> String {
        // A percent sign of the folder's own is doubled, or Slurm would read a pattern.
        format!("{}/{}-%A_%a.out", self.folder.display().to_string().replace('%', "%%"), self.stage)
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        let settings = self.settings;
        let mut options = vec![
            ("job-name", job_name(self.pipeline, self.stage)),
            ("comment", self.tag.to_owned()),
            ("array", self.shares.array(settings.at_most)),
            ("output", self.output()),
            ("open-mode", "append".to_owned()),
            ("signal", format!("B:USR1@{NOTICE}")),
        ];
        let ranks = |count: Option<u32>| count.filter(|_| self.together()).map(|count| count.to_string());
        let given = [
            ("partition", settings.partition.clone()),
            ("account", settings.account.clone()),
            ("qos", settings.qos.clone()),
            ("time", settings.time.clone()),
            ("mem", settings.memory.clone()),
            ("nodes", ranks(settings.nodes)),
            ("ntasks", ranks(settings.ntasks)),
            ("cpus-per-task", settings.cpus.map(|cpus| cpus.to_string())),
            ("gres", settings.gpus.as_ref().filter(|gpus| *gpus != "0").map(|gpus| format!("gpu:{gpus}"))),
            ("constraint", settings.constraint.clone()),
        ];
        options.extend(given.into_iter().filter_map(|(name, value)| Some((name, value?))));
        options
    }

    /// Whether several processes train together.
    fn together(&self) -> bool {
        self.stage == "train" && (self.settings.ntasks.is_some_and(|count| count > 1) || self.settings.nodes.is_some_and(|count| count > 1))
    }

    /// What stands before the program: `srun` and a container.
    fn before(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.together() {
            words.push("srun".to_owned());
            // A step does not inherit it.
            words.extend(self.settings.cpus.map(|cpus| format!("--cpus-per-task={cpus}")));
        }
        if let Some(container) = &self.settings.container {
            words.extend([container.runtime.clone(), "exec".to_owned()]);
            words.extend(container.options.iter().cloned().chain([container.image.clone()]));
        }
        words
    }

    /// The whole script, for bash.
    pub(super) fn text(&self) -> String {
        let mut text = String::from("#!/bin/bash\n");
        for (name, value) in self.options() {
            line(&mut text, &format!("#SBATCH --{name}={}", option(&value)));
        }
        line(&mut text, "#SBATCH --requeue");
        for extra in &self.settings.extra {
            line(&mut text, &format!("#SBATCH {extra}"));
        }
        let (stage, pipeline, version) = (self.stage, self.pipeline, env!("CARGO_PKG_VERSION"));
        line(
            &mut text,
            &format!("# Stage '{stage}' of the pipeline '{pipeline}', one share a job; written by `wsi run`, version {version}."),
        );
        if !self.settings.modules.is_empty() {
            line(&mut text, &format!("module load {} || exit 1", quoted(&self.settings.modules)));
        }
        self.settings.setup.iter().for_each(|setup| line(&mut text, setup));
        if let Some(scratch) = &self.settings.scratch {
            line(&mut text, &format!("export TMPDIR={}; mkdir -p \"$TMPDIR\"", with_variables(scratch)));
        }
        let words: Vec<String> = self.before().into_iter().chain(self.command.iter().cloned()).collect();
        let share = if self.shares.of == 1 { String::new() } else { format!(" --shard \"$SLURM_ARRAY_TASK_ID/{}\"", self.shares.of) };
        // One that was typed wins.
        let own = self.stage == "extract" && self.settings.scratch.is_some() && !self.command.iter().any(|word| word == "--scratch");
        let scratch = if own { " --scratch \"$TMPDIR\"" } else { "" };
        let requeues = self.settings.max_requeues.0;
        let _ = write!(
            text,
            r#"
# Slurm tells this shell when the job's time is nearly up or its node is wanted; the program then saves and ends with 75.
# A notice that comes before the program listens would kill it.
trap '' USR1
{command}{share}{scratch} &
program=$!
trap 'kill -USR1 "$program" 2>/dev/null' USR1 TERM
wait "$program"
while kill -0 "$program" 2>/dev/null; do wait "$program"; done
wait "$program"
code=$?
# Ended by the signal itself: it came before the program listened.
case $code in 138 | 143) code=75 ;; esac

# A job that stopped while Slurm lets it run goes back into the queue. One that is cancelled, or that Slurm puts back, runs no more.
job=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID
if [ "$code" = 75 ] && [ "$(squeue --noheader --jobs="$job" --format=%T)" = RUNNING ]; then
  if [ "${{SLURM_RESTART_COUNT:-0}}" -lt {requeues} ]; then
    echo "wsi: back into the queue, number $((${{SLURM_RESTART_COUNT:-0}} + 1)) of {requeues} (executor.max-requeues)"
    scontrol requeue "$job" && {{ sleep 600; exit 75; }}
  else
    echo "wsi: stopped for good after {requeues} returns to the queue (executor.max-requeues); the same 'wsi run' continues"
  fi
fi
echo "{ENDED}$code"
exit "$code"
"#,
            command = quoted(&words),
        );
        text
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// A value on a `#SBATCH` line, which `sbatch` takes apart by itself: quotes and backslashes count, variables do not.
fn option(value: &str) -> String {
    if value.chars().all(plain) { value.to_owned() } else { format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")) }
}
