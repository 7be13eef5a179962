//! Family `losses`: what a training step pays for NCMI in place of a linear layer with cross-entropy.

use std::time::Instant;

use anyhow::Result;
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
pub fn rows(threads: usize) -> Result<Vec<Value>> {
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
    tch::manual_seed(1);
    let embedding = Tensor::randn([batch, width], CPU).set_requires_grad(true);
    let targets = Tensor::randint(classes, [batch], (Kind::Int64, Device::Cpu));
    let (mut ncmi, mut reference) = (Objective::new("ncmi", classes, width)?, Objective::new("cross-entropy", classes, width)?);
    let [(ours, our_memory), (theirs, their_memory)] = alternate(passes, |which| {
        let objective = if which == 0 { &mut ncmi } else { &mut reference };
        objective.pass(&embedding, &targets);
    });
    let note = format!(
        "B {batch}, C {classes}, E {width}; reference: linear layer with cross-entropy; forward and backward; memory of a pass {:.0} MB against {:.0} MB ({:.2} times)",
        our_memory,
        their_memory,
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
            let encoder = EncoderSettings::named("cifar-resnet50").expect("it is in the list").build(&store.root());
            let objective = Objective::new(name, classes, encoder.width())?;
            let parameters = store.trainable_variables().into_iter().enumerate().map(|(i, p)| (format!("{i:04}"), p)).collect();
            let sgd = OptimizerSettings::Sgd(SgdSettings::default()).build(parameters);
            Ok((store, encoder, objective, sgd))
        })
        .collect::<Result<Vec<_>>>()?;
    let [(ours, our_memory), (theirs, their_memory)] = alternate(1, |which| {
        let (_, encoder, objective, sgd) = &mut sides[which];
        sgd.zero_gradients();
        objective.pass(&encoder.embed(&images, true), &targets);
        sgd.step(1e-3);
        objective.loss.step(&MOMENT);
    });
    let note = format!(
        "B {batch}, C {classes}, 32 pixels; reference: the same step with a linear layer and cross-entropy; memory {our_memory:.0} MB against {their_memory:.0} MB"
    );
    Ok(row(id, ours, theirs, &note))
}

/// Passes a second and the peak memory of a pass in MB, for 0 (ours) and 1 (reference): the median of five turns each.
fn alternate(passes: usize, mut pass: impl FnMut(usize)) -> [(f64, f64); 2] {
    let mut rates = [Vec::new(), Vec::new()];
    let mut memory = [0.0f64; 2];
    for which in [0, 1] {
        // Twice: the first pass also makes what stays, such as gradients.
        pass(which);
        memory[which] = peak_memory(|| pass(which));
    }
    for _ in 0..5 {
        for which in [0, 1] {
            let started = Instant::now();
            (0..passes).for_each(|_| pass(which));
            rates[which].push(passes as f64 / started.elapsed().as_secs_f64());
        }
    }
    let median = |rates: &mut Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    [(median(&mut rates[0]), memory[0]), (median(&mut rates[1]), memory[1])]
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
