//! Family `mil`: training steps on bags of 8,000 tiles, beside a PyTorch loop with the same models (`reference/mil.py`).
//!
//! `WSI_BENCH_BAGS` and `WSI_BENCH_STEPS` change the number of bags in memory (500) and of steps in a turn (all of them: an epoch).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use half::f16;
use rayon::prelude::*;
use serde_json::{Value, json};
use tch::Device;
use wsi::datasets::Dataset;
use wsi::datasets::bags::Bags;
use wsi::datasets::cohort::{Cohort, Labelled};
use wsi::datasets::split::{TrainRows, ValidRows};
use wsi::ground::seed;
use wsi::learn::fit::{State, fit};
use wsi::learn::optimizers::Optimizer;
use wsi::learn::{Learner, TrainSettings, Training};

use crate::peer::Peer;

const TILES: usize = 8000;
const WIDTH: usize = 384;
const CLASSES: usize = 2;
const MODELS: [&str; 2] = ["abmil", "transmil"];
/// Turns of each side, taken alternately.
const TURNS: usize = 3;

/// The word after which this program loads the bags, trains a few steps and prints its peak memory.
pub(super) const MEMORY: &str = "--memory-of-mil";

fn number(name: &str, usual: usize) -> Result<usize> {
    let Ok(text) = std::env::var(name) else { return Ok(usual) };
    text.parse().ok().filter(|&number| number > 0).with_context(|| format!("{name} must be a positive number, not '{text}'"))
}

fn bags_in_memory() -> Result<usize> {
    number("WSI_BENCH_BAGS", 500)
}

/// All rows of the family; without PyTorch, which only `./run bench` installs, none.
pub(super) fn rows(threads: usize) -> Result<Vec<Value>> {
    let Some(torch) = std::env::var_os("WSI_BENCH_TORCH") else {
        println!("mil: skipped, there is no PyTorch to compare with; start it with ./run bench mil");
        return Ok(Vec::new());
    };
    let bags = bags_in_memory()?;
    let steps = number("WSI_BENCH_STEPS", bags)?.min(bags);
    tch::set_num_threads(threads as i32);
    let dataset = dataset(bags)?;
    let mut peer = Torch::start(&torch, threads, bags)?;
    MODELS.iter().map(|model| row(model, &dataset, steps, &mut peer)).collect()
}

fn row(model: &str, dataset: &Bags, steps: usize, peer: &mut Torch) -> Result<Value> {
    let mut side = Side::new(model, dataset)?;
    side.train(dataset, steps.min(3))?;
    peer.train(model, steps.min(3))?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        ours.push(side.train(dataset, steps)?);
        theirs.push(peer.train(model, steps)?);
    }
    let epoch = dataset.ids().len();
    let seconds_an_epoch = |seconds: &mut Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        seconds[TURNS / 2] / steps as f64 * epoch as f64
    };
    let (ours, theirs) = (seconds_an_epoch(&mut ours), seconds_an_epoch(&mut theirs));
    let timed = if steps < epoch { format!(", from {steps} steps") } else { String::new() };
    let note = format!(
        "{epoch} bags of {TILES} × {WIDTH}, f16 in memory, one a step, width 128, AdamW, cross-entropy; {ours:.1} s against {theirs:.1} s an epoch{timed}, median of {TURNS} alternating turns; peak memory {:.0} MB; reference: PyTorch 2.11.0",
        memory(model)?
    );
    let rate = |seconds: f64| epoch as f64 / seconds;
    Ok(
        json!({"id": format!("mil.{model}.epoch"), "ours": rate(ours), "reference": rate(theirs), "unit": "bags/s", "ratio": theirs / ours, "limit_ratio": null, "note": note}),
    )
}

