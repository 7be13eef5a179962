//! Training steps on the device beside those of the processor, from the same weights and batches, and the time of an epoch of images.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use rand::Rng;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor, no_grad};

use super::Bench;
use crate::config::Config;
use crate::datasets::Dataset;
use crate::datasets::augment::AugmentationSettings;
use crate::datasets::cifar::{Cifar, Set};
use crate::datasets::split::{TrainRows, ValidRows};
use crate::ground::batch::Input;
use crate::ground::seed;
use crate::learn::fit::{State, fit};
use crate::learn::{Learner, Training};
use crate::stages::{Data, extract};
use crate::store::files;
use crate::torch::gpu;

/// Images in a batch, of the epochs that are timed.
const BATCHES: [usize; 3] = [64, 128, 512];

/// Images of the comparison of steps.
const FEW: usize = 32;

fn config(loss: &str, settings: &[&str]) -> Result<Config> {
    let loss = format!("train.loss.name={loss}");
    // Plain steps without momentum, decay or a limit: what the weights move by is the gradient.
    let plain = ["train.epochs=1", "train.curves-every=0", "train.clip=0.0", "train.optimizer={name='sgd',momentum=0.0,weight-decay=0.0}"];
    let all: Vec<String> = [loss.as_str()].into_iter().chain(plain).chain(settings.iter().copied()).map(str::to_owned).collect();
    Config::load(None, &all)
}

const IMAGES: [&str; 2] = ["train.data=cifar100", "train.model.encoder.name=cifar-resnet18"];

/// A pass over the dataset on one device: the mean loss, how the model's weights moved, seconds.
fn pass(bench: &Bench, config: &Config, dataset: &dyn Dataset, device: Device) -> Result<(f64, Tensor, f64)> {
    tch::set_num_threads(bench.machine.threads as i32);
    tch::Cuda::cudnn_set_benchmark(dataset.input() == Input::Images);
    let settings = &config.train;
    let mut learner = Learner::new(settings, dataset.input(), dataset.classes().len(), config.seed, device)?;
    let weights = |learner: &Learner| {
        let flat: Vec<Tensor> = learner.parameters().values().map(|tensor| tensor.detach().to_device(Device::Cpu).flatten(0, -1)).collect();
        Tensor::cat(&flat, 0).to_kind(Kind::Double)
    };
    let before = weights(&learner);
    let mut optimizer = settings.optimizer.build(learner.parameters());
    let (train, valid) = (TrainRows((0..dataset.ids().len()).collect()), ValidRows(Vec::new()));
    let training = Training { dataset, train: &train, valid: &valid, seed: config.seed, device };
    let mut state = State::new(settings.precision);
    let started = Instant::now();
    fit(&mut learner, optimizer.as_mut(), &training, settings, &mut state, &mut |_, _, _| Ok(()))?;
    let after = weights(&learner); // waits for the device
    let seconds = started.elapsed().as_secs_f64();
    tch::Cuda::cudnn_set_benchmark(false);
    Ok((state.history[0].train_loss, after - before, seconds))
}

/// The same steps on the processor and on the device.
fn compare(bench: &Bench, config: &Config, dataset: &dyn Dataset) -> Result<Value> {
    let (expected_loss, expected, _) = pass(bench, config, dataset, Device::Cpu)?;
    let (loss, moved, _) = pass(bench, config, dataset, bench.machine.device)?;
    let norm = |tensor: &Tensor| no_grad(|| tensor.norm().double_value(&[]));
    Ok(json!({
        "steps": dataset.ids().len().div_ceil(config.train.batch_size),
        "loss_on_processor": expected_loss,
        "loss_on_device": loss,
        "gradient_deviation": norm(&(&moved - &expected)) / norm(&expected), // of the sum of all steps' gradients, in L2
    }))
}

