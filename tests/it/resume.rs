//! A training that is killed again and again, at any moment, ends with the bytes of one that never was.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::Rng;
use tch::Device;
use wsi::config::Config;
use wsi::ground::seed;
use wsi::learn::fit::State;
use wsi::learn::{Learner, checkpoint};
use wsi::stages::Data;
use wsi::store::history::Epoch;
use wsi::store::tensors;

const OUTPUTS: [&str; 5] = [checkpoint::LAST, checkpoint::BEST, "history.csv", "split.csv", "curves.svg"];

/// About what the program needs before its first step.
const START: Duration = Duration::from_millis(60);

fn training(data: &Data, out: &Path, epochs: usize) -> Child {
    // Every step is saved, so that kills come between and into writes of checkpoints.
    command(data, out, epochs).env("WSI_SAVE_EVERY", "0").spawn().unwrap()
}

fn command(data: &Data, out: &Path, epochs: usize) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wsi"));
    command
        .args(["train", "--no-probe", "--threads", "1", "--device", "cpu", "--data"])
        .arg(&data.data)
        .args(["--epochs", &epochs.to_string()]);
    command.arg("--labels").arg(data.labels.as_ref().unwrap()).arg("--out").arg(out);
    for setting in ["train.model.aggregator.width=16", "train.model.aggregator.dropout=0.2", "train.batch-size=4", "train.accumulate=2"] {
        command.args(["--set", setting]);
    }
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn same_outputs(whole: &Path, broken: &Path, after: &str) {
    for file in OUTPUTS {
        assert!(std::fs::read(whole.join(file)).unwrap() == std::fs::read(broken.join(file)).unwrap(), "{file} differs after {after}");
    }
    let left: Vec<_> = std::fs::read_dir(broken).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.starts_with('.') && !name.contains("next")), "temporary files stay: {left:?}");
}

/// Kills exactly `kills` times, each after a random time in which a training starts and gets on by about one part in as many; a
/// training that ends by itself is compared, and the next kills are of another.
fn kill_and_resume(kills: usize) {
    let folder = tempfile::tempdir().unwrap();
    let data = super::train::cohort(folder.path(), 3, 6);
    let whole = folder.path().join("whole");
    let epochs = 40 * kills;
    let started = Instant::now();
    assert!(training(&data, &whole, epochs).wait().unwrap().success());
    let time = started.elapsed();

    let mut random = seed::stream(kills as u64, "kills");
    let (mut landed, mut trainings) = (0, 1);
    let mut broken = folder.path().join("broken-1");
    while landed < kills {
        let mut child = training(&data, &broken, epochs);
        let share = random.random_range(0.0..1.5) / kills as f64;
        std::thread::sleep(START + time.mul_f64(share));
        child.kill().unwrap();
        // Without an exit code it was ended by the signal, not by itself.
        match child.wait().unwrap().code() {
            None => landed += 1,
            Some(code) => {
                assert_eq!(code, 0);
                same_outputs(&whole, &broken, &format!("{landed} kills"));
                trainings += 1;
                broken = folder.path().join(format!("broken-{trainings}"));
            }
        }
    }
    let last = training(&data, &broken, epochs).wait_with_output().unwrap();
    assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stderr));
    same_outputs(&whole, &broken, &format!("{landed} kills"));
    eprintln!("{landed} kills of {trainings} trainings, {:.1} s an uninterrupted one", time.as_secs_f64());
}

#[test]
fn a_killed_training_ends_with_the_same_bytes() {
    kill_and_resume(4);
}

#[test]
#[ignore = "two minutes: `./run cargo test --release --test it twenty_kills -- --ignored --nocapture`"]
fn twenty_kills() {
    kill_and_resume(20);
}

#[test]
fn a_second_training_in_one_folder_waits_for_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let data = super::train::cohort(folder.path(), 3, 6);
    let (whole, shared) = (folder.path().join("whole"), folder.path().join("shared"));
    assert!(training(&data, &whole, 20).wait().unwrap().success());
    for child in [(); 2].map(|()| training(&data, &shared, 20)) {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    same_outputs(&whole, &shared, "two trainings at once");
    let log = std::fs::read_to_string(shared.join("log.jsonl")).unwrap();
    assert_eq!(log.matches("\"finish\"").count(), 1, "{log}");
}

