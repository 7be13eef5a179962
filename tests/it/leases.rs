//! Several calls in one run folder: nothing is done twice, nothing is lost, and a file system that refuses locks is no obstacle.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use rand::Rng;
use wsi::ground::seed;

use crate::program::said;
use crate::shards::{command, extract, outputs, same, slides, succeed, tile};

/// The slides that calls said they had begun, one word a bag: journals and logs do not tell, times of files do not either, so that the kernel
/// is asked: each bag is renamed into place once.
fn renames(folder: &Path, ending: &str, calls: Vec<Command>) -> Vec<String> {
    let trace = |index: usize| folder.join(format!("trace-{index}"));
    let children: Vec<_> = calls
        .into_iter()
        .enumerate()
        .map(|(index, call)| {
            let mut traced = Command::new("strace");
            traced.args(["-f", "-qq", "-e", "trace=rename,renameat,renameat2", "-o"]).arg(trace(index));
            traced.arg(call.get_program()).args(call.get_args()).stdout(Stdio::null()).stderr(Stdio::piped());
            traced.spawn().unwrap()
        })
        .collect();
    let count = children.len();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
    let lines = (0..count).map(|index| std::fs::read_to_string(trace(index)).unwrap()).collect::<Vec<_>>().concat();
    let target = |line: &str| line.rsplit('"').nth(1).map(|path| path.rsplit('/').next().unwrap().to_owned());
    lines.lines().filter_map(target).filter(|name| name.ends_with(ending)).collect()
}

#[test]
fn two_calls_on_one_cohort_do_each_slide_once() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: no strace");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let slides = slides(folder.path(), 6);
    let place = |name: &str| folder.path().join(name);
    succeed(&tile(&slides, &place("tiles")), &[]);
    succeed(&extract(&slides, &place("tiles"), &place("bags")), &[]);
    let (tiles, bags) = (outputs(&place("tiles")), outputs(&place("bags")));

    // Two for everything, then one whose share is all but nothing and who may take what the other has not begun.
    for (round, shares) in [["1/1", "1/1"], ["1/2", "2/2"]].into_iter().enumerate() {
        let (t, b) = (place(&format!("tiles-{round}")), place(&format!("bags-{round}")));
        for (words, ending) in [(tile(&slides, &t), "_patches.h5"), (extract(&slides, &t, &b), ".h5")] {
            let calls = shares.map(|share| {
                let mut call = command(&words);
                call.args(["--shard", share, "--steal", "--threads", "1"]);
                call
            });
            let done = renames(folder.path(), ending, calls.into());
            assert_eq!(done.len(), 6, "{done:?}");
            assert_eq!(done.iter().collect::<BTreeSet<_>>().len(), 6, "{done:?}");
        }
        same(&tiles, &outputs(&t), "two calls");
        same(&bags, &outputs(&b), "two calls");
    }
}

#[test]
fn a_task_of_a_slurm_array_takes_its_share_and_then_what_nobody_has_begun() {
    let folder = tempfile::tempdir().unwrap();
    let slides = slides(folder.path(), 3);
    let (whole, array) = (folder.path().join("whole"), folder.path().join("array"));
    succeed(&tile(&slides, &whole), &[]);
    let mut task = command(&tile(&slides, &array));
    for (name, value) in [("ID", "2"), ("COUNT", "3"), ("MIN", "1"), ("MAX", "3"), ("STEP", "1")] {
        task.env(format!("SLURM_ARRAY_TASK_{name}"), value);
    }
    let output = task.env("SLURM_ARRAY_JOB_ID", "77").stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success() && said(&output).contains("share 2/3"), "{}", said(&output));
    same(&outputs(&whole), &outputs(&array), "one task of three, the others of which never came");
}

/// A library that has `flock` fail, as on NFS without a lock service.
pub fn without_flock(folder: &Path) -> Option<PathBuf> {
    let (source, library) = (folder.join("flock.c"), folder.join("flock.so"));
    std::fs::write(&source, "#include <errno.h>\nint flock(int file, int how) { (void)file; (void)how; errno = ENOLCK; return -1; }\n")
        .unwrap();
    let built = Command::new("gcc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    built.is_ok_and(|status| status.success()).then_some(library)
}

#[test]
fn a_file_system_that_refuses_locks_is_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = without_flock(folder.path()) else { return eprintln!("skipped: no C compiler") };
    let slides = slides(folder.path(), 2);
    let place = |name: &str| folder.path().join(name);
    succeed(&tile(&slides, &place("tiles")), &[]);
    succeed(&extract(&slides, &place("tiles"), &place("bags")), &[]);
    let (t, b) = (place("tiles-2"), place("bags-2"));
    for words in [tile(&slides, &t), extract(&slides, &t, &b)] {
        let output =
            command(&words).env("LD_PRELOAD", &library).env_remove("HDF5_USE_FILE_LOCKING").stderr(Stdio::piped()).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(said(&output).matches("HDF5_USE_FILE_LOCKING=FALSE").count(), 1, "said once: {}", said(&output));
    }
    same(&outputs(&place("tiles")), &outputs(&t), "no locks");
    same(&outputs(&place("bags")), &outputs(&b), "no locks");
    // Who insists on locks is told what stands in the way.
    let insisting = command(&extract(&slides, &t, &place("bags-3")))
        .env("LD_PRELOAD", &library)
        .env("HDF5_USE_FILE_LOCKING", "TRUE")
        .stderr(Stdio::piped())
        .output();
    let insisting = insisting.unwrap();
    assert!(!insisting.status.success() && said(&insisting).contains("HDF5_USE_FILE_LOCKING=FALSE"), "{}", said(&insisting));
}

#[test]
fn what_a_killed_call_had_in_work_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let slides = slides(folder.path(), 6);
    let place = |name: &str| folder.path().join(name);
    succeed(&tile(&slides, &place("tiles")), &[]);
    let started = Instant::now();
    succeed(&extract(&slides, &place("tiles"), &place("bags")), &["--threads", "1"]);
    let (time, bags) = (started.elapsed(), outputs(&place("bags")));
    let mut random = seed::stream(3, "lease-kills");
    for round in 0..3 {
        let b = place(&format!("bags-{round}"));
        let words = extract(&slides, &place("tiles"), &b);
        let [mut killed, survivor] = [(); 2].map(|()| command(&words).args(["--threads", "1"]).stderr(Stdio::piped()).spawn().unwrap());
        std::thread::sleep(time.mul_f64(random.random_range(0.3..0.8)));
        killed.kill().unwrap();
        killed.wait().unwrap();
        let output = survivor.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        same(&bags, &outputs(&b), "a kill beside another call");
    }
}