/// Bags of normal noise, half of each class.
fn dataset(bags: usize) -> Result<Bags> {
    let slides = (0..bags).map(|row| Labelled {
        slide: format!("s{row:04}"),
        patient: format!("p{row:04}"),
        target: (row % CLASSES) as i64,
        columns: BTreeMap::new(),
    });
    let classes = (0..CLASSES).map(|class| format!("c{class}")).collect();
    let cohort = Cohort { classes, slides: slides.collect(), partial: false, waivers: Vec::new() };
    let features = (0..bags).into_par_iter().map(|row| noise(&mut seed::stream(2, &format!("bench/{row}")))).collect();
    Bags::in_memory(cohort, features, WIDTH)
}

/// One bag: sums of four uniform numbers, near enough to normal for a clock.
fn noise(random: &mut impl rand::RngCore) -> Vec<f16> {
    (0..TILES * WIDTH / 2)
        .flat_map(|_| {
            let bits = random.next_u64();
            let sum = |bits: u64| (0..4).map(|byte| (bits >> (8 * byte) & 255) as f32 / 255.0 - 0.5).sum::<f32>() * 1.7;
            [f16::from_f32(sum(bits)), f16::from_f32(sum(bits >> 32))]
        })
        .collect()
}

/// A learner with its optimiser.
struct Side {
    settings: TrainSettings,
    learner: Learner,
    optimizer: Box<dyn Optimizer>,
}

impl Side {
    fn new(model: &str, dataset: &Bags) -> Result<Self> {
        let settings: TrainSettings = serde_json::from_value(json!({
            "epochs": 1, "batch-size": 1, "clip": 0.0, "curves-every": 0,
            "model": {"aggregator": {"name": model}, "projection": false},
            "loss": {"name": "cross-entropy"},
            "optimizer": {"name": "adamw", "learning-rate": 5e-4, "weight-decay": 1e-5},
        }))?;
        let learner = Learner::new(&settings, dataset.input(), CLASSES, 1, Device::Cpu)?;
        let optimizer = settings.optimizer.build(learner.parameters());
        Ok(Self { settings, learner, optimizer })
    }

    /// Seconds of one step on each of the first bags, through the training loop itself.
    fn train(&mut self, dataset: &Bags, steps: usize) -> Result<f64> {
        let (train, valid) = (TrainRows((0..steps).collect()), ValidRows(Vec::new()));
        let training = Training { dataset, train: &train, valid: &valid, seed: 1, device: Device::Cpu };
        let mut state = State::new(self.settings.precision);
        let started = Instant::now();
        fit(&mut self.learner, self.optimizer.as_mut(), &training, &self.settings, &mut state, &mut |_, _, _| Ok(()))?;
        Ok(started.elapsed().as_secs_f64())
    }
}

/// The PyTorch process.
struct Torch(Peer);

impl Torch {
    fn start(torch: &OsStr, threads: usize, bags: usize) -> Result<Self> {
        let mut peer = Peer::start(torch, "mil.py", &[threads.to_string()])?;
        ensure!(peer.ask(&format!("load {bags} {TILES} {WIDTH}"))? == "loaded", "the PyTorch side could not make its bags");
        Ok(Self(peer))
    }

    fn train(&mut self, model: &str, steps: usize) -> Result<f64> {
        Ok(self.0.ask(&format!("train {model} {steps}"))?.parse()?)
    }
}

/// Peak resident memory, MB, of a fresh process that holds all bags and trains a few steps.
fn memory(model: &str) -> Result<f64> {
    let found = Command::new(std::env::current_exe()?).args([MEMORY, model]).output()?;
    Ok(String::from_utf8(found.stdout)?.trim().parse()?)
}

/// Prints that peak for the model named.
pub(super) fn print_memory(arguments: &[String]) -> Result<()> {
    let [model] = arguments else { bail!("{MEMORY} wants the name of a model") };
    let dataset = dataset(bags_in_memory()?)?;
    Side::new(model, &dataset)?.train(&dataset, 5.min(dataset.ids().len()))?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the kernel says nothing of peak memory")?;
    println!("{}", peak.split_whitespace().next().context("VmHWM without a number")?.parse::<f64>()? / 1024.0);
    Ok(())
}
