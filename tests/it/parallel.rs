//! Several processes train as one does: the same steps, one voice, one end.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rand::Rng;
use tch::Kind;
use wsi::ground::seed;
use wsi::learn::checkpoint;
use wsi::stages::Data;
use wsi::store::tensors;

use super::program::said;

/// Within this long the others must have ended after one has died.
const BOUND: Duration = Duration::from_secs(30);

fn command(data: &Data, out: &Path, settings: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wsi"));
    command.args(["train", "--no-probe", "--threads", "1", "--device", "cpu", "--data"]).arg(&data.data).arg("--out").arg(out);
    if let Some(labels) = &data.labels {
        command.arg("--labels").arg(labels);
    }
    for setting in settings {
        command.args(["--set", setting]);
    }
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn on(nproc: usize, data: &Data, out: &Path, settings: &[&str]) -> Command {
    let mut command = command(data, out, settings);
    command.args(["--nproc", &nproc.to_string()]);
    command
}

fn done(mut command: Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

/// One of two ranks that nobody watches over.
fn rank(rank: usize, port: u16, data: &Data, out: &Path, settings: &[&str]) -> Command {
    let mut command = command(data, out, settings);
    command.env("RANK", rank.to_string()).env("WORLD_SIZE", "2").env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
    command.env("WSI_SAVE_EVERY", "0");
    command
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Epochs and steps of the last checkpoint.
fn position(out: &Path) -> Option<(usize, usize)> {
    checkpoint::position(&out.join(checkpoint::LAST))
}

/// Until there is a checkpoint beyond `former`.
fn wait_for_checkpoint(out: &Path, former: Option<(usize, usize)>) {
    let started = Instant::now();
    while position(out) <= former {
        assert!(started.elapsed() < Duration::from_secs(120), "no checkpoint");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The output of a process that ends within `BOUND`.
fn ends(mut child: Child) -> Output {
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > BOUND {
            child.kill().unwrap();
            panic!("still there after {BOUND:?}: {}", said(&child.wait_with_output().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

fn signal(name: &str, process: u32) {
    assert!(Command::new("kill").args([name, &process.to_string()]).status().unwrap().success());
}

/// The process of a rank that `launcher` has started.
fn process_of(launcher: u32, rank: usize) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).unwrap();
    let is_rank = |process: &&str| {
        let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap();
        environment.split(|byte| *byte == 0).any(|variable| variable == format!("RANK={rank}").as_bytes())
    };
    children.split_whitespace().find(is_rank).expect("the rank runs").parse().unwrap()
}

/// Largest difference of the tensors that are `compared` by name, as a share of a tensor's largest value; the tensor's name with it.
fn distance(one: &Path, other: &Path, compared: impl Fn(&str) -> bool) -> (f64, String) {
    let (one, other) = (tensors::read(&one.join(checkpoint::LAST)).unwrap().0, tensors::read(&other.join(checkpoint::LAST)).unwrap().0);
    assert!(one.keys().eq(other.keys()));
    let far = |name: &String| {
        let (a, b) = (one[name].to_kind(Kind::Double), other[name].to_kind(Kind::Double));
        let largest = a.abs().max().double_value(&[]).max(1e-3);
        ((a - b).abs().max().double_value(&[]) / largest, name.clone())
    };
    one.keys().filter(|name| compared(name)).map(far).max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
}

fn losses(run: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(run.join("history.csv")).unwrap();
    let column = text.lines().next().unwrap().split(',').position(|name| name == "train_loss").unwrap();
    text.lines().skip(1).map(|line| line.split(',').nth(column).unwrap().parse().unwrap()).collect()
}

/// Largest difference of two loss curves, as a share of the loss.
fn curve_distance(one: &Path, other: &Path) -> f64 {
    losses(one).iter().zip(losses(other)).map(|(a, b)| (a - b).abs() / a.abs()).fold(0.0, f64::max)
}

/// SGD, since AdamW makes whole steps of the rounding where a gradient is 0.
const SMALL: [&str; 4] =
    ["train.model.aggregator.width=16", "train.batch-size=8", "train.epochs=6", "train.optimizer={name='sgd',learning-rate=0.02}"];

#[test]
fn two_processes_take_the_steps_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = super::train::cohort(folder.path(), 3, 8);
    let ncmi = "train.loss={name='ncmi',centroids='alternating',centroid-start=1";
    let (simultaneous, gauss_seidel) = (format!("{ncmi}}}"), format!("{ncmi},centroid-update='gauss-seidel'}}"));
    let cases: [(&str, &[&str]); 6] = [
        ("cross-entropy", &["train.loss.name=cross-entropy"]),
        ("ncmi", &[&simultaneous]),
        ("ncmi-gauss-seidel", &[&gauss_seidel, "train.accumulate=2"]),
        ("supcon", &["train.loss.name=supcon", "train.loss.temperature=0.5"]),
        ("opl", &["train.loss.name=opl"]),
        ("acmil", &["train.loss.name=cross-entropy", "train.model.aggregator={name='acmil',masked-share=0.0}", "train.epochs=3"]),
    ];
    for (name, changes) in cases {
        let settings = [&SMALL[..], changes].concat();
        let (one, two) = (folder.path().join(format!("{name}-1")), folder.path().join(format!("{name}-2")));
        done(on(1, &data, &one, &settings));
        done(on(2, &data, &two, &settings));
        // A soft-max does not see a shift of all its scores: the gradient of their bias is 0, and it holds rounding alone.
        let (far, tensor) = distance(&one, &two, |name| !name.ends_with("attention.score.bias"));
        let by_loss = curve_distance(&one, &two);
        eprintln!("{name}: tensors {far:.1e} ({tensor}), loss curve {by_loss:.1e}");
        assert!(far < 1e-4 && by_loss < 1e-5, "{name}: {tensor} differs by {far}, the loss by {by_loss}");
    }
}

/// Images for training that differ by class in colour, in CIFAR-100's binary layout.
fn images(folder: &Path, count: usize) -> Data {
    std::fs::write(folder.join("fine_label_names.txt"), "red\ngreen\nblue\n").unwrap();
    let mut random = seed::stream(3, "images");
    for (part, count) in [("train.bin", count), ("test.bin", 6)] {
        let mut bytes = Vec::new();
        for index in 0..count {
            bytes.extend([0, (index % 3) as u8]);
            bytes.extend((0..3 * 1024).map(|pixel| random.random_range(0..120) + if pixel / 1024 == index % 3 { 100u8 } else { 0 }));
        }
        std::fs::write(folder.join(part), bytes).unwrap();
    }
    Data { data: folder.to_owned(), labels: None, split: None }
}

const OF_IMAGES: [&str; 3] =
    ["train.data=cifar100", "split={name='column',column='part',test=['test'],validation=0.0}", "train.augment=true"];

/// With a centre that soon forgets where it started.
const NCMI: &str = "train.loss={name='ncmi',centroids='alternating',centroid-start=1,centre-decay=0.5}";

#[test]
fn batch_normalisation_sees_the_whole_batch_or_each_share() {
    let folder = tempfile::tempdir().unwrap();
    let data = images(folder.path(), 24);
    let base = [NCMI, "train.optimizer={name='sgd',learning-rate=0.001}", "train.batch-size=8", "train.epochs=1"];
    let run = |name: &str, nproc, more: &[&str]| {
        let out = folder.path().join(name);
        done(on(nproc, &data, &out, &[&OF_IMAGES[..], &base, more].concat()));
        out
    };
    // What a batch's statistics make continuously: rounding that flips one ReLU at 0 moves a single gradient by a percent, and does so
    // between two kinds of processor as well.
    let compared = |name: &str| name.contains("running_") || name.starts_with("loss.");
    let one = run("one", 1, &[]);
    let together = run("together", 2, &[]);
    let (far, tensor) = distance(&one, &together, compared);
    let by_loss = curve_distance(&one, &together);
    eprintln!("together: tensors {far:.1e} ({tensor}), loss curve {by_loss:.1e}");
    assert!(far < 1e-3 && by_loss < 1e-3, "{tensor} differs by {far}, the loss by {by_loss}");
    let (apart, tensor) = distance(&one, &run("apart", 2, &["train.sync-batch-norm=false"]), compared);
    eprintln!("apart: {apart:.1e} ({tensor})");
    assert!(apart > 10.0 * far, "shares of four images have other statistics");
}

/// Batch normalisation, random changes of images, a centre and centroids that move: batches of 64 against twice 32.
#[test]
fn images_on_two_processes_have_the_loss_curve_of_one_and_outlive_a_killed_rank() {
    let folder = tempfile::tempdir().unwrap();
    let data = images(folder.path(), 128);
    let base = [
        "train.model.encoder.name=resnet18",
        // Small: rounding grows with the rate, between one thread and two of one process as well.
        "train.optimizer={name='sgd',learning-rate=0.0001}",
        "train.batch-size=64",
        "train.epochs=3",
        "train.clip=0.0",
    ];
    let settings = |loss| [&OF_IMAGES[..], &base, &[loss]].concat();
    for (name, loss) in [("cross-entropy", "train.loss.name=cross-entropy"), ("ncmi", NCMI)] {
        let (one, two) = (folder.path().join(format!("{name}-1")), folder.path().join(format!("{name}-2")));
        done(on(1, &data, &one, &settings(loss)));
        done(on(2, &data, &two, &settings(loss)));
        let by_loss = curve_distance(&one, &two);
        eprintln!("{name}: loss curve {by_loss:.1e} of {:?}", losses(&one));
        assert!(losses(&one)[2] < losses(&one)[0], "{name} learns nothing: {:?}", losses(&one));
        assert!(by_loss < 1e-3, "{name}: the loss differs by {by_loss}");
        if loss == NCMI {
            for part in ["loss.centre", "loss.centroids"] {
                let (far, tensor) = distance(&one, &two, |name| name == part);
                eprintln!("{name}: {tensor} {far:.1e}");
                assert!(far < 1e-3, "{tensor} differs by {far}");
            }
        }
    }

    let (whole, broken) = (folder.path().join("ncmi-2"), folder.path().join("broken"));
    let launcher = on(2, &data, &broken, &settings(NCMI)).env("WSI_SAVE_EVERY", "0").spawn().unwrap();
    wait_for_checkpoint(&broken, None);
    let killed = Instant::now();
    signal("-KILL", process_of(launcher.id(), 1));
    let output = ends(launcher);
    eprintln!("rank 1 killed: all ended after {:.2} s", killed.elapsed().as_secs_f64());
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("another rank has ended or cannot be reached"), "{}", said(&output));
    assert!(position(&broken) < position(&whole), "the rank was killed too late for a test");
    done(on(2, &data, &broken, &settings(NCMI)));
    for file in [checkpoint::LAST, "history.csv"] {
        assert!(std::fs::read(whole.join(file)).unwrap() == std::fs::read(broken.join(file)).unwrap(), "{file} differs");
    }
}

#[test]
fn a_killed_launcher_takes_its_ranks_along() {
    let folder = tempfile::tempdir().unwrap();
    let data = super::train::cohort(folder.path(), 3, 6);
    let out = folder.path().join("run");
    let settings = [&SMALL[..], &["train.epochs=100000", "train.drop-last=true"]].concat();
    let mut launcher = on(2, &data, &out, &settings).env("WSI_SAVE_EVERY", "0").stderr(Stdio::null()).spawn().unwrap();
    wait_for_checkpoint(&out, None);
    let ranks = [0, 1].map(|rank| process_of(launcher.id(), rank));
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    let killed = Instant::now();
    let runs = |process: &u32| std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    while ranks.iter().any(runs) {
        assert!(killed.elapsed() < BOUND, "a rank outlives its launcher");
        std::thread::sleep(Duration::from_millis(10));
    }
    eprintln!("launcher killed: its ranks ended after {:.2} s", killed.elapsed().as_secs_f64());
    assert!(position(&out).is_some(), "the checkpoint is whole");
}

#[test]
fn a_killed_rank_ends_the_others_and_the_same_command_continues_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let data = super::train::cohort(folder.path(), 3, 6);
    let settings = [&SMALL[..], &["train.epochs=60", "train.model.aggregator.dropout=0.2", "train.drop-last=true"]].concat();
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    done(on(2, &data, &whole, &settings));
    for victim in [1, 0] {
        let former = position(&broken);
        let launcher = on(2, &data, &broken, &settings).env("WSI_SAVE_EVERY", "0").spawn().unwrap();
        wait_for_checkpoint(&broken, former);
        let killed = Instant::now();
        signal("-KILL", process_of(launcher.id(), victim));
        let output = ends(launcher);
        eprintln!("rank {victim} killed: all ended after {:.2} s", killed.elapsed().as_secs_f64());
        assert_eq!(output.status.code(), Some(1));
        let text = said(&output);
        assert!(text.contains(&format!("rank {victim} of 2 was ended by signal 9")), "{text}");
        assert!(text.contains("another rank has ended or cannot be reached"), "{text}");
    }
    let launcher = on(2, &data, &broken, &settings).env("WSI_SAVE_EVERY", "3600").spawn().unwrap();
    let log = || std::fs::read_to_string(broken.join("log.jsonl")).unwrap();
    let starts = log().matches("\"resume\"").count();
    while log().matches("\"resume\"").count() == starts {
        std::thread::sleep(Duration::from_millis(1));
    }
    signal("-TERM", launcher.id());
    let output = ends(launcher);
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    done(on(2, &data, &broken, &settings));
    for file in [checkpoint::LAST, checkpoint::BEST, "history.csv", "split.csv", "curves.svg"] {
        assert!(std::fs::read(whole.join(file)).unwrap() == std::fs::read(broken.join(file)).unwrap(), "{file} differs");
    }
}

#[test]
fn without_a_launcher_a_dead_rank_is_noticed_too() {
    let folder = tempfile::tempdir().unwrap();
    let data = super::train::cohort(folder.path(), 3, 6);
    let settings = [&SMALL[..], &["train.epochs=100000", "train.drop-last=true"]].concat();
    for victim in [0, 1] {
        let (port, out) = (free_port(), folder.path().join(format!("run-{victim}")));
        let mut ranks: Vec<Child> = (0..2).map(|index| rank(index, port, &data, &out, &settings).spawn().unwrap()).collect();
        wait_for_checkpoint(&out, None);
        ranks[victim].kill().unwrap();
        let killed = Instant::now();
        let output = ends(ranks.remove(1 - victim));
        eprintln!("rank {victim} killed: the other ended after {:.2} s", killed.elapsed().as_secs_f64());
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains("another rank has ended or cannot be reached"), "{}", said(&output));
        assert!(position(&out).is_some(), "the checkpoint is whole");
        ranks.remove(0).wait().unwrap();
    }
}

#[test]
#[ignore = "half a minute of silence: `./run cargo test --release --test it hangs -- --ignored --nocapture`"]
fn a_rank_that_hangs_is_noticed_too() {
    let folder = tempfile::tempdir().unwrap();
    let data = super::train::cohort(folder.path(), 3, 6);
    let settings = [&SMALL[..], &["train.epochs=100000", "train.drop-last=true"]].concat();
    let (port, out) = (free_port(), folder.path().join("run"));
    let [lead, mut other] = [0, 1].map(|index| rank(index, port, &data, &out, &settings).spawn().unwrap());
    wait_for_checkpoint(&out, None);
    signal("-STOP", other.id());
    let stopped = Instant::now();
    let output = ends(lead);
    eprintln!("rank 1 stopped: the other ended after {:.1} s", stopped.elapsed().as_secs_f64());
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("nothing was heard of rank 1"), "{}", said(&output));
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn ranks_that_differ_and_batches_that_cannot_be_shared_are_refused_before_the_first_step() {
    let folder = tempfile::tempdir().unwrap();
    let data = super::train::cohort(folder.path(), 3, 6);
    let out = folder.path().join("run");
    let port = free_port();
    let other = |settings: &[&str], index| rank(index, port, &data, &out, &[&SMALL[..], settings].concat()).spawn().unwrap();
    let ranks = [other(&[], 0), other(&["train.epochs=7"], 1)];
    for output in ranks.map(ends) {
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("rank 1 of 2 differs from rank 0 in settings.train.epochs: 7 there and 6 on rank 0"), "{text}");
    }
    assert!(!out.exists(), "no folder is made");

    let refused = |nproc, settings: &[&str]| {
        let output = on(nproc, &data, &out, &[&SMALL[..], settings].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        said(&output)
    };
    let text = refused(3, &[]);
    assert!(text.contains("train.batch-size = 8 cannot be shared by 3 ranks"), "{text}");
    let processors = std::thread::available_parallelism().unwrap().get();
    assert_eq!(text.contains("--nproc 3: there are"), processors < 3, "{text}");
    assert!(!out.exists(), "no folder is made");

    // What only rank 0 can find wrong, after all have met.
    std::fs::write(&out, "no folder").unwrap();
    let started = Instant::now();
    let text = refused(2, &[]);
    assert!(text.contains("rank 0 of 2") && text.contains("rank 0 ended before the first step"), "{text}");
    assert!(started.elapsed() < BOUND, "{:?}", started.elapsed());
}
