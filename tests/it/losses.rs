//! The baseline losses by hand: worked values in f64, and what each refuses.

use serde_json::{Value, json};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use wsi::ground::batch::Output;
use wsi::losses::opl::{Form, projection};
use wsi::losses::supcon::contrast;
use wsi::losses::{LossSettings, Site};

fn matrix(rows: &[&[f64]]) -> Tensor {
    Tensor::from_slice(&rows.concat()).view([rows.len() as i64, rows[0].len() as i64])
}

/// The loss of three samples in four classes.
fn value(settings: Value) -> f64 {
    let settings: LossSettings = serde_json::from_value(settings).unwrap();
    let store = VarStore::new(Device::Cpu);
    let logits = matrix(&[&[2.0, 1.0, 0.0, -1.0], &[0.5, 0.5, 1.5, 0.0], &[-1.0, 3.0, 0.2, 0.1]]);
    let mut loss = settings.build(&Site { path: store.root() / "loss", classes: 4, width: 4 }).unwrap();
    let output = Output { embedding: logits.shallow_clone(), head: Some(logits), attention: None };
    loss.forward(&output, &Tensor::from_slice(&[0i64, 2, 0])).total.double_value(&[])
}

#[test]
fn losses_on_logits_meet_the_worked_values() {
    for (settings, expected) in [
        (json!({"name": "cross-entropy"}), 1.746_149_905_6),
        (json!({"name": "label-smoothing"}), 1.772_816_572_3),
        (json!({"name": "focal"}), 1.403_542_152_1),
        (json!({"name": "focal", "gamma": 3.0}), 1.342_648_098_1),
        (json!({"name": "poly"}), 2.355_964_261_2),
        (json!({"name": "poly", "epsilon": 2.0}), 2.965_778_616_8),
        (json!({"name": "squentropy"}), 3.029_483_239_0),
        (json!({"name": "square"}), 1.4),
        (json!({"name": "square", "weight": 5.0, "target": 5.0}), 24.816_666_7),
        (json!({"name": "square", "weight": 15.0, "target": 30.0}), 3197.525),
        (json!({"name": "anticlass"}), 2.402_929_215_2),
        (json!({"name": "anticlass", "cross-entropy-weight": 0.0}), 0.656_779_309_5),
    ] {
        let found = value(settings.clone());
        assert!((found - expected).abs() < 1e-7 * expected.max(1.0), "{settings}: {found}");
    }
}

#[test]
fn both_forms_of_the_projection_loss_meet_the_worked_values() {
    let vectors = matrix(&[&[1.0, 0.0, 0.0], &[0.6, 0.8, 0.0], &[0.0, 1.0, 0.0], &[0.0, 0.6, 0.8]]);
    let targets = Tensor::from_slice(&[0i64, 0, 1, 2]);
    let signed = projection(&vectors, &targets, 0.5, Form::Signed).double_value(&[]);
    assert!((signed - 0.588_000_281_2).abs() < 1e-9, "{signed}");
    let absolute = projection(&vectors, &targets, 2.0, Form::Absolute).double_value(&[]);
    assert!((absolute - 1.152_000_224_8).abs() < 1e-9, "{absolute}");
    // Opposite classes: the forms differ in sign.
    let opposite = matrix(&[&[1.0, 0.0], &[-1.0, 0.0]]);
    let of = |form| projection(&opposite, &Tensor::from_slice(&[0i64, 1]), 1.0, form).double_value(&[]);
    assert!(of(Form::Signed) < 1e-5 && of(Form::Absolute) > 1.9);
}

#[test]
fn contrast_of_two_views_meets_the_worked_value() {
    let vectors = matrix(&[&[1.0, 0.0], &[0.8, 0.6], &[0.0, 1.0], &[0.8, 0.6], &[0.6, 0.8], &[-0.6, 0.8]]);
    let classes = Tensor::from_slice(&[0i64, 0, 1, 0, 0, 1]);
    for (base, expected) in [(0.1, 1.176_012_179_6), (0.07, 1.680_017_399_5)] {
        let found = contrast(&vectors, &classes, 0.1, base).double_value(&[]);
        assert!((found - expected).abs() < 1e-9, "{found}");
    }
}

#[test]
fn supcon_decides_by_the_nearest_class_mean_of_what_it_has_seen() {
    let settings: LossSettings = serde_json::from_value(json!({"name": "supcon"})).unwrap();
    let store = VarStore::new(Device::Cpu);
    let mut loss = settings.build(&Site { path: store.root() / "loss", classes: 3, width: 2 }).unwrap();
    let output = |rows: &[&[f64]]| Output { embedding: matrix(rows).to_kind(Kind::Float), head: None, attention: None };
    // Length does not count, and class 2 was never seen.
    loss.refresh(&output(&[&[9.0, 0.1], &[1.0, -0.1], &[0.0, 2.0]]), &Tensor::from_slice(&[0i64, 0, 1]));
    let p = loss.probabilities(&output(&[&[0.3, 0.1], &[1.0, 7.0], &[-1.0, -1.1]]));
    assert_eq!(Vec::<i64>::try_from(p.argmax(1, false)).unwrap(), [0, 1, 0]);
    assert_eq!(p.select(1, 2).max().double_value(&[]), 0.0);
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    for (settings, word) in [
        (json!({"name": "label-smoothing", "smoothing": 1.0}), "smoothing"),
        (json!({"name": "focal", "gamma": -1.0}), "gamma"),
        (json!({"name": "poly", "epsilon": -1.0}), "epsilon"),
        (json!({"name": "square", "weight": 0.0}), "weight"),
        (json!({"name": "anticlass", "cross-entropy-weight": 0.0, "occe-weight": 0.0}), "weights"),
        (json!({"name": "supcon", "temperature": 0.0}), "temperature"),
        (json!({"name": "opl", "gamma": -0.1}), "gamma"),
        (json!({"name": "ncmi", "temperature": -0.2}), "temperature"),
        (json!({"name": "ncmi", "centre-decay": 1.5}), "centre-decay"),
    ] {
        let parsed: LossSettings = serde_json::from_value(settings.clone()).unwrap();
        let store = VarStore::new(Device::Cpu);
        let error = parsed.build(&Site { path: store.root() / "loss", classes: 3, width: 8 }).err().expect("refused");
        assert!(format!("{error:#}").contains(word), "{settings}: {error:#}");
    }
    for name in LossSettings::NAMES {
        let store = VarStore::new(Device::Cpu);
        let one = LossSettings::named(name).unwrap().build(&Site { path: store.root() / "loss", classes: 1, width: 8 });
        let error = format!("{:#}", one.err().expect("one class is refused"));
        assert!(error.contains(name) && error.contains("at least 2 classes"), "{error}");
    }
}
