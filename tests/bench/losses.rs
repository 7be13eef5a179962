//! Family `losses`: what a training step pays for NCMI in place of a linear layer with cross-entropy.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use wsi::encoders::EncoderSettings;
use wsi::ground::batch::Output;
use wsi::ground::linear::Linear;
use wsi::learn::optimizers::{OptimizerSettings, SgdSettings};
use wsi::losses::{Loss, LossSettings, Moment, Site};

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);
const MOMENT: Moment = Moment { epoch: 1, epochs: 1, rate_share: 1.0 };

/// All rows of the family.
pub(super) fn rows(threads: usize) -> Result<Vec<Value>> {
    tch::set_num_threads(threads as i32);
    Ok(vec![
        block("losses.ncmi-block.large", 1024, 1000, 2048, 10)?,
        block("losses.ncmi-block.small", 64, 100, 512, 200)?,
        step("losses.ncmi-step.resnet50", 64, 100)?,
    ])
}

fn settings(name: &str) -> Result<LossSettings> {
    // Centroids move in every step, so that NCMI pays for all that it can ask for.
    let given = if name == "ncmi" { json!({"name": name, "centroid-start": 1}) } else { json!({"name": name}) };
    Ok(serde_json::from_value(given)?)
}

/// A loss with what cross-entropy needs beneath it, and the parameters of that.
struct Objective {
    _store: VarStore,
    head: Option<Linear>,
    loss: Box<dyn Loss>,
}

impl Objective {
    fn new(name: &str, classes: i64, width: i64) -> Result<Self> {
        let store = VarStore::new(Device::Cpu);
        let head = (name == "cross-entropy").then(|| Linear::new(&(store.root() / "head"), width, classes, true));
        let mut loss = settings(name)?.build(&Site { path: store.root() / "loss", classes, width })?;
        if loss.wants_start() {
            loss.start(&Tensor::randn([256, width], CPU));
        }
        Ok(Self { _store: store, head, loss })
    }

    /// Forward and backward to the embedding and to the parameters on top of it.
    fn pass(&mut self, embedding: &Tensor, targets: &Tensor) {
        let head = self.head.as_ref().map(|head| head.forward(embedding));
        let output = Output { embedding: embedding.shallow_clone(), head, attention: None };
        self.loss.forward(&output, targets).total.backward();
    }
}

fn block(id: &str, batch: i64, classes: i64, width: i64, passes: usize) -> Result<Value> {
    let (embedding, targets) = inputs(batch, classes, width);
    let (mut ncmi, mut reference) = (Objective::new("ncmi", classes, width)?, Objective::new("cross-entropy", classes, width)?);
    let (our_memory, their_memory) =
        (memory_of_a_pass("ncmi", [batch, classes, width])?, memory_of_a_pass("cross-entropy", [batch, classes, width])?);
    let [ours, theirs] = alternate(passes, |which| {
        let objective = if which == 0 { &mut ncmi } else { &mut reference };
        objective.pass(&embedding, &targets);
    });
    let note = format!(
        "B {batch}, C {classes}, E {width}; reference: linear layer with cross-entropy; forward and backward; peak memory of a pass {our_memory:.1} MB against {their_memory:.1} MB, {:.2} times",
        our_memory / their_memory
    );
    Ok(row(id, ours, theirs, &note))
}

/// A whole training step of ResNet-50 on 32-pixel images: forward, backward, SGD.
fn step(id: &str, batch: i64, classes: i64) -> Result<Value> {
    let images = Tensor::randn([batch, 3, 32, 32], CPU);
    let targets = Tensor::randint(classes, [batch], (Kind::Int64, Device::Cpu));
    let mut sides = ["ncmi", "cross-entropy"]
        .into_iter()
        .map(|name| {
            let store = VarStore::new(Device::Cpu);
            let encoder = EncoderSettings::named("cifar-resnet50").expect("it is in the list").build(&store.root())?;
            let objective = Objective::new(name, classes, encoder.width())?;
            let parameters = store.trainable_variables().into_iter().enumerate().map(|(i, p)| (format!("{i:04}"), p)).collect();
            let sgd = OptimizerSettings::Sgd(SgdSettings::default()).build(parameters);
            Ok((store, encoder, objective, sgd))
        })
        .collect::<Result<Vec<_>>>()?;
    let [ours, theirs] = alternate(1, |which| {
        let (_, encoder, objective, sgd) = &mut sides[which];
        sgd.zero_gradients();
        objective.pass(&encoder.embed(&images, true), &targets);
        sgd.step(1e-3);
        objective.loss.step(&MOMENT);
    });
    let note = format!("B {batch}, C {classes}, 32 pixels; reference: the same step with a linear layer and cross-entropy");
    Ok(row(id, ours, theirs, &note))
}

/// Passes a second for 0 (ours) and 1 (reference): the median of five turns each, taken alternately.
fn alternate(passes: usize, mut pass: impl FnMut(usize)) -> [f64; 2] {
    let mut rates = [Vec::new(), Vec::new()];
    (0..2).for_each(&mut pass);
    for _ in 0..5 {
        for which in [0, 1] {
            let started = Instant::now();
            (0..passes).for_each(|_| pass(which));
            rates[which].push(passes as f64 / started.elapsed().as_secs_f64());
        }
    }
    rates.map(super::median)
}

/// How far one pass raises resident memory above its start, MB, in a fresh process: elsewhere freed memory hides it.
fn memory_of_a_pass(name: &str, size: [i64; 3]) -> Result<f64> {
    let arguments = size.map(|side| side.to_string());
    let found = Command::new(std::env::current_exe()?).arg(MEMORY).arg(name).args(arguments).output()?;
    Ok(String::from_utf8(found.stdout)?.trim().parse()?)
}

/// The word after which this program measures memory only and prints it.
pub(super) const MEMORY: &str = "--memory-of-a-pass";

/// Prints the peak of one pass of the loss `name` with `[B,C,E]`.
pub(super) fn print_memory(arguments: &[String]) -> Result<()> {
    let [name, batch, classes, width] = arguments else { bail!("{MEMORY} wants NAME B C E") };
    let (batch, classes, width) = (batch.parse()?, classes.parse()?, width.parse()?);
    let (embedding, targets) = inputs(batch, classes, width);
    let mut objective = Objective::new(name, classes, width)?;
    // A small pass first: libtorch's own start is no part of the loss.
    let (small, few) = inputs(1, classes, width);
    objective.pass(&small, &few);
    println!("{}", peak_memory(|| objective.pass(&embedding, &targets)));
    Ok(())
}

fn inputs(batch: i64, classes: i64, width: i64) -> (Tensor, Tensor) {
    tch::manual_seed(1);
    (Tensor::randn([batch, width], CPU).set_requires_grad(true), Tensor::randint(classes, [batch], (Kind::Int64, Device::Cpu)))
}

/// How far resident memory rises above its start, MB; NaN where the kernel does not say.
fn peak_memory(run: impl FnOnce()) -> f64 {
    let field = |name: &str| {
        let text = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    };
    // 5 resets the high-water mark.
    let reset = std::fs::write("/proc/self/clear_refs", "5").is_ok();
    let before = field("VmRSS:");
    run();
    match (reset, before, field("VmHWM:")) {
        (true, Some(before), Some(peak)) => (peak - before) / 1024.0,
        _ => f64::NAN,
    }
}

fn row(id: &str, ours: f64, reference: f64, note: &str) -> Value {
    json!({"id": id, "ours": ours, "reference": reference, "unit": "passes/s", "ratio": ours / reference, "limit_ratio": null, "note": note})
}
