//! Training: exact resume, splits that never part a patient, losses that move what they may move, labels that do not fit.

use std::path::{Path, PathBuf};

use anyhow::bail;
use half::f16;
use rand::Rng;
use tch::{Device, Tensor};
use wsi::config::Config;
use wsi::datasets::split::SplitSettings;
use wsi::datasets::{Augment, Dataset};
use wsi::ground::batch::{Batch, Input};
use wsi::ground::plan::{Plan, Window};
use wsi::ground::reader::Reader;
use wsi::ground::seed;
use wsi::ground::units::{Coord, Mpp, Size};
use wsi::learn::fit::{State, fit};
use wsi::learn::{Learner, Training, checkpoint};
use wsi::stages::{Data, Machine, probe, train};
use wsi::store::bag::{self, Features, Origin};
use wsi::store::history::{Epoch, MeasuredOn};
use wsi::store::scores::{Decision, ScoreFile};
use wsi::store::tensors;

const WIDTH: usize = 12;

/// A cohort of bags whose classes differ in a few tiles: `patients` a class, two slides each.
pub fn cohort(folder: &Path, classes: usize, patients: usize) -> Data {
    let mut labels = String::from("slide_id,patient_id,label,centre\n");
    for patient in 0..classes * patients {
        let class = patient % classes;
        for slide in 0..2 {
            let id = format!("p{patient:02}_{slide}");
            write_bag(folder, &id, class, 6 + patient % 5);
            labels += &format!("{id},p{patient:02},class{class},{}\n", ["east", "west"][patient / classes % 2]);
        }
    }
    let table = folder.join("labels.csv");
    std::fs::write(&table, labels).unwrap();
    Data { data: folder.join("bags"), labels: Some(table), split: None }
}

/// One bag of a slide of class `class`: two of its tiles show it.
pub fn write_bag(folder: &Path, id: &str, class: usize, tiles: usize) {
    write_plan(folder, &plan(id, tiles), features(id, class, tiles));
}

fn features(id: &str, class: usize, tiles: usize) -> Features {
    let mut random = seed::stream(1, id);
    let value = |tile: usize, feature: usize, noise: f32| {
        let lesion = tile < 2 && feature / 3 == class;
        f16::from_f32(noise + if lesion { 2.0 } else { 0.0 })
    };
    Features { values: (0..tiles * WIDTH).map(|i| value(i / WIDTH, i % WIDTH, random.random::<f32>())).collect(), tiles, width: WIDTH }
}

pub fn plan(id: &str, tiles: usize) -> Plan {
    let side = 224;
    Plan {
        slide_id: id.into(),
        slide_file: format!("{id}.tif"),
        slide_digest: "none".into(),
        canvas: Size { width: 224 * tiles as u32, height: 224 },
        bounds: None,
        mpp: Mpp::square(0.5),
        mpp_source: "slide".into(),
        window: Window {
            level: 0,
            level_downsample: 1.0,
            decode_scale: 1,
            read_px: side,
            tile_px: side,
            side_level0_px: side,
            step_level0_px: side,
            mpp_requested: 0.5,
            mpp_true: 0.5,
            residual: 0.0,
            reader: Reader::OpenSlide,
        },
        fingerprint: None,
        coords: (0..tiles as i64).map(|tile| Coord { x: 224 * tile, y: 0 }).collect(),
        tissue: vec![1.0; tiles],
    }
}

pub fn write_plan(folder: &Path, plan: &Plan, features: Features) {
    let origin = Origin { encoder: "made-up".into(), weights: "none".into(), computed: None };
    bag::write(&folder.join(format!("bags/{}.h5", plan.slide_id)), plan, &features, &origin, None).unwrap();
}

pub fn config(overrides: &[&str]) -> Config {
    let small = ["train.model.aggregator.width=16", "train.epochs=6", "train.optimizer.learning-rate=0.005", "probe.resamples=200"];
    let all: Vec<String> = small.iter().chain(overrides).map(|&s| s.to_owned()).collect();
    Config::load(None, &all).unwrap()
}

