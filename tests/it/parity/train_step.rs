//! A training step of a whole network against the reference: batch statistics, gradients, updates, then NCMI on its features.
//!
//! Three times from the same start: one cross-entropy step, some SGD steps, one NCMI step.

use std::collections::BTreeMap;

use serde_json::Value;
use tch::nn::VarStore;
use tch::{Device, Tensor};
use wsi::encoders::{Encoder, EncoderSettings};
use wsi::ground::batch::Output;
use wsi::learn::optimizers::{OptimizerSettings, SgdSettings};
use wsi::losses::ncmi::{Centring, Centroids, NcmiSettings, SepFloor, identity_code};
use wsi::losses::{Loss, Site};
use wsi::store::weights;

use super::case::{Case, Limit};

/// A network with its classifier at the case's start.
struct Start {
    store: VarStore,
    encoder: Box<dyn Encoder>,
}

impl Start {
    fn new(case: &Case, settings: &EncoderSettings) -> Self {
        let store = VarStore::new(Device::Cpu);
        let encoder = settings.build(&store.root()).unwrap();
        let state: BTreeMap<String, Tensor> = case.state().into_iter().collect();
        for name in ["weight", "bias"] {
            let _variable = (store.root() / "fc").zeros(name, &state[&format!("fc.{name}")].size());
        }
        weights::load_into(&store, &state, &[]).unwrap();
        Self { store, encoder }
    }

    fn tensor(&self, name: &str) -> Tensor {
        self.store.variables().remove(name).unwrap_or_else(|| panic!("the network has no tensor '{name}'"))
    }

    fn logits(&self, images: &Tensor, train: bool) -> Tensor {
        self.encoder.embed(images, train).linear(&self.tensor("fc.weight"), Some(&self.tensor("fc.bias")))
    }

    /// Compares what is stored as `prefix` + the name of a tensor with `of` that tensor.
    fn compare(&self, case: &Case, prefix: &str, limit: Limit, of: impl Fn(Tensor) -> Tensor) {
        for stored in case.names().filter(|stored| stored.starts_with(prefix)) {
            case.compare(stored, &of(self.tensor(&stored[prefix.len()..])), limit);
        }
    }
}

/// Runs the case; what differs is noted in it.
pub fn train_step(case: &Case, settings: &EncoderSettings) {
    let limit = |group: &str| Limit::RelativeMax(case.tolerance(&format!("/rel_max/{group}")).unwrap());
    let (images, labels) = (case.input("input"), case.stored("labels"));

    let start = Start::new(case, settings);
    let logits = start.logits(&images, true);
    let loss = logits.cross_entropy_for_logits(&labels);
    loss.backward();
    case.compare("logits_train_mode", &logits, limit("forward"));
    case.compare("loss", &loss, limit("forward"));
    start.compare(case, "after_step.", limit("running"), |tensor| tensor);
    start.compare(case, "grad.", limit("grad"), |tensor| tensor.grad());
    let rtol = case.tolerance("/rel_max/grad").unwrap();
    for (name, norm) in case.spec["param_grad_norms"].as_object().unwrap() {
        let ours = start.tensor(name).grad().norm().double_value(&[]);
        case.compare_number(&format!("gradient norm of {name}"), ours, norm.as_f64().unwrap(), Limit::Element { rtol, atol: 1e-6 });
    }

    sgd(case, &Start::new(case, settings), &images, &labels, limit("sgd"));
    ncmi(case, &Start::new(case, settings), &images, &labels, &limit);
}

fn sgd(case: &Case, start: &Start, images: &Tensor, labels: &Tensor, limit: Limit) {
    let hyper = &case.hyper()["sgd"];
    let settings = SgdSettings {
        learning_rate: number(hyper, "lr"),
        momentum: number(hyper, "momentum"),
        weight_decay: number(hyper, "weight_decay"),
    };
    let parameters = start.store.variables().into_iter().filter(|(_, tensor)| tensor.requires_grad()).collect();
    let mut optimizer = OptimizerSettings::Sgd(settings.clone()).build(parameters);
    let mut losses = Vec::new();
    for _ in 0..hyper["steps"].as_i64().unwrap() {
        let loss = start.logits(images, true).cross_entropy_for_logits(labels);
        losses.push(loss.double_value(&[]));
        optimizer.zero_gradients();
        loss.backward();
        optimizer.step(settings.learning_rate);
    }
    case.compare("sgd_losses", &Tensor::from_slice(&losses), limit);
    case.compare("logits_eval_after_sgd", &tch::no_grad(|| start.logits(images, false)), limit);
}

fn ncmi(case: &Case, start: &Start, images: &Tensor, labels: &Tensor, limit: &dyn Fn(&str) -> Limit) {
    let settings = NcmiSettings {
        temperature: number(&case.hyper()["ncmi"], "temperature"),
        centring: Centring::FirstBatch,
        centroids: Centroids::Fixed,
        sep_floor: SepFloor::Off,
        ..Default::default()
    };
    let (classes, width) = start.tensor("fc.weight").size2().unwrap();
    let site = Site { path: start.store.root() / "loss", classes, width };
    let mut loss = settings.on(&site, &identity_code(classes, width));
    let output = Output { embedding: start.encoder.embed(images, true), head: None, attention: None };
    let total = loss.forward(&output, labels).total;
    total.backward();
    case.compare("ncmi_loss", &total, limit("ncmi_loss"));
    start.compare(case, "ncmi_grad.", limit("ncmi_grad"), |tensor| tensor.grad());
}

fn number(value: &Value, field: &str) -> f64 {
    value[field].as_f64().unwrap_or_else(|| panic!("no number '{field}'"))
}