#[test]
fn a_terminated_training_saves_its_last_step_and_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = super::train::cohort(folder.path(), 3, 6);
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    let run = |out: &Path| command(&data, out, 400).env("WSI_SAVE_EVERY", "3600").spawn().unwrap();
    let child = run(&broken);
    let log = || std::fs::read_to_string(broken.join("log.jsonl")).unwrap_or_default();
    let started = Instant::now();
    while !log().contains("\"epoch\"") && started.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(!broken.join(checkpoint::LAST).exists(), "nothing is due to be saved yet");
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let said = child.wait_with_output().unwrap();
    assert_eq!(said.status.code(), Some(75));
    assert!(String::from_utf8_lossy(&said.stderr).contains("run the same command again"));
    assert!(checkpoint::position(&broken.join(checkpoint::LAST)).is_some_and(|(epochs, _)| (1..400).contains(&epochs)));

    assert!(run(&broken).wait().unwrap().success());
    assert!(run(&whole).wait().unwrap().success());
    same_outputs(&whole, &broken, "SIGTERM");
    assert!(log().contains("\"resume\""));
}

#[test]
fn a_loss_that_is_not_finite_leaves_the_last_good_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let data = super::train::cohort(folder.path(), 3, 6);
    let out = folder.path().join("wild");
    let mut wild = command(&data, &out, 5);
    for setting in ["train.loss.name=cross-entropy", "train.optimizer={name='sgd',learning-rate=1e30}", "train.clip=0.0"] {
        wild.args(["--set", setting]);
    }
    let output = wild.env("WSI_SAVE_EVERY", "0").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let (epochs, steps) = checkpoint::position(&out.join(checkpoint::LAST)).unwrap();
    assert!(said.contains(&format!("'{}' of {epochs} epochs and {steps} steps is whole", checkpoint::LAST)), "{said}");
    assert!(said.contains(&format!("epoch {}, step {} of", epochs + 1, steps + 1)), "{said}");
    assert!(said.contains("loss 'cross-entropy'") && said.contains("lower the learning rate"), "{said}");
    assert!(!out.join("run.json").exists());
}

#[test]
fn a_kill_between_two_files_never_joins_two_epochs() {
    let folder = tempfile::tempdir().unwrap();
    let data = super::train::cohort(folder.path(), 3, 6);
    let config = Config::load(None, &["train.model.aggregator.width=16".into()]).unwrap();
    let (dataset, _) = data.open(&config).unwrap();
    let learner = Learner::new(&config.train, dataset.input(), 3, 0, Device::Cpu).unwrap();
    let mut optimizer = config.train.optimizer.build(learner.parameters());
    // Two saves, the second with a better model: its centre is 2 where the first one's is 1.
    let saved = |name: &str, epoch: usize| {
        let out = folder.path().join(name);
        let mut state = State::new(config.train.precision);
        state.history = (1..=epoch).map(|epoch| Epoch::new(epoch, 0.1, 1.0)).collect();
        let tensors = learner.tensors().into_iter().map(|(name, t)| (name, t.detach().full_like(epoch as f64)));
        state.best = Some((epoch, tensors.collect()));
        checkpoint::save(&out, &learner, optimizer.as_ref(), &state, true).unwrap();
        out
    };
    let (first, second) = (saved("first", 1), saved("second", 2));
    let killed = |name: &str, last: &Path, best: &Path, next: Option<&Path>| {
        let out = folder.path().join(name);
        std::fs::create_dir(&out).unwrap();
        std::fs::copy(last.join(checkpoint::LAST), out.join(checkpoint::LAST)).unwrap();
        std::fs::copy(best.join(checkpoint::BEST), out.join(checkpoint::BEST)).unwrap();
        if let Some(next) = next {
            std::fs::copy(next.join(checkpoint::BEST), out.join("checkpoint-best-next.safetensors")).unwrap();
        }
        out
    };
    for (name, last, expected) in [("before", &first, 1), ("after", &second, 2)] {
        let out = killed(name, last, &first, Some(&second));
        let best = checkpoint::resume(&out, &learner, optimizer.as_mut(), config.train.precision).unwrap().best.unwrap();
        assert_eq!((best.0, best.1["loss.centre"].double_value(&[0])), (expected, expected as f64), "killed {name} the last checkpoint");
        let on_disk = tensors::read(&out.join(checkpoint::BEST)).unwrap();
        assert_eq!(on_disk.1["epoch"].as_u64(), Some(expected as u64));
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 2, "nothing else stays");
    }
    let before = std::fs::read(first.join(checkpoint::LAST)).unwrap();
    let mut spoilt = learner.parameters().remove("model.projection.weight").unwrap();
    let _ = tch::no_grad(|| spoilt.fill_(f64::NAN));
    let error = checkpoint::save(&first, &learner, optimizer.as_ref(), &State::new(config.train.precision), true).unwrap_err();
    assert!(error.to_string().contains("'model.projection.weight' is not finite"), "{error}");
    assert!(std::fs::read(first.join(checkpoint::LAST)).unwrap() == before, "the good one stays");

    let foreign = killed("foreign", &second, &first, None);
    let error = checkpoint::resume(&foreign, &learner, optimizer.as_mut(), config.train.precision).err().unwrap().to_string();
    assert!(error.contains("names epoch 2 as the best"), "{error}");
}