pub fn machine() -> Machine {
    Machine { device: Device::Cpu, threads: 1 }
}

fn tensor(folder: &Path, name: &str) -> Tensor {
    tensors::read(&folder.join(checkpoint::LAST)).unwrap().0.remove(name).unwrap()
}

#[test]
fn an_interrupted_run_continues_to_the_same_bytes() {
    continues_to_the_same_bytes(&config(&["train.loss.centroid-start=0.3", "train.model.aggregator.dropout=0.2"]));
}

#[test]
fn every_aggregator_trains_and_continues_to_the_same_bytes() {
    for name in wsi::aggregators::AggregatorSettings::NAMES {
        let choice = format!("train.model.aggregator.name={name}");
        let mut overrides = vec![choice.as_str(), "train.epochs=4", "probe.resamples=200"];
        if *name == "aem" {
            overrides.push("train.model.aggregator.annealing=cosine");
        }
        let overrides: Vec<String> = overrides.into_iter().map(str::to_owned).collect();
        continues_to_the_same_bytes(&Config::load(None, &overrides).unwrap());
    }
}

fn continues_to_the_same_bytes(config: &Config) {
    let name = config.train.model.aggregator.name();
    let folder = tempfile::tempdir().unwrap();
    let data = cohort(folder.path(), 3, 6);
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    train::run(config, &data, &whole, &machine()).unwrap();

    // Three epochs and two steps of the fourth, saved, then an end without warning.
    let (dataset, split) = data.open(config).unwrap();
    let mut learner = Learner::new(&config.train, dataset.input(), 3, config.seed, Device::Cpu).unwrap();
    let mut optimizer = config.train.optimizer.build(learner.parameters());
    let training = Training { dataset: dataset.as_ref(), train: &split.train, valid: &split.valid, seed: config.seed, device: Device::Cpu };
    std::fs::create_dir_all(&broken).unwrap();
    let mut state = State::new(config.train.precision);
    state.split = split.digest(dataset.as_ref()).unwrap();
    let ended = fit(&mut learner, optimizer.as_mut(), &training, &config.train, &mut state, &mut |learner, optimizer, state| {
        if state.history.len() == 3 && state.within.steps == 2 {
            checkpoint::save(&broken, learner, optimizer, state, true)?;
            bail!("killed");
        }
        Ok(())
    });
    assert!(ended.is_err());
    for file in ["config.toml", "recipe.json"] {
        std::fs::copy(whole.join(file), broken.join(file)).unwrap();
    }

    train::run(config, &data, &broken, &machine()).unwrap();
    for file in [checkpoint::LAST, checkpoint::BEST, "history.csv", "split.csv", "curves.svg"] {
        assert!(std::fs::read(whole.join(file)).unwrap() == std::fs::read(broken.join(file)).unwrap(), "{name}: {file} differs");
    }
}

#[test]
fn other_settings_never_overwrite_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let data = cohort(folder.path(), 2, 4);
    let out = folder.path().join("run");
    train::run(&config(&[]), &data, &out, &machine()).unwrap();
    let again = train::run(&config(&[]), &data, &out, &machine()).unwrap();
    assert_eq!(again.status, "done");
    let error = train::run(&config(&["seed=1"]), &data, &out, &machine()).unwrap_err().to_string();
    assert!(error.contains("other settings"), "{error}");
}

#[test]
fn centroids_move_only_when_and_where_they_should() {
    let folder = tempfile::tempdir().unwrap();
    let data = cohort(folder.path(), 3, 4);
    let run = |name: &str, overrides: &[&str]| {
        let out = folder.path().join(name);
        train::run(&config(overrides), &data, &out, &machine()).unwrap();
        tensor(&out, "loss.centroids")
    };
    let initial = wsi::losses::ncmi::identity_code(3, 16);
    assert_eq!(run("fixed", &["train.loss.centroids=fixed"]), initial);
    assert_eq!(run("before", &["train.loss.centroid-start=1.0"]), initial);
    assert_ne!(run("after", &["train.loss.centroid-start=0.8"]), initial);
}

