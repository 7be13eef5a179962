//! Pipelines in stages and shares, and on a Slurm that stand-ins play; `tests/slurm` has the real one.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::program::said;
use crate::train::cohort;

/// A folder with a small cohort of bags and a pipeline of four trainings with two probes each.
struct Place(tempfile::TempDir);

const PIPELINE: &str = "stages = ['train', 'probe', 'report']
[inputs]
bags = '{data}/bags'
labels = '{data}/labels.csv'
[settings]
train = { epochs = 2, model = { aggregator = { name = 'abmil', width = 16 } } }
probe.resamples = 100
[[sweep]]
group = 'k {probe.knn.neighbours}'
[sweep.set]
'train.loss.name' = ['cross-entropy', 'ncmi']
seed = [0, 1]
'probe.knn.neighbours' = [1, 3]
";

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        cohort(&folder.path().join("cohort"), 2, 6);
        std::fs::write(folder.path().join("small.toml"), PIPELINE).unwrap();
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A program of Slurm's by name: a few lines of shell. All share the file `said`.
    fn stand_in(&self, program: &str, lines: &str) {
        let path = self.path("bin").join(program);
        std::fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        command.current_dir(self.0.path()).env("PATH", path).env("WSI_SLURM_WAIT", "2");
        command
    }

    fn wsi(&self, arguments: &[&str]) -> Output {
        self.command(env!("CARGO_BIN_EXE_wsi")).args(arguments).output().unwrap()
    }

    /// `wsi run` on the small pipeline.
    fn run(&self, more: &[&str]) -> Output {
        let usual = ["run", "small.toml", "--set", "data=cohort", "--set", "out=out", "--device", "cpu"];
        self.wsi(&[&usual[..], more].concat())
    }

    /// The same with the executor `slurm` and a program by its short name.
    fn submit(&self, more: &[&str]) -> Output {
        self.run(&[&["--set", "executor.name=slurm", "--set", "executor.program=wsi"][..], more].concat())
    }
}

/// What a command printed; it ended well.
fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What it said; it failed.
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    said(output)
}

