//! Every loss against its reference, in f64 and in f32: values and gradients; for NCMI also the centre, the centroids and the
//! decision.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};
use wsi::ground::batch::Output;
use wsi::ground::distributions::{OutputMap, divergence_to_centroids};
use wsi::learn::optimizers::{OptimizerSettings, SgdSettings};
use wsi::losses::ncmi::{Centring, Centroids, Length, Ncmi, NcmiSettings, SepFloor, Start, identity_code, ratios};
use wsi::losses::opl::{self, Form};
use wsi::losses::{Loss, LossSettings, Moment, Site};

use super::case::{Case, Limit, Outcome, each_named};

#[test]
fn parity_losses() {
    // `cmi_metrics_*` are data-set metrics and have a test of their own.
    each_named(
        "parity::losses",
        "losses",
        |name| !name.starts_with("cmi_metrics_"),
        |case| {
            let hyper = case.hyper();
            for kind in [Kind::Double, Kind::Float] {
                match () {
                    () if hyper.get("logit_scale").is_some() => on_logits(case, kind),
                    () if case.name.starts_with("features_") => on_features(case, kind),
                    () if hyper.get("decays").is_some() => centre(case, kind),
                    () if hyper.get("net_sgd").is_some() => trajectory(case, kind),
                    () if hyper.get("N").is_some() => evaluation(case, kind),
                    () if hyper.get("cmi_add").is_some() => one_batch(case, kind),
                    () => case.problem("nothing in `hyper` tells what kind of case this is".into()),
                }
            }
            Outcome::Compared
        },
    );
}

/// The loss called `name` with these settings, in its own store.
fn build(name: &str, settings: Value, classes: i64, width: i64, kind: Kind) -> Box<dyn Loss> {
    let mut settings = settings;
    settings["name"] = json!(name);
    let settings: LossSettings = serde_json::from_value(settings).unwrap();
    let mut store = VarStore::new(Device::Cpu);
    store.set_kind(kind);
    settings.build(&Site { path: store.root() / "loss", classes, width }).unwrap()
}

/// Which of our losses a configuration means, and its settings; the stored parameters tell, the tag only where there are none.
fn baseline(config: &Value) -> Option<(&'static str, Value)> {
    let tag = config["tag"].as_str()?;
    Some(match () {
        () if config.get("eps").is_some() => ("label-smoothing", json!({"smoothing": config["eps"]})),
        () if config.get("gamma").is_some() => ("focal", json!({"gamma": config["gamma"]})),
        () if config.get("epsilon").is_some() => ("poly", json!({"epsilon": config["epsilon"]})),
        () if config.get("M").is_some() => ("square", json!({"weight": config["k"], "target": config["M"]})),
        () if config.get("w_occe").is_some() => {
            ("anticlass", json!({"cross-entropy-weight": config["w_ce"], "occe-weight": config["w_occe"]}))
        }
        () if config.get("log_eps").is_some() => ("anticlass", json!({"cross-entropy-weight": 0.0})),
        () if tag == "ce" => ("cross-entropy", json!({})),
        () if tag == "squentropy" => ("squentropy", json!({})),
        () => return None,
    })
}

fn on_logits(case: &Case, kind: Kind) {
    let targets = case.input("labels");
    let classes = case.hyper()["C"].as_i64().unwrap();
    let (loss_limit, gradient_limit) = limits(case, kind, 1.0);
    for config in case.spec["configs"].as_array().unwrap() {
        let Some((name, settings)) = baseline(config) else {
            case.problem(format!("no loss of ours is meant by {config}"));
            continue;
        };
        let logits = case.input("input").to_kind(kind).set_requires_grad(true);
        let output = Output { embedding: logits.detach(), head: Some(logits.shallow_clone()), attention: None };
        let total = build(name, settings, classes, classes, kind).forward(&output, &targets).total;
        total.backward();
        let tag = |part: &str| format!("{}.{part}", config["tag"].as_str().unwrap());
        case.compare(&tag("loss"), &total, loss_limit);
        case.compare(&tag("grad"), &logits.grad(), gradient_limit);
    }
}