#[test]
fn a_probe_judges_by_every_rule_and_finds_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let data = cohort(folder.path(), 3, 8);
    for loss in ["cross-entropy", "ncmi"] {
        let (trained, probed) = (folder.path().join(format!("train-{loss}")), folder.path().join(format!("probe-{loss}")));
        let loss = format!("train.loss.name={loss}");
        let config = config(&[&loss, "train.epochs=40", "split.fold=1"]);
        train::run(&config, &data, &trained, &machine()).unwrap();
        probe::run(&config, &probe::Inputs { train: trained, data: data.clone(), tiles: None }, &probed, &machine()).unwrap();
        let scores = ScoreFile::read(&probed).unwrap();
        let rules = if loss.ends_with("ncmi") { vec![Decision::Lp, Decision::Cc, Decision::Knn] } else { Decision::ALL.to_vec() };
        assert_eq!(scores.decisions.keys().copied().collect::<Vec<_>>(), rules);
        let f1 = scores.macro_f1;
        assert!(f1.value > 0.8 && f1.low <= f1.value && f1.value <= f1.high, "{loss}: {f1:?}");
        assert_eq!((scores.slides, scores.patients), (12, 6));
        for (rule, of) in &scores.decisions {
            let metrics = &of.metrics;
            assert_eq!(metrics["macro_f1_observed"].value, of.macro_f1.value, "{rule:?}");
            assert_eq!(metrics["macro_auroc"].value, of.macro_auc.value, "{rule:?}");
            assert!(metrics.values().all(|figure| figure.value.is_nan() == figure.undefined.is_some() && !figure.definition.is_empty()));
            assert!(metrics.contains_key("ece_15_equal_mass") && metrics.contains_key("cohen_kappa_quadratic"));
        }
        assert_eq!(scores.train_folder, format!("../train-{}", &loss[16..]));
    }
}

#[test]
fn folds_share_no_patient_and_cover_all() {
    let folder = tempfile::tempdir().unwrap();
    let data = cohort(folder.path(), 3, 7);
    let mut tested = Vec::new();
    for fold in 0..4 {
        let (dataset, split) = data.open(&config(&[&format!("split.fold={fold}")])).unwrap();
        let of = |rows: &[usize]| rows.iter().map(|&row| dataset.groups()[row].clone()).collect::<std::collections::BTreeSet<_>>();
        let (train, valid, test) = (of(&split.train.0), of(&split.valid.0), of(&split.test.0));
        assert!(train.is_disjoint(&valid) && train.is_disjoint(&test) && valid.is_disjoint(&test));
        assert!(!valid.is_empty());
        tested.extend(split.test.0.clone());
    }
    tested.sort_unstable();
    assert_eq!(tested, (0..42).collect::<Vec<_>>());
}

#[test]
fn a_centre_can_be_held_out() {
    let folder = tempfile::tempdir().unwrap();
    let data = cohort(folder.path(), 2, 6);
    let split = config(&["split={name='column',column='centre',test=['west']}"]);
    assert!(matches!(split.split, SplitSettings::Column(_)));
    let (dataset, split) = data.open(&split).unwrap();
    let centre = dataset.column("centre").unwrap();
    assert!(split.test.0.iter().all(|&row| centre[row] == "west") && split.train.0.iter().all(|&row| centre[row] == "east"));
}

#[test]
fn shuffled_labels_stay_with_patients() {
    let folder = tempfile::tempdir().unwrap();
    let data = cohort(folder.path(), 3, 6);
    let (truth, _) = data.open(&config(&[])).unwrap();
    let (shuffled, _) = data.open(&config(&["cohort.shuffle-labels=2"])).unwrap();
    assert_ne!(truth.targets(), shuffled.targets());
    let count = |targets: &[i64]| (0..3).map(|c| targets.iter().filter(|&&t| t == c).count()).collect::<Vec<_>>();
    assert_eq!(count(truth.targets()), count(shuffled.targets()));
    for pair in 0..18 {
        assert_eq!(shuffled.targets()[2 * pair], shuffled.targets()[2 * pair + 1], "both slides of a patient have one label");
    }
}

