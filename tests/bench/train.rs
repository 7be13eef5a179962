//! Family `train`: the training loop itself (`fit`: crop, flip and rotate, ResNet-18 with the CIFAR stem, cross-entropy, SGD) beside the same
//! network in eager PyTorch (`reference/train.py`) on images that are in memory already, with as many threads; and how much of our own loop
//! is the network.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use serde_json::Value;
use tch::{Device, Kind, Tensor};
use wsi::config::Config;
use wsi::datasets::Dataset;
use wsi::datasets::augment::AugmentationSettings;
use wsi::datasets::cifar::{Cifar, Set};
use wsi::datasets::split::{TrainRows, ValidRows};
use wsi::ground::seed;
use wsi::learn::fit::{State, fit};
use wsi::learn::{Learner, Training};
use wsi::torch::autocast::autocast;

use crate::median;
use crate::peer::Peer;

const BATCHES: [usize; 2] = [64, 128];
const LAYOUTS: [&str; 2] = ["contiguous", "channels-last"];
/// Steps of a turn.
const STEPS: usize = 8;
/// Turns of each side, taken alternately.
const TURNS: usize = 3;
const CLASSES: usize = 100;

/// All rows of the family; without PyTorch, which only `./run bench` installs, none.
pub(super) fn rows(threads: usize) -> Result<Vec<Value>> {
    let Some(torch) = std::env::var_os("WSI_BENCH_TORCH") else {
        println!("train: skipped, there is no PyTorch to compare with; start it with ./run bench train");
        return Ok(Vec::new());
    };
    let scratch = tempfile::tempdir()?;
    tch::set_num_threads(threads as i32);
    let mut rows = Vec::new();
    for batch in BATCHES {
        let data = images(&scratch.path().join(batch.to_string()), STEPS * batch)?;
        for (precision, kind) in [("f32", Kind::Float), ("bf16", Kind::BFloat16)] {
            rows.extend(Bench { data: &data, batch, precision, kind, threads }.rows(&torch)?);
        }
    }
    Ok(rows)
}

/// Noise in CIFAR-100's binary layout.
fn images(folder: &Path, count: usize) -> Result<Cifar> {
    use rand::Rng;
    const PIXELS: usize = 3072;
    std::fs::create_dir_all(folder)?;
    let mut random = seed::stream(0, "bench/images");
    let mut records = vec![0u8; count * (PIXELS + 2)];
    random.fill(&mut records[..]);
    for (index, record) in records.chunks_exact_mut(PIXELS + 2).enumerate() {
        record[1] = (index % CLASSES) as u8;
    }
    std::fs::write(folder.join("train.bin"), &records)?;
    std::fs::write(folder.join("test.bin"), &records[..PIXELS + 2])?;
    let names: Vec<String> = (0..CLASSES).map(|class| format!("class_{class:02}")).collect();
    std::fs::write(folder.join("fine_label_names.txt"), names.join("\n"))?;
    Cifar::read(folder, Set::Cifar100, &AugmentationSettings::default())
}

struct Bench<'a> {
    data: &'a Cifar,
    batch: usize,
    precision: &'static str,
    kind: Kind,
    threads: usize,
}

impl Bench<'_> {
    fn rows(&self, torch: &OsStr) -> Result<Vec<Value>> {
        let Self { batch, precision, threads, .. } = *self;
        let mut peer = Peer::start(torch, "train.py", &[threads.to_string(), "cpu".to_owned()])?;
        let mut theirs = |layout: &str, steps: usize| -> Result<f64> {
            let seconds: f64 = peer.ask(&format!("{precision} {layout} {batch} {steps}"))?.parse()?;
            Ok((steps * batch) as f64 / seconds)
        };
        let mut best = (0.0, LAYOUTS[0]);
        for layout in LAYOUTS {
            theirs(layout, 1)?; // warms up
            let rate = theirs(layout, 3)?;
            if rate > best.0 {
                best = (rate, layout);
            }
        }
        let mut loop_ = Loop::new(self)?;
        loop_.alone(1)?;
        let (mut whole, mut network, mut reference) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..TURNS {
            whole.push(loop_.whole()?);
            reference.push(theirs(best.1, STEPS)?);
            network.push(loop_.alone(STEPS)?);
        }
        let [whole, network, reference] = [whole, network, reference].map(median);
        let note = format!(
            "batch {batch}, {threads} threads; the training loop with loader and augmentation against PyTorch 2.11.0 eager with images in memory, {}; {STEPS} steps a turn, median of {TURNS} alternating turns",
            best.1
        );
        let share = format!(
            "batch {batch}; the training loop against forward, loss, backward and optimiser alone on one batch; {:.1} % of the time is outside them",
            100.0 * (1.0 - whole / network)
        );
        Ok(vec![
            super::row(&format!("train.resnet18.{precision}.{batch}"), whole, reference, "images/s", &note),
            super::row(&format!("train.overhead.resnet18.{precision}.{batch}"), whole, network, "images/s", &share),
        ])
    }
}

/// Our loop, and its network alone.
struct Loop<'a> {
    bench: &'a Bench<'a>,
    config: Config,
    learner: Learner,
}

impl<'a> Loop<'a> {
    fn new(bench: &'a Bench<'a>) -> Result<Self> {
        let settings = [
            "train.data=cifar100",
            "train.model.encoder.name=cifar-resnet18",
            "train.loss.name=cross-entropy",
            "train.epochs=1",
            "train.curves-every=0",
            "train.clip=0.0",
            "train.augment=true",
            "train.optimizer={name='sgd',learning-rate=0.1,momentum=0.9,weight-decay=5e-4}",
        ];
        let own = [format!("train.precision={}", bench.precision), format!("train.batch-size={}", bench.batch)];
        let all: Vec<String> = settings.map(str::to_owned).into_iter().chain(own).collect();
        let config = Config::load(None, &all)?;
        let learner = Learner::new(&config.train, bench.data.input(), CLASSES, 0, Device::Cpu)?;
        Ok(Self { bench, config, learner })
    }

    /// Images a second of an epoch of `fit`.
    fn whole(&mut self) -> Result<f64> {
        let settings = &self.config.train;
        let dataset: &dyn Dataset = self.bench.data;
        let (train, valid) = (TrainRows((0..STEPS * self.bench.batch).collect()), ValidRows(Vec::new()));
        let training = Training { dataset, train: &train, valid: &valid, seed: 0, device: Device::Cpu };
        let mut optimizer = settings.optimizer.build(self.learner.parameters());
        let mut state = State::new(settings.precision);
        let started = Instant::now();
        fit(&mut self.learner, optimizer.as_mut(), &training, settings, &mut state, &mut |_, _, _| Ok(()))?;
        Ok(train.0.len() as f64 / started.elapsed().as_secs_f64())
    }

    /// Images a second of so many steps on one batch that is there.
    fn alone(&mut self, steps: usize) -> Result<f64> {
        let Bench { data, batch, kind, .. } = *self.bench;
        let rows: Vec<usize> = (0..batch).collect();
        let made = data.batch(&rows, None, Device::Cpu)?;
        let mut optimizer = self.config.train.optimizer.build(self.learner.parameters());
        let started = Instant::now();
        for _ in 0..steps {
            optimizer.zero_gradients();
            let (output, terms) = autocast(Device::Cpu, kind, || self.learner.model.forward_step(&made))?;
            let total: Tensor = self.learner.model.total(self.learner.loss.forward(&output.single(), &made.targets), terms).total;
            total.backward();
            optimizer.step(0.1);
        }
        Ok((steps * batch) as f64 / started.elapsed().as_secs_f64())
    }
}
