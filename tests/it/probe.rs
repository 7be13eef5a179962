//! Probing: frozen means frozen, every loss can be judged by every rule, nothing is chosen on test rows, and `wsi train` shows it.

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};
use wsi::config::Config;
use wsi::datasets::Dataset;
use wsi::datasets::split::{Split, TestRows};
use wsi::learn::evaluate::{evaluate, rows};
use wsi::learn::{Learner, checkpoint};
use wsi::probes::decide::{Decided, Judging, decide};
use wsi::probes::linear::LinearProbe;
use wsi::stages::report::{self, Options};
use wsi::stages::{Data, probe, train};
use wsi::store::predictions;
use wsi::store::scores::{Decision, ScoreFile};

use crate::pipeline::images;
use crate::program::{said, wsi};
use crate::train::{cohort, config, machine};

/// Name, kind, shape and bytes of every tensor of model and loss.
fn frozen(learner: &Learner) -> BTreeMap<String, (Kind, Vec<i64>, Vec<u8>)> {
    let bytes = |tensor: &Tensor| {
        let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
        tensor.contiguous().copy_data_u8(&mut bytes, tensor.numel());
        bytes
    };
    learner.tensors().into_iter().map(|(name, t)| (name, (t.kind(), t.size(), bytes(&t.detach())))).collect()
}

fn decided(learner: &Learner, dataset: &dyn Dataset, split: &Split, config: &Config) -> Decided {
    let judging = Judging {
        learner,
        dataset,
        split,
        seed: config.seed,
        trained_epochs: config.train.epochs,
        batch_size: config.train.batch_size,
        device: Device::Cpu,
    };
    decide(&judging, &config.probe).unwrap()
}

/// A learner with random weights on the data's split.
fn untrained(config: &Config, data: &Data) -> (Learner, Box<dyn Dataset>, Split) {
    let (dataset, split) = data.open(config).unwrap();
    let learner = Learner::new(&config.train, dataset.input(), dataset.classes().len(), config.seed, Device::Cpu).unwrap();
    (learner, dataset, split)
}

fn image_settings(overrides: &[&str]) -> Config {
    let split = "split={name='column',column='part',test=['test'],validation=0.25}";
    let small = ["train.data=cifar100", split, "train.batch-size=6", "probe.linear.epochs=2"];
    config(&[&small, overrides].concat())
}

#[test]
fn frozen_means_frozen() {
    let folder = tempfile::tempdir().unwrap();
    let bags = cohort(folder.path(), 2, 6);
    images(&folder.path().join("images"));
    let images = Data { data: folder.path().join("images"), labels: None, split: None };
    for augment in ["probe.linear.augment=false", "probe.linear.augment=true"] {
        for loss in ["train.loss.name=cross-entropy", "train.loss.name=ncmi"] {
            let bag_settings = config(&[loss, augment, "probe.linear.epochs=3"]);
            for (config, data) in [(bag_settings, &bags), (image_settings(&[loss, augment]), &images)] {
                let (learner, dataset, split) = untrained(&config, data);
                let before = frozen(&learner);
                decided(&learner, dataset.as_ref(), &split, &config);
                assert!(before == frozen(&learner), "{loss} {augment}: a tensor of the model has changed");
                assert!(
                    learner.parameters().values().all(|tensor| !tensor.grad().defined()),
                    "{loss} {augment}: a gradient reached the model"
                );
            }
        }
    }
}

#[test]
fn the_comparison_of_tensors_sees_a_training_pass() {
    let folder = tempfile::tempdir().unwrap();
    images(&folder.path().join("images"));
    let config = image_settings(&[]);
    let (learner, dataset, split) = untrained(&config, &Data { data: folder.path().join("images"), labels: None, split: None });
    let before = frozen(&learner);
    // Running statistics move without any gradient.
    tch::no_grad(|| learner.model.forward(&dataset.batch(&split.train.0, None, Device::Cpu).unwrap(), true));
    assert!(before != frozen(&learner));
}

#[test]
fn augmented_probes_see_changed_samples_and_repeat_themselves() {
    let folder = tempfile::tempdir().unwrap();
    images(&folder.path().join("images"));
    let data = Data { data: folder.path().join("images"), labels: None, split: None };
    let probabilities = |augment: &str| {
        let config = image_settings(&["train.loss.name=cross-entropy", augment, "probe.linear.standardise=true"]);
        let (learner, dataset, split) = untrained(&config, &data);
        decided(&learner, dataset.as_ref(), &split, &config).by_rule
    };
    let (plain, augmented) = (probabilities("probe.linear.augment=false"), probabilities("probe.linear.augment=true"));
    assert_ne!(plain[&Decision::Lp], augmented[&Decision::Lp]);
    assert_eq!(plain[&Decision::Knn], augmented[&Decision::Knn]);
    assert_eq!(augmented, probabilities("probe.linear.augment=true"));
}