/// The error of training with this table of labels.
fn refusal(labels: &str, overrides: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut data = cohort(folder.path(), 2, 4);
    let table: PathBuf = folder.path().join("other.csv");
    std::fs::write(&table, labels).unwrap();
    data.labels = Some(table);
    let out = folder.path().join("run");
    let error = format!("{:#}", train::run(&config(overrides), &data, &out, &machine()).unwrap_err());
    assert!(!out.join("run.json").exists() && !out.join(checkpoint::LAST).exists());
    error
}

#[test]
fn labels_that_do_not_fit_are_refused_by_name() {
    let head = "slide_id,patient_id,label\n";
    let unknown = refusal(&format!("{head}p00_0,p00,a\nnobody,p01,b\n"), &[]);
    assert!(unknown.contains("nobody") && unknown.contains("no bag"), "{unknown}");
    let single =
        refusal(&format!("{head}p00_0,p00,a\np01_0,p01,b\np02_0,p02,b\np03_0,p03,b\n"), &["split.folds=2", "split.validation=0.0"]);
    assert!(single.contains("class 'a' has 1 patient"), "{single}");
    let twice = refusal(&format!("{head}p00_0,p00,a\np00_0,p00,b\n"), &[]);
    assert!(twice.contains("p00_0") && twice.contains("twice"), "{twice}");
    let column = refusal("name,patient_id,label\np00_0,p00,a\n", &[]);
    assert!(column.contains("no column 'slide_id' or") && column.contains("name, patient_id, label"), "{column}");
    let empty = refusal(&format!("{head}p00_0,,a\n"), &[]);
    assert!(empty.contains("p00_0") && empty.contains("empty"), "{empty}");
    let narrow = refusal(
        &format!("{head}p00_0,p00,a\np01_0,p01,b\np02_0,p02,a\np03_0,p03,b\n"),
        &["split={name='column',column='nowhere',test=['x']}"],
    );
    assert!(narrow.contains("no column 'nowhere'"), "{narrow}");
}

#[test]
fn an_embedding_narrower_than_the_classes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = cohort(folder.path(), 3, 4);
    let error = train::run(&config(&["train.model.aggregator.width=2"]), &data, &folder.path().join("run"), &machine()).unwrap_err();
    assert!(format!("{error:#}").contains("2 coordinates for 3 classes"), "{error:#}");
}

#[test]
fn unknown_settings_fail_with_a_suggestion() {
    let error = |item: &str| format!("{:#}", Config::load(None, &[item.to_owned()]).unwrap_err());
    let temperature = error("train.loss.temprature=0.5");
    assert!(temperature.contains("temprature") && temperature.contains("did you mean 'temperature'"), "{temperature}");
    assert!(error("train.loss.name=nmci").contains("did you mean 'ncmi'"));
    assert!(error("trian.epochs=1").contains("did you mean 'train'"));
    let resolved = Config::load(None, &["train.loss.name=cross-entropy".into()]).unwrap();
    assert_eq!(Config::resolve(resolved.to_toml().unwrap().parse().unwrap()).unwrap(), resolved);
}

#[test]
fn a_settings_file_lies_over_its_base() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    file("base.toml", "[train]\nepochs = 3\nclip = 1.0\n[train.loss]\nname = 'focal'\ngamma = 3.0\n");
    file("same.toml", "base = 'base.toml'\n[train]\nepochs = 4\n");
    file("other.toml", "base = 'same.toml'\n[train.loss]\nname = 'poly'\n");
    file("loop.toml", "base = 'loop.toml'\n");
    let load = |name: &str| Config::load(Some(&folder.path().join(name)), &[]);
    let same = load("same.toml").unwrap().train;
    assert_eq!((same.epochs, same.clip, same.loss.name()), (4, 1.0, "focal"));
    assert_eq!(load("other.toml").unwrap().train.loss, wsi::losses::LossSettings::named("poly").unwrap());
    assert!(format!("{:#}", load("loop.toml").unwrap_err()).contains("loop.toml"));
}