/// Every file below a folder that the machine, the clock and the division into calls may not change.
fn results(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn add(folder: &Path, top: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                add(&path, top, found);
            } else if !["run.json", "log.jsonl", "pipeline.json"].contains(&name) {
                found.insert(path.strip_prefix(top).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    add(folder, folder, &mut found);
    found
}

fn same(one: &Path, other: &Path) {
    let (one, other) = (results(one), results(other));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (name, bytes) in &one {
        assert!(*bytes == other[name], "{} differs", name.display());
    }
}

#[test]
fn a_pipeline_in_stages_and_shares_is_the_pipeline() {
    let place = Place::new();
    printed(&place.run(&[]));
    std::fs::rename(place.path("out"), place.path("whole")).unwrap();
    let stage = |stage: &str, shard: &str| printed(&place.run(&["--stage", stage, "--shard", shard]));
    stage("train", "1/3");
    assert_eq!(std::fs::read_dir(place.path("out/small/train")).unwrap().count(), 2, "of four trainings the first share of three has two");
    // The share of a probe is that of its training, and what is missing before it is done first, whatever the division was.
    stage("probe", "2/2");
    assert_eq!(std::fs::read_dir(place.path("out/small/train")).unwrap().count(), 3);
    stage("probe", "1/2");
    assert!(stage("report", "1/1").contains("report.html"));
    same(&place.path("whole/small"), &place.path("out/small"));

    assert!(refused(&place.run(&["--stage", "report", "--shard", "1/2"])).contains("has no shares"));
    assert!(refused(&place.run(&["--stage", "tile"])).contains("has no stage 'tile'"));
    assert_eq!(place.run(&["--shard", "1/2"]).status.code(), Some(2));
}

#[test]
fn a_share_goes_on_after_a_training_that_fails() {
    let place = Place::new();
    let broken = PIPELINE.replace("seed = [0, 1]", "seed = [0, 1]\n'train.optimizer.learning-rate' = [1e30, 0.01]");
    std::fs::write(place.path("small.toml"), broken).unwrap();
    let said = refused(&place.run(&["--stage", "train"]));
    assert!(said.contains("failed, the others are complete") && said.contains("training diverged"), "{said}");
    let done = std::fs::read_dir(place.path("out/small/train")).unwrap();
    assert_eq!(done.filter(|run| run.as_ref().unwrap().path().join("run.json").exists()).count(), 4);
}

#[test]
fn the_scripts_are_as_they_were_read_and_found_good() {
    let place = Place::new();
    let asked = "[executor]\nname = 'slurm'\narray = 3\nat-most = 2\npartition = 'gpu,cpu'\naccount = 'my lab'\ntime = '04:00:00'\nmemory = '8G'\ncpus = 4
modules = ['cuda/12', 'gcc']\nsetup = ['ulimit -c 0']\nscratch = '$SLURM_TMPDIR/wsi'\nextra = ['--reservation=x']
[executor.stage.train]\ngpus = 'a100:2'\nnodes = 1\nntasks = 2\ncontainer = { image = 'wsi 1.sif', options = ['--nv'] }
[executor.stage.report]\nmemory = '2G'\n";
    std::fs::write(place.path("site.toml"), asked).unwrap();
    let text = printed(&place.run(&["--site", "site.toml", "--set", "leaks.allow='it''s \"known\" $x'", "--dry-run"]));
    let text = text.replace(env!("CARGO_BIN_EXE_wsi"), "wsi").replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/executors/expected.sbatch");
    if std::env::var_os("WSI_WRITE_EXPECTED").is_some() {
        std::fs::write(&expected, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&expected).unwrap(), "look at the difference; WSI_WRITE_EXPECTED=1 accepts it");
    assert!(!place.path("out").exists(), "nothing is written");
    let checked = place.command("bash").args(["-n", "-c", &text]).output().unwrap();
    assert!(checked.status.success(), "{}", said(&checked));
}

#[test]
fn two_processes_go_through_a_pipelines_trainings_together() {
    let place = Place::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let usual = ["run", "small.toml", "--set", "data=cohort", "--set", "out=out", "--device", "cpu", "--stage", "train"];
    let together = || {
        let rank = |rank: &str| {
            let mut command = place.command(env!("CARGO_BIN_EXE_wsi"));
            command.args(usual).args(["--set", "train.batch-size=4", "--set", "train.drop-last=true"]);
            command.env("RANK", rank).env("LOCAL_RANK", rank).env("WORLD_SIZE", "2").env("MASTER_ADDR", "127.0.0.1");
            command.env("MASTER_PORT", &port).env("WSI_RANKS_WAIT", "60").stderr(Stdio::piped()).spawn().unwrap()
        };
        for process in [rank("0"), rank("1")] {
            let output = process.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", said(&output));
        }
    };
    together();
    let runs: Vec<PathBuf> = std::fs::read_dir(place.path("out/small/train")).unwrap().map(|run| run.unwrap().path()).collect();
    assert_eq!(runs.len(), 4);
    for run in &runs {
        assert!(std::fs::read_to_string(run.join("run.json")).unwrap().contains("\"ranks\": 2"), "{}", run.display());
    }
    // All are done: rank 0 tells the other so, for each.
    together();
}

/// The script of the stage `train` with a program that is a few lines of shell, run by bash as Slurm would.
fn run_script(place: &Place, program: &str, state: &str, restarts: &str) -> (Output, String) {
    place.stand_in("wsi", program);
    place.stand_in("squeue", &format!("echo {state}"));
    place.stand_in("scontrol", "echo \"$@\" >>said; exit 1");
    let text = printed(&place.submit(&["--set", "executor.max-requeues=2", "--dry-run"]));
    let script = text.split("\n# sbatch").next().unwrap();
    let mut command = place.command("bash");
    command.args(["-c", script]).env("SLURM_ARRAY_JOB_ID", "7").env("SLURM_ARRAY_TASK_ID", "2").env("SLURM_RESTART_COUNT", restarts);
    let output = command.output().unwrap();
    let asked = std::fs::read_to_string(place.path("said")).unwrap_or_default();
    let _ = std::fs::remove_file(place.path("said"));
    (output, asked)
}

#[test]
fn a_job_goes_back_into_the_queue_only_where_slurm_lets_it_run() {
    let place = Place::new();
    let stopped = "echo \"$@\"; exit 75";
    let (output, asked) = run_script(&place, stopped, "RUNNING", "1");
    assert_eq!((output.status.code(), asked.as_str()), (Some(75), "requeue 7_2\n"));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("--stage train --shard 2/4") && printed.contains("number 2 of 2"), "{printed}");
    // Cancelled, or put back by Slurm itself.
    assert_eq!(run_script(&place, stopped, "COMPLETING", "0").1, "");
    let (output, asked) = run_script(&place, stopped, "RUNNING", "2");
    assert!(asked.is_empty() && String::from_utf8_lossy(&output.stdout).contains("stopped for good"));
    let (output, asked) = run_script(&place, "exit 3", "RUNNING", "0");
    assert_eq!((output.status.code(), asked.as_str()), (Some(3), ""));
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("ended with exit code 3\n"));
    // A warning reaches the program, and its own exit code is the job's.
    // A shell cannot listen to a signal that it was started to ignore; the program can.
    let warned =
        r#"exec env --default-signal=USR1 sh -c 'trap "kill \$!; echo saved; exit 75" USR1; sleep 1; kill -USR1 $PPID; sleep 60 & wait'"#;
    let (output, asked) = run_script(&place, warned, "RUNNING", "0");
    assert!(String::from_utf8_lossy(&output.stdout).contains("saved"));
    assert_eq!((output.status.code(), asked.as_str()), (Some(75), "requeue 7_2\n"));
}