#[test]
fn every_loss_is_judged_by_every_rule_and_the_saved_probe_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let data = cohort(folder.path(), 3, 6);
    let losses = ["cross-entropy", "label-smoothing", "focal", "poly", "squentropy", "square", "anticlass", "supcon", "opl", "ncmi"];
    for loss in losses {
        let (trained, probed) = (folder.path().join(format!("train-{loss}")), folder.path().join(format!("probe-{loss}")));
        let config = config(&[&format!("train.loss.name={loss}"), "train.epochs=2", "probe.linear.standardise=true"]);
        train::run(&config, &data, &trained, &machine()).unwrap();
        assert!(!trained.join("probe").exists(), "the stage only trains");
        let inputs = probe::Inputs { train: trained.clone(), data: data.clone(), tiles: None };
        probe::run(&config, &inputs, &probed, &machine()).unwrap();

        let scores = ScoreFile::read(&probed).unwrap();
        let predicted = predictions::read(&probed, &scores.classes).unwrap();
        let expected: Vec<Decision> = Decision::ALL.into_iter().filter(|rule| loss != "ncmi" || *rule != Decision::Own).collect();
        assert_eq!(scores.decisions.keys().copied().collect::<Vec<_>>(), expected, "{loss}");
        assert_eq!(predicted.keys().copied().collect::<Vec<_>>(), expected, "{loss}");
        for row in predicted.values().flatten() {
            assert!((row.probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{loss}: {row:?}");
        }
        let chosen = |rule: Decision| (&scores.selections[&rule].chosen, scores.selections[&rule].validation_macro_f1.unwrap());
        let (linear, knn) = (chosen(Decision::Lp), chosen(Decision::Knn));
        assert!(config.probe.linear.learning_rates.contains(&linear.0["learning-rate"]) && (0.0..=1.0).contains(&linear.1), "{linear:?}");
        assert!(knn.0["neighbours"] >= 1.0 && (0.0..=1.0).contains(&knn.1), "{knn:?}");

        let (learner, dataset, split) = untrained(&config, &data);
        checkpoint::load(&trained.join(checkpoint::BEST), &learner).unwrap();
        let test = evaluate(&learner, dataset.as_ref(), &split.test.0, config.train.batch_size, Device::Cpu).unwrap();
        let (saved, classes) = LinearProbe::read(&probed).unwrap();
        assert_eq!(classes, scores.classes);
        for (found, row) in rows(&saved.probabilities(&test.embeddings)).iter().zip(&predicted[&Decision::Lp]) {
            assert_eq!(*found, row.probabilities, "{loss}: {}", row.slide_id);
        }
    }
    report::run(
        &[folder.path().join("probe-cross-entropy"), folder.path().join("probe-ncmi")],
        &folder.path().join("report"),
        Options::default(),
    )
    .unwrap();
    let page = std::fs::read_to_string(folder.path().join("report").join(report::PAGE)).unwrap();
    assert!(page.contains("CE+kNN") && page.contains("NCMI-kNN") && page.contains("NCMI-LP"));
}

#[test]
fn test_rows_choose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = cohort(folder.path(), 3, 8);
    let settings = config(&["probe.linear.epochs=3", "probe.linear.learning-rates=[0.001,0.1,5.0]", "probe.knn.grid=[1,3,20]"]);
    let (learner, dataset, split) = untrained(&settings, &data);
    let whole = decided(&learner, dataset.as_ref(), &split, &settings);
    let probe = |decided: &Decided, name: &str| {
        decided.linear.write(&folder.path().join(name), dataset.classes(), &serde_json::Value::Null).unwrap();
        std::fs::read(folder.path().join(name).join("probe.safetensors")).unwrap()
    };
    let expected = probe(&whole, "whole");

    // Other test rows, the same choice and the same probe.
    let other = Split { test: TestRows(split.test.0[..3].to_vec()), ..split.clone() };
    let fewer = decided(&learner, dataset.as_ref(), &other, &settings);
    assert_eq!(fewer.selections, whole.selections);
    assert!(probe(&fewer, "fewer") == expected);

    // Alone, each candidate scores on the validation rows what the choice is made by.
    let validation = |item: &str, rule: Decision| {
        let settings = config(&["probe.linear.epochs=3", item]);
        decided(&learner, dataset.as_ref(), &split, &settings).selections[&rule].clone()
    };
    for (rule, name, items) in [
        (Decision::Lp, "learning-rate", [0.001, 0.1, 5.0].map(|rate| (rate, format!("probe.linear.learning-rates=[{rate:?}]")))),
        (Decision::Knn, "neighbours", [1.0, 3.0, 20.0].map(|k| (k, format!("probe.knn.grid=[{k}]")))),
    ] {
        let alone = items.map(|(value, item)| (value, validation(&item, rule).validation_macro_f1.unwrap()));
        // The first of the best.
        let best = alone.iter().rev().copied().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        let selection = &whole.selections[&rule];
        assert_eq!((selection.chosen[name], selection.validation_macro_f1, selection.candidates), (best.0, Some(best.1), 3), "{alone:?}");
    }
}