#[test]
fn every_preset_is_valid_and_says_what_its_name_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    for entry in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        Config::load(Some(&entry), &[]).unwrap();
    }
    let loss = |name: &str| match Config::load(Some(&folder.join(name)), &[]).unwrap().train.loss {
        wsi::losses::LossSettings::Ncmi(settings) => settings,
        other => panic!("{name}: {}", other.name()),
    };
    use wsi::losses::ncmi::{Centroids, Length, Start};
    assert_eq!(loss("ncmi-paper.toml").centroid_start, Start::Epoch(30));
    assert_eq!((loss("ncmi-repo.toml").centroids, loss("ncmi-repo.toml").centroid_length), (Centroids::Fixed, Length::L1Repo));
    let asmil = Config::load(Some(&folder.join("asmil-repo.toml")), &[]).unwrap().train.model.aggregator;
    use wsi::aggregators::{AggregatorSettings, asmil::Anchor};
    assert!(matches!(asmil, AggregatorSettings::Asmil(settings) if settings.anchor == Anchor::Frozen));
    assert_eq!((loss("ncmi-mil.toml").temperature, loss("ncmi-mil.toml").centroid_start), (0.5, Start::Share(0.25)));
}

#[test]
fn accumulated_batches_equal_one_large_batch() {
    let folder = tempfile::tempdir().unwrap();
    let data = cohort(folder.path(), 3, 6);
    let run = |name: &str, loss: &str, overrides: &[&str]| {
        let loss = format!("train.loss.name={loss}");
        let all: Vec<&str> =
            [loss.as_str(), "train.epochs=3", "train.model.aggregator.dropout=0.0"].iter().chain(overrides).copied().collect();
        let out = folder.path().join(format!("{name}-{}", &loss[16..]));
        train::run(&config(&all), &data, &out, &machine()).unwrap();
        tensor(&out, "model.projection.weight")
    };
    for loss in ["cross-entropy", "ncmi"] {
        // A centre that moves within a step would see the cut; a still one does not.
        let still: &[&str] = if loss == "ncmi" { &["train.loss.centre-decay=1.0", "train.loss.centroid-start=0.0"] } else { &[] };
        let large = run("large", loss, &[still, &["train.batch-size=6"]].concat());
        let cut = run("cut", loss, &[still, &["train.batch-size=2", "train.accumulate=3"]].concat());
        let off = (&large - &cut).abs().max().double_value(&[]);
        assert!(off < 1e-5, "{loss}: {off}");
        let small = run("small", loss, &[still, &["train.batch-size=2"]].concat());
        assert!((&large - &small).abs().max().double_value(&[]) > 1e-4, "{loss}: the test would not see a difference");
    }
}

#[test]
fn training_ends_early_and_keeps_the_best_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let data = cohort(folder.path(), 3, 6);
    let out = folder.path().join("run");
    let early = config(&["train.epochs=60", "train.select=macro-f1", "train.early-stop={metric='macro-f1',patience=4,after=6}"]);
    let summary = train::run(&early, &data, &out, &machine()).unwrap();
    let history = wsi::store::history::read(&out).unwrap();
    assert!((6..60).contains(&history.len()), "{} epochs", history.len());
    let best = summary.figures["best_epoch"].as_u64().unwrap() as usize;
    let top = history.iter().map(|e| e.valid_macro_f1).fold(0.0, f64::max);
    assert_eq!(history[best - 1].valid_macro_f1, top);
    let refused =
        train::run(&config(&["train.early-stop={patience=4}", "split.validation=0.0"]), &data, &folder.path().join("no"), &machine());
    assert!(format!("{:#}", refused.unwrap_err()).contains("validation rows"));
}