/// A `sbatch` that counts, and notes what it was asked.
const SBATCH: &str = "echo \"sbatch $@\" >>said; echo $(($(grep -c sbatch said) + 40))";

#[test]
fn a_submission_is_noted_and_a_second_one_refused() {
    let place = Place::new();
    place.stand_in("squeue", "exit 0");
    place.stand_in("sbatch", SBATCH);
    let shown = printed(&place.submit(&["--set", "executor.array=3"]));
    assert_eq!(shown, "train: job 41, array 1-3 of 3 shares\nprobe: job 42, array 1-3 of 3 shares\nreport: job 43, array 1 of 1 shares\n");
    let asked = std::fs::read_to_string(place.path("said")).unwrap();
    let expected = "sbatch --parsable out/small/slurm/train.sbatch
sbatch --parsable --dependency=aftercorr:41 --kill-on-invalid-dep=yes out/small/slurm/probe.sbatch
sbatch --parsable --dependency=afterok:42 --kill-on-invalid-dep=yes out/small/slurm/report.sbatch\n";
    assert_eq!(asked, expected);

    place.stand_in("squeue", "echo '41|2|PENDING|Resources|x'; echo '99|1|RUNNING|None|another'; echo '42|1|COMPLETED|None|x'");
    for again in [place.submit(&[]), place.run(&[])] {
        let said = refused(&again);
        assert!(said.contains("1 job of an earlier call") && said.contains("(numbers 41)") && said.contains("wsi cancel"), "{said}");
    }
    assert!(!place.path("out/small/.leases").exists());
    // Jobs that a call left without noting their numbers are known by their comment.
    let record = std::fs::read_to_string(place.path("out/small/pipeline.json")).unwrap();
    let tag = record.split("\"tag\": \"").nth(1).unwrap().split('"').next().unwrap();
    place.stand_in("squeue", &format!("echo '77|2|RUNNING|None|{tag}'"));
    assert!(refused(&place.submit(&[])).contains("(numbers 77)"));
    place.stand_in("scontrol", "echo \"scontrol $@\" >>said");
    place.stand_in("scancel", "echo \"scancel $@\" >>said");
    assert!(printed(&place.wsi(&["cancel", "out/small"])).contains("1 job cancelled (numbers 77)"));
    let asked = std::fs::read_to_string(place.path("said")).unwrap();
    assert!(asked.ends_with("scontrol update JobId=77 Requeue=0\nscancel 77\n"), "{asked}");
}

#[test]
fn only_what_is_missing_is_submitted() {
    let place = Place::new();
    place.stand_in("squeue", "exit 0");
    place.stand_in("sbatch", SBATCH);
    printed(&place.run(&["--stage", "train", "--shard", "2/4"]));
    printed(&place.run(&["--stage", "probe", "--shard", "3/4"]));
    let shown = printed(&place.submit(&["--set", "executor.array=4"]));
    // The second training is there and its probes are not: the job of its share of the stage `train` has nothing to do.
    assert_eq!(
        shown,
        "train: job 41, array 1-2,4 of 4 shares\nprobe: job 42, array 1-2,4 of 4 shares\nreport: job 43, array 1 of 1 shares\n"
    );
    for share in ["1/2", "2/2"] {
        printed(&place.run(&["--stage", "probe", "--shard", share]));
    }
    assert_eq!(printed(&place.submit(&[])), "report: job 44, array 1 of 1 shares\n");
    printed(&place.run(&["--stage", "report"]));
    assert_eq!(printed(&place.submit(&[])), "nothing to do: every stage of 'small' is complete in 'out/small'\n");
}

