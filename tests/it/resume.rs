//! A training that is killed again and again, at any moment, ends with the bytes of one that never was.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::Rng;
use wsi::ground::seed;
use wsi::learn::checkpoint;
use wsi::stages::Data;

const OUTPUTS: [&str; 5] = [checkpoint::LAST, checkpoint::BEST, "history.csv", "split.csv", "curves.svg"];

/// About what the program needs before its first step.
const START: Duration = Duration::from_millis(60);

fn training(data: &Data, out: &Path, epochs: usize) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wsi"));
    command.args(["train", "--threads", "1", "--device", "cpu", "--data"]).arg(&data.data).args(["--epochs", &epochs.to_string()]);
    command.arg("--labels").arg(data.labels.as_ref().unwrap()).arg("--out").arg(out);
    for setting in ["train.model.aggregator.width=16", "train.model.aggregator.dropout=0.2", "train.batch-size=4", "train.accumulate=2"] {
        command.args(["--set", setting]);
    }
    // Every step is saved, so that kills come between and into writes of checkpoints.
    command.env("WSI_SAVE_EVERY", "0").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Kills `kills` times, each after a random time in which a training starts and gets on by about one part in as many.
fn kill_and_resume(kills: usize) {
    let folder = tempfile::tempdir().unwrap();
    let data = super::train::cohort(folder.path(), 3, 6);
    let (whole, broken): (PathBuf, PathBuf) = (folder.path().join("whole"), folder.path().join("broken"));
    let epochs = 40 * kills;
    let started = Instant::now();
    assert!(training(&data, &whole, epochs).wait().unwrap().success());
    let time = started.elapsed();

    let mut random = seed::stream(kills as u64, "kills");
    let mut landed = 0;
    for _ in 0..kills {
        let mut child = training(&data, &broken, epochs);
        let share = random.random_range(0.0..1.5) / kills as f64;
        std::thread::sleep(START + time.mul_f64(share));
        // A training that has ended by itself was not killed.
        landed += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let last = training(&data, &broken, epochs).wait_with_output().unwrap();
    assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stderr));
    assert!(landed > kills / 2, "only {landed} of {kills} kills hit a running training");
    for file in OUTPUTS {
        assert!(
            std::fs::read(whole.join(file)).unwrap() == std::fs::read(broken.join(file)).unwrap(),
            "{file} differs after {landed} kills"
        );
    }
    let left: Vec<_> = std::fs::read_dir(&broken).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.starts_with('.')), "temporary files stay: {left:?}");
    eprintln!("{landed} kills, {:.1} s an uninterrupted training", time.as_secs_f64());
}

#[test]
fn a_killed_training_ends_with_the_same_bytes() {
    kill_and_resume(4);
}

#[test]
#[ignore = "half a minute: `./run cargo test --release --test it twenty_kills -- --ignored --nocapture`"]
fn twenty_kills() {
    kill_and_resume(20);
}