#[test]
fn every_epoch_of_every_loss_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let data = cohort(folder.path(), 3, 6);
    for (name, validation) in [("cross-entropy", "0.2"), ("ncmi", "0.2"), ("ncmi", "0.0"), ("supcon", "0.0")] {
        let out = folder.path().join(format!("{name}-{validation}"));
        let (loss, validation) = (format!("train.loss.name={name}"), format!("split.validation={validation}"));
        train::run(&config(&[&loss, &validation, "train.epochs=30"]), &data, &out, &machine()).unwrap();
        let history = wsi::store::history::read(&out).unwrap();
        assert!(history.iter().all(|e| e.accuracy.is_finite() && e.cmi > 0.0 && e.gamma > 0.0 && e.ncmi > 0.0), "{name}");
        let (first, last) = (history[0], history[29]);
        assert!(last.ncmi < first.ncmi && last.accuracy > 0.7, "{name}: {first:?} {last:?}");
        let chart = std::fs::read_to_string(out.join("curves.svg")).unwrap();
        assert!(chart.contains("NCMI = CMI") && chart.contains("aria-label"));
    }
}

#[test]
fn curves_and_validation_keep_their_own_time() {
    let folder = tempfile::tempdir().unwrap();
    let data = cohort(folder.path(), 3, 6);
    let history = |name: &str, overrides: &[&str]| {
        let out = folder.path().join(name);
        train::run(&config(&[&["train.epochs=7"], overrides].concat()), &data, &out, &machine()).unwrap();
        wsi::store::history::read(&out).unwrap()
    };
    let epochs = |history: &[Epoch], column: fn(&Epoch) -> f64| {
        history.iter().filter(|e| column(e).is_finite()).map(|e| e.epoch).collect::<Vec<_>>()
    };
    let both = history("both", &["train.validate-every=2", "train.curves-every=3"]);
    assert_eq!(epochs(&both, |e| e.valid_macro_f1), [2, 4, 6, 7]);
    assert_eq!(epochs(&both, |e| e.ncmi), [3, 6, 7]);
    assert!(both.iter().all(|e| e.measured_on == e.ncmi.is_finite().then_some(MeasuredOn::Validation)));
    let none = history("none", &["train.curves-every=0"]);
    assert!(epochs(&none, |e| e.ncmi).is_empty() && epochs(&none, |e| e.valid_macro_f1).len() == 7);
    assert!(!folder.path().join("none/curves.svg").exists());
    let sample = history("sample", &["split.validation=0.0"]);
    assert!(sample.iter().all(|e| e.measured_on == Some(MeasuredOn::TrainingSample) && e.valid_macro_f1.is_nan()));
    // What is looked at changes nothing of what is learned.
    for loss in ["ncmi", "cross-entropy"] {
        let weights = |every: usize| {
            let out = folder.path().join(format!("{loss}-{every}"));
            let (loss, every) = (format!("train.loss.name={loss}"), format!("train.curves-every={every}"));
            train::run(&config(&[&loss, &every, "split.validation=0.0"]), &data, &out, &machine()).unwrap();
            tensors::read(&out.join(checkpoint::LAST)).unwrap().0
        };
        assert_eq!(weights(1), weights(0), "{loss}");
    }
}