/// A few steps of attention pooling on the synthetic slides.
pub(super) fn bags(bench: &Bench, loss: &str) -> Result<Value> {
    let extracted = bench.folder.join("bags");
    let inputs = extract::Inputs {
        slides: bench.folder.join("cohort/slides"),
        tiles: bench.folder.join("tiles"),
        weights: None,
        selection: crate::stages::Selection::default(),
        scratch: None,
    };
    let settings = ["extract.encoder.name=resnet18", "extract.random-weights=true"].map(str::to_owned);
    crate::stages::complete(extract::run(&Config::load(None, &settings)?, &inputs, &extracted, bench.machine)?)?;
    let config = config(loss, &["train.batch-size=4"])?;
    let data = Data { data: extracted, labels: Some(bench.folder.join("cohort/labels.csv")), split: None };
    let (dataset, _) = data.open(&config)?;
    compare(bench, &config, dataset.as_ref())
}

/// One step of a ResNet-18 on images: with batch normalisation and so few images a second one would already multiply rounding.
pub(super) fn images(bench: &Bench, loss: &str) -> Result<Value> {
    let config = config(loss, &[&IMAGES[..], &["train.batch-size=64"]].concat())?;
    let dataset = Cifar::read(&made_up(bench, FEW)?, Set::Cifar100, &AugmentationSettings::default())?;
    compare(bench, &config, &dataset)
}

/// An epoch over CIFAR-100, or over as many images as were asked for, in each precision and a few sizes of a batch.
pub(super) fn cifar_epoch(bench: &Bench) -> Result<Value> {
    let folder = bench.settings.cifar.clone().map_or_else(|| made_up(bench, bench.settings.images), Ok)?;
    let dataset = Cifar::read(&folder, Set::Cifar100, &AugmentationSettings::default())?;
    let mut found = json!({"images": dataset.ids().len(), "made_up": bench.settings.cifar.is_none()});
    let precisions: &[&str] = if bench.machine.device.is_cuda() { &["f32", "mixed", "bf16"] } else { &["f32", "bf16"] };
    for batch in BATCHES {
        for precision in precisions {
            let settings = [format!("train.precision={precision}"), format!("train.batch-size={batch}")];
            let config =
                config("cross-entropy", &[&IMAGES[..], &["train.augment=true"], &settings.each_ref().map(String::as_str)[..]].concat())?;
            if bench.machine.device.is_cuda() {
                // Each size of a batch is tried with several algorithms the first time.
                drop(pass(bench, &config, &dataset, bench.machine.device)?);
            }
            let (loss, _, seconds) = pass(bench, &config, &dataset, bench.machine.device)?;
            found[format!("{precision}.{batch}")] =
                json!({"seconds": seconds, "images_per_second": dataset.ids().len() as f64 / seconds, "loss": loss});
        }
    }
    found["peak_gpu_bytes"] = json!(gpu::peak_memory(bench.machine.device));
    Ok(found)
}

/// A folder in CIFAR-100's binary layout: noise, brighter for later classes.
fn made_up(bench: &Bench, images: usize) -> Result<PathBuf> {
    const CLASSES: usize = 100;
    const PIXELS: usize = 3072;
    let folder = bench.folder.join(format!("cifar-{images}"));
    if !folder.exists() {
        let mut random = seed::stream(0, "gpu-check/images");
        let mut records = Vec::with_capacity(images * (PIXELS + 2));
        for image in 0..images {
            let class = image % CLASSES;
            records.extend([0, class as u8]);
            records.extend((0..PIXELS).map(|_| random.random_range(0..100u8) + class as u8));
        }
        let (test, _) = records.split_at(PIXELS + 2);
        files::write_bytes(&folder.join("test.bin"), test)?;
        files::write_bytes(&folder.join("train.bin"), &records)?;
        let names: Vec<String> = (0..CLASSES).map(|class| format!("class_{class:02}")).collect();
        files::write_bytes(&folder.join("fine_label_names.txt"), names.join("\n").as_bytes())?;
    }
    Ok(folder)
}