fn on_features(case: &Case, kind: Kind) {
    let targets = case.input("labels");
    let classes = case.hyper()["C"].as_i64().unwrap();
    let (loss_limit, gradient_limit) = limits(case, kind, 1.0);
    for config in case.spec["configs"].as_array().unwrap() {
        let input = case.input("input").to_kind(kind).set_requires_grad(true);
        let total = match (config["temperature"].as_f64(), config["gamma"].as_f64()) {
            (Some(temperature), _) => {
                // View after view, as a batch of two views is.
                let vectors = Tensor::cat(&input.unbind(1), 0);
                let positives = if config["labels"] == "none" { "sample" } else { "class" };
                let settings = json!({"temperature": temperature, "base-temperature": config["base_temperature"], "positives": positives});
                let output = Output { embedding: vectors.detach(), head: Some(vectors), attention: None };
                build("supcon", settings, classes, input.size()[2], kind).forward(&output, &targets.repeat([2])).total
            }
            (None, Some(gamma)) => opl::projection(&input.select(1, 0), &targets, gamma, Form::Signed),
            (None, None) => {
                case.problem(format!("no loss of ours is meant by {config}"));
                continue;
            }
        };
        total.backward();
        let tag = |part: &str| format!("{}.{part}", config["tag"].as_str().unwrap());
        // The projection loss is stored with the gradient of the view that it reads.
        let gradient = if config.get("gamma").is_some() { input.grad().select(1, 0) } else { input.grad() };
        case.compare(&tag("loss"), &total, loss_limit);
        case.compare(&tag("grad"), &gradient, gradient_limit);
    }
}

/// The loss under test with its store, so that tests can set and read its tensors by name.
struct Bench {
    store: VarStore,
    loss: Ncmi,
}

impl Bench {
    fn new(settings: &NcmiSettings, centroids: &Tensor, kind: Kind) -> Self {
        let mut store = VarStore::new(Device::Cpu);
        store.set_kind(kind);
        let (classes, width) = centroids.size2().unwrap();
        let loss = settings.on(&Site { path: store.root() / "loss", classes, width }, centroids);
        Self { store, loss }
    }

    fn tensor(&self, name: &str) -> Tensor {
        self.store.variables().remove(&format!("loss.{name}")).unwrap()
    }

    fn set_centre(&self, centre: &Tensor) {
        no_grad(|| {
            self.tensor("centre").copy_(centre);
            let _ = self.tensor("centre-known").fill_(1.0);
        });
    }
}

fn settings(config: &Value) -> NcmiSettings {
    NcmiSettings {
        output_map: map(config["proj"].as_str().unwrap_or("nsf")),
        temperature: config["temperature"].as_f64().unwrap(),
        centring: if config["centring"] == "none" { Centring::Off } else { Centring::FirstBatch },
        centre_decay: config["decay"].as_f64().unwrap(),
        sep_floor: SepFloor::Off,
        ..Default::default()
    }
}

fn map(name: &str) -> OutputMap {
    match name {
        "nsf" => OutputMap::Nsf,
        "softmax" => OutputMap::Softmax,
        other => panic!("projection '{other}' is not known"),
    }
}

fn output(embedding: &Tensor) -> Output {
    Output { embedding: embedding.shallow_clone(), head: None, attention: None }
}

/// Limits of loss and gradient; `slack` widens that of the loss in f32.
fn limits(case: &Case, kind: Kind, slack: f64) -> (Limit, Limit) {
    let tolerance = |pointer: &str, default: f64| case.tolerance(pointer).unwrap_or(default);
    if kind == Kind::Double {
        let limit = Limit::Element { rtol: tolerance("/f64/rtol", f64::NAN), atol: tolerance("/f64/atol", 1e-6) };
        return (limit, limit);
    }
    let loss = Limit::Element { rtol: slack * tolerance("/f32/rtol_loss", f64::NAN), atol: tolerance("/f32/atol_loss", 1e-6) };
    (loss, Limit::Norm { rel: tolerance("/f32/rel_norm_grad", f64::NAN), atol: tolerance("/f32/atol_grad", 1e-6) })
}