#[test]
fn what_is_not_finite_is_named_before_a_weight_changes() {
    let folder = tempfile::tempdir().unwrap();
    let data = cohort(folder.path(), 2, 4);
    let (dataset, split) = data.open(&config(&[])).unwrap();
    let refused = |name: &str, row: usize, targets: Vec<i64>| {
        let config = config(&[&format!("train.loss.name={name}"), "train.batch-size=4"]);
        let poisoned = Poisoned { dataset: dataset.as_ref(), row, targets };
        let mut learner = Learner::new(&config.train, dataset.input(), 2, 0, Device::Cpu).unwrap();
        let mut optimizer = config.train.optimizer.build(learner.parameters());
        let training = Training { dataset: &poisoned, train: &split.train, valid: &split.valid, seed: 0, device: Device::Cpu };
        let copy = |learner: &Learner| learner.parameters().into_iter().map(|(name, t)| (name, t.detach().copy())).collect::<Vec<_>>();
        let (mut state, mut before) = (State::new(config.train.precision), copy(&learner));
        let mut keep = |learner: &Learner, _: &dyn wsi::learn::optimizers::Optimizer, _: &State| {
            before = copy(learner);
            Ok(())
        };
        let error = format!("{:#}", fit(&mut learner, optimizer.as_mut(), &training, &config.train, &mut state, &mut keep).unwrap_err());
        assert!(before == copy(&learner), "{name}: a weight has changed");
        error
    };
    let bad = split.train.0[3];
    let sample = format!("sample '{}'", dataset.ids()[bad]);
    for name in ["cross-entropy", "focal", "square"] {
        let error = refused(name, bad, dataset.targets().to_vec());
        assert!(error.contains(&format!("loss '{name}'")) && error.contains(&sample) && error.contains("NaN"), "{error}");
        assert!(error.contains("the input") && error.contains("epoch 1"), "{error}");
    }
    // The sweep that starts NCMI's centre meets the sample first.
    let error = refused("ncmi", bad, dataset.targets().to_vec());
    assert!(error.contains(&sample) && error.contains("the input") && error.contains("NaN"), "{error}");
    let error = refused("ncmi", split.valid.0[0], dataset.targets().to_vec());
    assert!(error.contains(&dataset.ids()[split.valid.0[0]]), "a validation row: {error}");

    for label in [-1, 2] {
        let mut targets = dataset.targets().to_vec();
        targets[bad] = label;
        let error = refused("ncmi", usize::MAX, targets);
        assert!(error.contains("loss 'ncmi'") && error.contains(&sample) && error.contains(&format!("the label {label}")), "{error}");
    }
}

#[test]
fn mixed_precision_is_trained_on_a_gpu_and_judged_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let data = cohort(folder.path(), 2, 4);
    let mixed = config(&["train.precision=mixed"]);
    let error = format!("{:#}", train::run(&mixed, &data, &folder.path().join("run"), &machine()).unwrap_err());
    assert!(error.contains("mixed") && error.contains("GPU"), "{error}");
    let (dataset, _) = data.open(&mixed).unwrap();
    assert!(Learner::new(&mixed.train, dataset.input(), 2, 0, Device::Cpu).is_ok(), "a probe on a CPU opens such a model");
}

/// A dataset with labels of its own, one of whose samples is not finite.
struct Poisoned<'a> {
    dataset: &'a dyn Dataset,
    row: usize,
    targets: Vec<i64>,
}

impl Dataset for Poisoned<'_> {
    fn ids(&self) -> &[String] {
        self.dataset.ids()
    }

    fn groups(&self) -> &[String] {
        self.dataset.groups()
    }

    fn targets(&self) -> &[i64] {
        &self.targets
    }

    fn column(&self, name: &str) -> Option<Vec<String>> {
        self.dataset.column(name)
    }

    fn classes(&self) -> &[String] {
        self.dataset.classes()
    }

    fn input(&self) -> Input {
        self.dataset.input()
    }

    fn batch(&self, rows: &[usize], augment: Option<Augment>, device: Device) -> anyhow::Result<Batch> {
        let batch = self.dataset.batch(rows, augment, device)?;
        if let Some(place) = rows.iter().position(|&row| row == self.row) {
            let _ = batch.inputs.get(place as i64).get(0).get(0).fill_(f64::NAN);
        }
        Ok(batch)
    }
}

#[test]
fn every_loss_trains_and_is_probed() {
    let folder = tempfile::tempdir().unwrap();
    let data = cohort(folder.path(), 3, 8);
    for name in wsi::losses::LossSettings::NAMES {
        let (trained, probed) = (folder.path().join(format!("train-{name}")), folder.path().join(format!("probe-{name}")));
        let loss = format!("train.loss.name={name}");
        let config = config(&[&loss, "train.epochs=40", "split.fold=1"]);
        train::run(&config, &data, &trained, &machine()).unwrap();
        probe::run(&config, &probe::Inputs { train: trained, data: data.clone(), tiles: None }, &probed, &machine()).unwrap();
        let scores = ScoreFile::read(&probed).unwrap();
        assert!(scores.macro_f1.value > 0.8, "{name}: {:?}", scores.macro_f1);
        assert_eq!(scores.decisions.contains_key(&Decision::Own), *name != "ncmi", "{name}");
    }
}