#[test]
fn a_refused_submission_takes_back_what_was_submitted() {
    let place = Place::new();
    place.stand_in("squeue", "[ -f said ] && echo '41|1|PENDING|Priority|x'; exit 0");
    place.stand_in(
        "sbatch",
        "[ -f said ] && { echo 'sbatch: error: invalid partition specified: gpu' >&2; exit 1; }; echo sbatch >said; echo 41",
    );
    place.stand_in("scontrol", "exit 0");
    place.stand_in("scancel", "echo \"scancel $@\" >>said");
    let error = refused(&place.submit(&[]));
    assert!(error.contains("'probe' was not submitted") && error.contains("invalid partition specified: gpu"), "{error}");
    assert!(error.contains("submitted before it are cancelled"), "{error}");
    assert_eq!(std::fs::read_to_string(place.path("said")).unwrap(), "sbatch\nscancel 41\n");
}

#[test]
fn a_controller_that_does_not_answer_is_an_error_in_time() {
    let place = Place::new();
    place.stand_in("squeue", "exit 0");
    place.stand_in("sbatch", "sleep 60");
    place.stand_in("scontrol", "exit 0");
    let error = refused(&place.submit(&[]));
    assert!(error.contains("'sbatch' was given 2 s") && error.contains("nothing is in the queue"), "{error}");
    place.stand_in("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1");
    assert!(refused(&place.submit(&[])).contains("Unable to contact slurm controller"));
}

#[test]
fn status_says_what_failed_what_is_lost_and_what_to_do() {
    let place = Place::new();
    assert!(refused(&place.wsi(&["status", "out/small"])).contains("`wsi run` was never called in it"));
    place.stand_in("squeue", "exit 0");
    place.stand_in("sbatch", SBATCH);
    printed(&place.submit(&["--set", "executor.array=4"]));
    printed(&place.run(&["--stage", "train", "--shard", "1/4"]));
    // The accounting is off; the controller remembers one job; another left its output; the fourth left nothing; the report still waits.
    place.stand_in("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1");
    place.stand_in(
        "scontrol",
        "[ \"$4\" = 41 ] && echo 'JobId=41 ArrayJobId=41 ArrayTaskId=2 JobState=OUT_OF_MEMORY Reason=OutOfMemory ExitCode=0:125'",
    );
    place.stand_in("squeue", "echo '42|2|PENDING|Dependency|x'; echo '43|1|PENDING|Dependency|x'");
    let output = "ERROR run 5 of 8 of pipeline 'small': the loss is not finite\nwsi: the job ended with exit code 1\n";
    std::fs::write(place.path("out/small/slurm/train-41_3.out"), output).unwrap();
    std::fs::write(place.path("out/small/slurm/train-41_1.out"), "wsi: the job ended with exit code 0\n").unwrap();
    let text = printed(&place.wsi(&["status", "out/small"]));
    let expected = "\
stage   state    of           done  in work  jobs running  waiting  failed  lost
train   failed   4 trainings  1     –        –             –        2       1
probe   waiting  8 probes     0     –        –             1        –       3
report  waiting  1 report     0     –        –             1        –       –
train failed: share 2/4: OUT_OF_MEMORY: killed for memory: give executor.memory more
train failed: share 3/4: failed with exit code 1: run 5 of 8 of pipeline 'small': the loss is not finite
train lost: share 4/4: in the queue no more, and it left no exit code: killed, or its node is gone
probe lost: share 1/4, share 3/4, share 4/4: in the queue no more, and it left no exit code: killed, or its node is gone
";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("Remove the cause") || text.contains("remove the cause"), "{text}");
    assert!(text.contains("`wsi run small.toml --set data=cohort --set out=out"), "{text}");
    let tree: serde_json::Value = serde_json::from_str(&printed(&place.wsi(&["status", "out/small", "--json"]))).unwrap();
    assert_eq!((&tree["stages"][0]["failed"][0]["of"], &tree["complete"]), (&"share 2/4".into(), &false.into()));
    printed(&place.wsi(&["status", "out/small", "--html", "status.html"]));
    assert!(std::fs::read_to_string(place.path("status.html")).unwrap().contains("OUT_OF_MEMORY"));
    // Without a queue the folders still speak.
    place.stand_in("squeue", "exit 1");
    let text = printed(&place.wsi(&["status", "out/small"]));
    assert!(text.contains("train   failed") && text.contains("note: the queue is not known"), "{text}");
}

#[test]
fn every_site_that_comes_along_can_be_used() {
    let place = Place::new();
    let sites = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/sites");
    for site in std::fs::read_dir(sites).unwrap().map(|entry| entry.unwrap().path()) {
        let text = printed(&place.run(&["--site", site.to_str().unwrap(), "--dry-run"]));
        let checked = place.command("bash").args(["-n", "-c", &text]).output().unwrap();
        assert!(text.contains("#SBATCH") && checked.status.success(), "{}", site.display());
    }
}