#[test]
fn without_validation_rows_the_settings_decide() {
    let folder = tempfile::tempdir().unwrap();
    let data = cohort(folder.path(), 2, 6);
    let settings = config(&["split.validation=0.0", "probe.linear.epochs=2", "probe.knn.neighbours=7"]);
    let (learner, dataset, split) = untrained(&settings, &data);
    let selections = decided(&learner, dataset.as_ref(), &split, &settings).selections;
    assert_eq!(selections[&Decision::Lp].chosen["learning-rate"], 0.1);
    assert_eq!(selections[&Decision::Knn].chosen["neighbours"], 7.0);
    assert!(selections.values().all(|s| s.validation_macro_f1.is_none() && s.candidates == 1 && s.by.contains("no validation rows")));
}

/// Every file below a folder, by its path there.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    files.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap())).collect()
}

#[test]
fn training_ends_with_a_table_of_scores() {
    let folder = tempfile::tempdir().unwrap();
    let data = cohort(folder.path(), 3, 6);
    let call = |name: &str, more: &[&str]| {
        let (bags, labels, out) = (data.data.clone(), data.labels.clone().unwrap(), folder.path().join(name));
        let mut arguments = vec!["train", "--data", bags.to_str().unwrap(), "--labels", labels.to_str().unwrap()];
        arguments.extend(["--out", out.to_str().unwrap(), "--device", "cpu", "--threads", "1", "--epochs", "3"]);
        arguments.extend(["--set", "probe.resamples=100", "--set", "train.model.aggregator.width=16", "--loss", "cross-entropy"]);
        arguments.extend(more);
        let output = wsi(arguments);
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let table = call("run", &[]);
    assert!(table.starts_with("test rows: 10 slides of 5 patients, of 4-fold by patient, fold 0 of 4, seed 0;"), "{table}");
    let scores = ScoreFile::read(&folder.path().join("run/probe")).unwrap();
    for (name, rule) in [("CE+LP", Decision::Lp), ("CE, its own head", Decision::Own), ("CE+CC", Decision::Cc), ("CE+kNN", Decision::Knn)] {
        let line = table.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no '{name}' in\n{table}"));
        let of = &scores.decisions[&rule];
        assert!(line.contains(&of.macro_f1.to_string()) && line.contains(&of.macro_auc.to_string()), "{line}");
        assert!(of.macro_f1.is_bounded(), "{line}");
    }
    assert_eq!(scores.train_folder, "..");
    assert!(table.contains("CE+LP: learning-rate ") && table.contains("chosen by macro-F1 on the validation rows"), "{table}");
    let place = folder.path().to_string_lossy().into_owned();
    let files = contents(&folder.path().join("run/probe"));
    assert!(files.contains_key("probe.safetensors") && files.contains_key("predictions.csv"));
    for (name, bytes) in &files {
        assert!(!String::from_utf8_lossy(bytes).contains(&place), "{name} holds an absolute path");
    }

    // Again: nothing is done, the same is printed. Killed while probing: the same command continues to the same bytes.
    assert_eq!(call("run", &[]), table);
    assert!(contents(&folder.path().join("run/probe")) == files);
    for name in ["run.json", "scores.json", "probe.safetensors"] {
        std::fs::remove_file(folder.path().join("run/probe").join(name)).unwrap();
    }
    assert_eq!(call("run", &[]), table);
    let again = contents(&folder.path().join("run/probe"));
    for name in ["scores.json", "probe.safetensors", "predictions.csv"] {
        assert!(again[name] == files[name], "{name} differs");
    }

    assert_eq!(call("bare", &["--no-probe"]), "");
    assert!(folder.path().join("bare/run.json").is_file() && !folder.path().join("bare/probe").exists());
}
