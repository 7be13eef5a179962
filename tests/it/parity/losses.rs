//! The NCMI loss, its centre, its centroids and its decision against the released code, in f64 and in f32.

use std::collections::BTreeMap;

use serde_json::Value;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};
use wsi::ground::batch::Output;
use wsi::ground::distributions::{OutputMap, divergence_to_centroids};
use wsi::learn::optimizers::{OptimizerSettings, SgdSettings};
use wsi::losses::ncmi::{Centring, Centroids, Length, Ncmi, NcmiSettings, SepFloor, identity_code, ratios};
use wsi::losses::{Loss, Moment, Site};

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
                    () if !case.name.starts_with("ncmi_") => return Outcome::NotBuilt,
                    () if hyper.get("decays").is_some() => centre(case, kind),
                    () if hyper.get("net_sgd").is_some() => trajectory(case, kind),
                    () if hyper.get("N").is_some() => evaluation(case, kind),
                    () if hyper.get("cmi_add").is_some() => one_batch(case, kind),
                    () => case.problem("nothing in `hyper` tells what kind of NCMI case this is".into()),
                }
            }
            Outcome::Compared
        },
    );
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
    Output { embedding: embedding.shallow_clone(), logits: None, attention: None }
}

fn limits(case: &Case, kind: Kind) -> (Limit, Limit) {
    let tolerance = |pointer: &str, default: f64| case.tolerance(pointer).unwrap_or(default);
    if kind == Kind::Double {
        let limit = Limit::Element { rtol: tolerance("/f64/rtol", f64::NAN), atol: tolerance("/f64/atol", 1e-6) };
        return (limit, limit);
    }
    // The loss has three times its f32 limit (see the vectors' README, Tolerances); the gradients have none to spare.
    let loss = Limit::Element { rtol: 3.0 * tolerance("/f32/rtol_loss", f64::NAN), atol: tolerance("/f32/atol_loss", 1e-6) };
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
        let (loss_limit, gradient_limit) = limits(case, kind);
        case.compare(&tag("loss"), &total, loss_limit);
        case.compare(&tag("grad_features"), &input.grad(), gradient_limit);
        let gradient = bench.tensor("centroids").grad();
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
            centroid_start: 0.0,
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