fn one_batch(case: &Case, kind: Kind) {
    let targets = case.input("labels");
    for config in case.spec["configs"].as_array().unwrap() {
        let tag = |name: &str| format!("{}.{name}", config["tag"].as_str().unwrap());
        let input = case.input("input").to_kind(kind).set_requires_grad(true);
        let centroids = match config["centroids"].as_str() {
            Some("filled") => case.input("centroids"),
            Some("init") => identity_code(case.hyper()["C"].as_i64().unwrap(), case.hyper()["D"].as_i64().unwrap()),
            other => panic!("{}: centroids {other:?}", case.name),
        };
        let mut bench = Bench::new(&settings(config), &centroids, kind);
        if config["centring"] == "ema" {
            bench.set_centre(&case.input("center"));
        }
        let total = bench.loss.forward(&output(&input), &targets).total;
        total.backward();
        if config["centring"] == "virgin" && input.size()[0] == 1 {
            // The centred sample is exactly 0 and has no direction: it is left out. The reference's gradient is about 1e12.
            for name in case.names().filter(|name| name.starts_with(&tag(""))).map(str::to_owned).collect::<Vec<_>>() {
                let _ = case.stored(&name);
            }
            if total.isfinite().int64_value(&[]) == 0 || input.grad().isfinite().all().int64_value(&[]) == 0 {
                case.problem(format!("{}: not finite", tag("loss")));
            }
            continue;
        }
        // The loss has three times its f32 limit (see the vectors' README, Tolerances); the gradients have none to spare.
        let (loss_limit, gradient_limit) = limits(case, kind, 3.0);
        case.compare(&tag("loss"), &total, loss_limit);
        case.compare(&tag("grad_features"), &input.grad(), gradient_limit);
        let gradient = bench.loss.centroid_gradient().unwrap();
        if case.has(&tag("grad_centroids")) {
            case.compare(&tag("grad_centroids"), &gradient, gradient_limit);
        } else {
            // The f32 limit is relative to the norm of the whole gradient, which the row norms give: the first rows may be
            // of classes absent from the batch, five hundred times smaller than the rest.
            let share = case.stored(&tag("grad_centroids_rownorm")).norm() / case.stored(&tag("grad_centroids_first4")).norm();
            let part_limit = match gradient_limit {
                Limit::Norm { rel, atol } => Limit::Norm { rel: rel * share.double_value(&[]), atol },
                other => other,
            };
            case.compare(&tag("grad_centroids_first4"), &gradient.narrow(0, 0, 4), part_limit);
            case.compare(&tag("grad_centroids_rownorm"), &gradient.norm_scalaropt_dim(2.0, [1i64], false), gradient_limit);
        }
        // The parts have limits in f64 only.
        if kind == Kind::Double {
            let log_p = bench.loss.log_distribution(&output(&input));
            let log_q = map(config["proj"].as_str().unwrap()).log(&bench.tensor("centroids"));
            let parts = ratios(&log_p, &log_q, &targets);
            let found =
                [("cmi", parts.cmi), ("sep", parts.sep), ("P", log_p.exp()), ("Q", log_q.exp()), ("center", bench.tensor("centre"))];
            for (name, ours) in found.iter().filter(|(name, _)| case.has(&tag(name))) {
                case.compare(&tag(name), ours, loss_limit);
            }
        }
    }
}

fn centre(case: &Case, kind: Kind) {
    let width = case.hyper()["D"].as_i64().unwrap();
    let limit = element(case, kind);
    for decay in case.hyper()["decays"].as_array().unwrap() {
        let settings = NcmiSettings { centring: Centring::FirstBatch, centre_decay: decay.as_f64().unwrap(), ..Default::default() };
        let mut bench = Bench::new(&settings, &identity_code(2, width), kind);
        for step in 0..3 {
            let input = case.input(&format!("input{step}")).to_kind(kind);
            bench.loss.forward(&output(&input), &Tensor::zeros([input.size()[0]], (Kind::Int64, Device::Cpu)));
            case.compare(&format!("decay{decay}.after{}", step + 1), &bench.tensor("centre"), limit);
        }
    }
}

fn element(case: &Case, kind: Kind) -> Limit {
    let name = if kind == Kind::Double { "f64" } else { "f32" };
    let part = |part: &str| case.tolerance(&format!("/{name}/{part}"));
    Limit::Element { rtol: part("rtol").unwrap(), atol: part("atol").unwrap_or(1e-6) }
}

