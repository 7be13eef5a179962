//! ABMIL against three reference implementations: embeddings, attention, losses and gradients, for every bag size.

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};
use wsi::aggregators::Aggregator;
use wsi::aggregators::abmil::{Abmil, AbmilSettings, Activation};
use wsi::ground::linear::Linear;

use super::case::{Case, Limit, Outcome, each};

/// Reference name → ours, by the layer that tells the implementations apart.
const ACMIL: [(&str, &str); 5] = [
    ("dimreduction.fc1", "embed"),
    ("attention.attention_V.0", "attention.tanh"),
    ("attention.attention_U.0", "attention.gate"),
    ("attention.attention_weights", "attention.score"),
    ("classifier.fc", "head"),
];
const DATTENTION: [(&str, &str); 4] =
    [("feature.0", "embed"), ("attention.0", "attention.tanh"), ("attention.2", "attention.score"), ("classifier.0", "head")];
const AMLAB_GATED: [(&str, &str); 4] = [
    ("attention_V.0", "attention.tanh"),
    ("attention_U.0", "attention.gate"),
    ("attention_w", "attention.score"),
    ("classifier.0", "head"),
];
const AMLAB_PLAIN: [(&str, &str); 3] = [("attention.0", "attention.tanh"), ("attention.2", "attention.score"), ("classifier.0", "head")];

#[test]
fn parity_aggregators() {
    each("parity::aggregators", "aggregators", |case| {
        let Some((settings, names)) = abmil(case) else { return Outcome::NotBuilt };
        check(case, &settings, names);
        Outcome::Compared
    });
}

type Names = &'static [(&'static str, &'static str)];

/// Settings and name map, told by the case's own parameter names and hyper-parameters.
fn abmil(case: &Case) -> Option<(AbmilSettings, Names)> {
    if !case.name.starts_with("abmil") {
        return None;
    }
    let state = case.state();
    let has = |name: &str| state.iter().any(|(found, _)| found == name);
    let rows = |name: &str| state.iter().find(|(found, _)| found == name).unwrap().1.size()[0];
    let base = AbmilSettings { embed: false, gated: false, ..Default::default() };
    Some(if has("dimreduction.fc1.weight") {
        let (width, attention_width) = (rows("dimreduction.fc1.weight"), rows("attention.attention_V.0.weight"));
        (AbmilSettings { embed: true, gated: true, width, attention_width, ..base }, &ACMIL)
    } else if has("feature.0.weight") {
        let activation = match case.hyper()["act"].as_str() {
            Some("relu") => Activation::Relu,
            Some("gelu") => Activation::Gelu,
            Some("tanh") => Activation::Tanh,
            other => panic!("{}: activation {other:?}", case.name),
        };
        let (width, attention_width) = (rows("feature.0.weight"), rows("attention.0.weight"));
        (AbmilSettings { embed: true, embed_bias: true, activation, width, attention_width, ..base }, &DATTENTION)
    } else if has("attention_V.0.weight") {
        (AbmilSettings { gated: true, attention_width: rows("attention_V.0.weight"), ..base }, &AMLAB_GATED)
    } else {
        (AbmilSettings { attention_width: rows("attention.0.weight"), ..base }, &AMLAB_PLAIN)
    })
}

fn check(case: &Case, settings: &AbmilSettings, names: Names) {
    let state = case.state();
    let features = case.spec["inputs"][0]["shape"][1].as_i64().unwrap();
    let store = VarStore::new(Device::Cpu);
    let model = settings.build(&store.root(), features);
    let outputs = state.iter().find(|(name, _)| name.starts_with("classifier") && name.ends_with("weight")).unwrap().1.size()[0];
    let head = Linear::new(&(store.root() / "head"), model.width(), outputs, true);

    let mut unset = store.variables();
    for (name, tensor) in &state {
        let (layer, part) = name.rsplit_once('.').unwrap();
        let ours = names.iter().find(|(theirs, _)| *theirs == layer).map(|(_, ours)| format!("{ours}.{part}"));
        match ours.and_then(|ours| unset.remove(&ours)) {
            Some(mut variable) => no_grad(|| variable.copy_(tensor)),
            None => case.problem(format!("'{name}' has no place in ABMIL")),
        }
    }
    for name in unset.keys() {
        case.problem(format!("'{name}' was not set"));
    }
    for (prefix, bag) in case.spec["stats"].as_object().unwrap() {
        check_bag(case, &store, &model, &head, names, prefix, bag["N"].as_i64().unwrap(), bag["label"].as_i64().unwrap());
    }
}

#[allow(clippy::too_many_arguments)] // one case, one bag: everything it needs
fn check_bag(case: &Case, store: &VarStore, model: &Abmil, head: &Linear, names: Names, prefix: &str, tiles: i64, label: i64) {
    let limit = Limit::RelativeMax(case.tolerance("/rel_max").unwrap());
    let compare = |name: &str, ours: &Tensor| {
        let name = format!("{prefix}.{name}");
        if case.has(&name) {
            case.compare(&name, ours, limit);
        }
    };
    let input = case.input_rows("input", tiles).unsqueeze(0).set_requires_grad(true);
    let pooled = model.pool(&input, &Tensor::ones([1, tiles], (Kind::Bool, Device::Cpu)), false);
    let logits = head.forward(&pooled.embedding);
    let attention = pooled.attention.unwrap().squeeze_dim(1);
    compare("logits", &logits);
    compare("bag", &pooled.embedding);
    compare("attention", &attention);
    compare("attention_raw", &pooled.scores.unwrap().squeeze_dim(1));
    let entropy = (&attention * attention.log()).sum(None::<Kind>);
    compare("entropy_term_train", &entropy);
    compare("entropy_term_eval", &entropy);

    let loss = if logits.size()[1] == 1 {
        // The original's Bernoulli likelihood.
        let p = logits.sigmoid();
        compare("prob", &p);
        let p = p.clamp(1e-5, 1.0 - 1e-5);
        (if label == 1 { p.log() } else { (-p).log1p() }).neg().sum(None::<Kind>)
    } else {
        logits.cross_entropy_for_logits(&Tensor::from_slice(&[label]))
    };
    compare("loss", &loss);
    compare("loss_ce", &loss);

    let first = |gradient: &Tensor| gradient.squeeze_dim(0).narrow(0, 0, tiles.min(5));
    compare("grad_input_first5", &first(&Tensor::run_backward(&[logits.sum(None::<Kind>)], &[&input], true, false)[0]));
    store.variables().values_mut().for_each(Tensor::zero_grad);
    input.shallow_clone().zero_grad();
    loss.backward();
    compare("grad_input_first5_loss", &first(&input.grad()));

    let norms = case.spec["param_grad_norms_of_loss"][prefix].as_object().unwrap();
    let largest = norms.values().map(|norm| norm.as_f64().unwrap()).fold(0.0, f64::max);
    let variables = store.variables();
    for (name, norm) in norms {
        let (layer, part) = name.rsplit_once('.').unwrap();
        let Some((_, ours)) = names.iter().find(|(theirs, _)| *theirs == layer) else { continue };
        let found = variables[&format!("{ours}.{part}")].grad().norm().double_value(&[]);
        let limit = Limit::Element { rtol: case.tolerance("/grad_norms/rel").unwrap(), atol: 1e-5 * largest };
        case.compare_number(&format!("{prefix} gradient of {name}"), found, norm.as_f64().unwrap(), limit);
    }
}