fn trajectory(case: &Case, kind: Kind) {
    let hyper = case.hyper();
    let sgd = |name: &str, field: &str| hyper[name][field].as_f64().unwrap();
    for (prefix, mode) in [("released", Centroids::Fixed), ("centroids_trained", Centroids::Alternating)] {
        let settings = NcmiSettings {
            temperature: hyper["T"].as_f64().unwrap(),
            centre_decay: hyper["decay"].as_f64().unwrap(),
            centring: Centring::FirstBatch,
            centroids: mode,
            centroid_learning_rate: sgd("centroid_sgd", "lr"),
            centroid_momentum: sgd("centroid_sgd", "momentum"),
            centroid_start: Start::Share(0.0),
            sep_floor: SepFloor::Off,
            ..Default::default()
        };
        let mut bench = Bench::new(&settings, &case.input("centroids"), kind);
        let weight = case.input("net.weight").to_kind(kind).set_requires_grad(true);
        let net = SgdSettings {
            learning_rate: sgd("net_sgd", "lr"),
            momentum: sgd("net_sgd", "momentum"),
            weight_decay: sgd("net_sgd", "weight_decay"),
        };
        let mut optimizer = OptimizerSettings::Sgd(net.clone()).build(BTreeMap::from([("w".to_owned(), weight.shallow_clone())]));
        let mut losses = Vec::new();
        for step in 0..5 {
            let embedding = case.input(&format!("batch{step}")).to_kind(kind).matmul(&weight.transpose(0, 1));
            let total = bench.loss.forward(&output(&embedding), &case.input(&format!("labels{step}"))).total;
            losses.push(total.double_value(&[]));
            optimizer.zero_gradients();
            total.backward();
            optimizer.step(net.learning_rate);
            bench.loss.step(&Moment { epoch: 1, epochs: 1, rate_share: 1.0 });
        }
        let limit = element(case, kind);
        case.compare(&format!("{prefix}.losses"), &Tensor::from_slice(&losses), limit);
        case.compare(&format!("{prefix}.net.weight"), &weight, limit);
        case.compare(&format!("{prefix}.centroids"), &bench.tensor("centroids"), limit);
        case.compare(&format!("{prefix}.center"), &bench.tensor("centre"), limit);
    }
}

fn evaluation(case: &Case, kind: Kind) {
    let hyper = case.hyper();
    let (classes, width) = (hyper["C"].as_i64().unwrap(), hyper["D"].as_i64().unwrap());
    let input = |name: &str| case.input(name).to_kind(kind);
    for config in case.spec["configs"].as_array().unwrap() {
        let (projection, norm) = (config["proj"].as_str().unwrap(), config["centroid_norm"].as_str().unwrap());
        let released = norm == "p1";
        let settings = NcmiSettings {
            output_map: map(projection),
            temperature: hyper["temperature"].as_f64().unwrap(),
            centroid_length: if released { Length::L1Repo } else { Length::L2 },
            ..Default::default()
        };
        let mut bench = Bench::new(&settings, &identity_code(classes, width), kind);
        bench.set_centre(&case.input("center"));
        bench.loss.refresh(&output(&input("input")), &case.input("labels"));
        let (means, counts) = (bench.tensor("evaluation-centroids"), bench.tensor("evaluation-counts"));
        let log_p = bench.loss.log_distribution(&output(&input("input_test")));
        let divergence = divergence_to_centroids(&log_p, &means, &counts);

        // An empty class is stored as −1. The released L1 path is evaluated in f32 by the reference.
        let absent = counts.eq(0.0);
        let limit = element(case, if released { Kind::Float } else { kind });
        let tag = |name: &str| format!("{projection}.{norm}.{name}");
        case.compare(&tag("centroids"), &means.masked_fill(&absent.unsqueeze(1), -1.0), limit);
        case.compare(&tag("kl"), &divergence.masked_fill(&absent.unsqueeze(0), -1.0), limit);
        case.compare(&format!("{projection}.test_P"), &log_p.exp(), element(case, kind));

        let decided = bench.loss.probabilities(&output(&input("input_test"))).argmax(-1, false);
        // In f32 a sample whose two nearest centroids are closer together than 1e-5 may go either way.
        let clear = if kind == Kind::Double {
            Tensor::ones_like(&decided).to_kind(Kind::Bool)
        } else {
            let nearest = divergence.topk(2, -1, false, true).0;
            (nearest.select(1, 1) - nearest.select(1, 0)).gt(1e-5)
        };
        let guarded = case.stored(&tag("decision_guarded"));
        case.close(&tag("decision_guarded"), &decided.where_self(&clear, &guarded), &guarded, Limit::Exact);
        // The released decision falls for an empty class, whose divergence is NaN; ours must not.
        let released = case.stored(&tag("decision_released"));
        let expected = match hyper["absent_class"].as_i64() {
            Some(class) => guarded.full_like(class),
            None => guarded,
        };
        case.close(&tag("decision_released"), &expected, &released, Limit::Exact);
    }
}
