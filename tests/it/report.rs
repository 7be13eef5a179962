//! `wsi report` on generated runs: what stands on the page, what it admits, and what damaged runs get.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use wsi::ground::interval::Interval;
use wsi::render::text;
use wsi::stages::complete;
use wsi::stages::report::{self, Options};
use wsi::store::history::{self, Epoch};
use wsi::store::pooled::Pooled;
use wsi::store::predictions::{self, Prediction, Predictions};
use wsi::store::scores::{Decision, DecisionScores, Information, SCHEMA, ScoreFile, Split, SplitKind};

pub(crate) const CLASSES: [&str; 3] = ["normal", "adenocarcinoma", "squamous"];
pub(crate) const FOLDS: usize = 4;
pub(crate) const PATIENTS: usize = 24;

/// A recipe to imitate: which of a patient's slides it gets wrong.
pub(crate) struct Recipe<'a> {
    pub(crate) group: &'a str,
    pub(crate) loss: &'a str,
    pub(crate) epochs: usize,
    pub(crate) labels: &'a str,
    /// A slide is wrong where (its number + seed) is divisible by this.
    pub(crate) wrong_every: usize,
}

pub(crate) const NCMI: Recipe = Recipe { group: "4-fold/ncmi", loss: "ncmi", epochs: 3, labels: "true", wrong_every: 40 };
pub(crate) const CE: Recipe = Recipe { group: "4-fold/ce", loss: "cross-entropy", epochs: 3, labels: "true", wrong_every: 5 };
pub(crate) const UNTRAINED: Recipe = Recipe { group: "4-fold/untrained", loss: "ncmi", epochs: 0, labels: "true", wrong_every: 2 };

/// Writes the probe and training folders of one fold and seed; gives the probe folder.
pub(crate) fn write(root: &Path, recipe: &Recipe, seed: u64, fold: usize) -> PathBuf {
    let name = format!("{}-{seed}-{fold}-{}", recipe.group.replace('/', "-"), recipe.labels.replace([' ', ','], "-"));
    let (probe, train) = (root.join("probe").join(&name), root.join("train").join(&name));
    let rows: Vec<Prediction> =
        (0..2 * PATIENTS).filter(|slide| slide / 2 % FOLDS == fold).map(|slide| prediction(recipe, seed, slide)).collect();
    let point = Interval { value: 0.9, low: 0.8, high: 1.0, resamples_used: 2000, unbounded: None };
    let scores = DecisionScores {
        macro_f1: point,
        macro_auc: point,
        per_class_f1: vec![0.9; 3],
        confusion: vec![vec![1; 3]; 3],
        auc_classes_undefined: 0,
        metrics: BTreeMap::new(),
    };
    let file = ScoreFile {
        schema: SCHEMA,
        seed,
        classes: CLASSES.map(str::to_owned).to_vec(),
        split: Split {
            name: format!("4-fold by patient, fold {fold} of {FOLDS}, seed {seed}"),
            digest: format!("{seed}{fold}").repeat(32),
            kind: SplitKind::KFold,
            fold,
            folds: FOLDS,
        },
        protocol: "strict".into(),
        waivers: Vec::new(),
        labels: recipe.labels.into(),
        loss: recipe.loss.into(),
        aggregator: "abmil".into(),
        encoder: "efficientnet-lite0".into(),
        epochs: recipe.epochs,
        checkpoint: "last".into(),
        group: recipe.group.into(),
        macro_f1: point,
        macro_auc: point,
        decisions: BTreeMap::from([(Decision::Lp, scores)]),
        selections: BTreeMap::new(),
        information: Some(Information { cmi: 4e-4, gamma: 3e-3, ncmi: f64::NAN, variant: "centroid".into() }),
        interval: "95 % patient-clustered percentile bootstrap, 2000 resamples".into(),
        settings: serde_json::json!({"seed": seed}),
        inputs: BTreeMap::from([("bags".into(), "ab".repeat(32))]),
        slides: rows.len(),
        patients: rows.len() / 2,
        train_folder: format!("../../train/{name}"),
        tile_folder: Some("../../tile".into()),
        bag_folder: None,
        parts: BTreeMap::new(),
    };
    file.write(&probe).unwrap();
    predictions::write(&probe, &file.classes, &Predictions::from([(Decision::Lp, rows)]), true).unwrap();
    if recipe.epochs > 0 {
        let epoch = |epoch| Epoch::new(epoch, 5e-4, 1.0 / epoch as f64);
        history::write(&train, &(1..=recipe.epochs).map(epoch).collect::<Vec<_>>()).unwrap();
    }
    probe
}

pub(crate) fn prediction(recipe: &Recipe, seed: u64, slide: usize) -> Prediction {
    let label = slide / 2 % 3;
    let predicted = if (slide + seed as usize).is_multiple_of(recipe.wrong_every) { (label + 1) % 3 } else { label };
    let mut probabilities = vec![0.1; 3];
    probabilities[predicted] = 0.8;
    Prediction { slide_id: format!("slide-{slide:02}"), patient_id: format!("patient-{:02}", slide / 2), label, predicted, probabilities }
}

pub(crate) fn cohort(root: &Path, recipes: &[Recipe], seeds: u64) {
    for recipe in recipes {
        for seed in 0..seeds {
            (0..FOLDS).for_each(|fold| drop(write(root, recipe, seed, fold)));
        }
    }
    let picture = image::RgbImage::from_pixel(900, 600, image::Rgb([220, 160, 200]));
    std::fs::create_dir_all(root.join("tile/visualization")).unwrap();
    std::fs::write(root.join("tile/config.toml"), "[tile]\nmpp = 0.5\ntile-px = 224\n").unwrap();
    picture.save(root.join("tile/visualization/slide-00.jpg")).unwrap();
}

pub(crate) fn page(out: &Path) -> String {
    std::fs::read_to_string(out.join("report.html")).unwrap()
}

#[test]
fn report_answers_the_question_on_one_self_contained_page() {
    let folder = tempfile::tempdir().unwrap();
    cohort(folder.path(), &[NCMI, CE, UNTRAINED], 2);
    let out = folder.path().join("report");
    let summary = report::run(&[folder.path().join("probe")], &out, Options::default()).unwrap();
    assert_eq!((summary.status.as_str(), &summary.figures["runs"]), ("done", &serde_json::json!(24)));

    let pooled = Pooled::read(&out).unwrap();
    assert_eq!(pooled.rows.len(), 3);
    for row in &pooled.rows {
        assert_eq!((row.slides, row.patients, row.folds, row.seeds), (48, PATIENTS, FOLDS, 2));
        let mean = row.macro_f1_per_repeat.iter().sum::<f64>() / 2.0;
        assert!((row.macro_f1.value - mean).abs() < 1e-12 && row.macro_f1.is_bounded());
        assert_eq!(row.confusion.iter().flatten().sum::<u64>(), 96);
    }
    let answer = &pooled.differences[0];
    assert_eq!((answer.first.as_str(), answer.second.as_str(), answer.slides), ("NCMI-LP", "CE+LP", 48));
    assert!(answer.macro_f1.low > 0.0 && pooled.verdict.contains("NCMI-LP is better here"), "{}", pooled.verdict);
    assert!(pooled.differences.iter().any(|difference| difference.second == "untrained+LP"));
    for one in &pooled.differences {
        assert!((1.0 / 2001.0..=one.p_adjusted).contains(&one.p) && !one.exact && one.arrangements == 2001, "{one:?}");
    }
    let raw: Vec<f64> = pooled.differences.iter().map(|one| one.p).collect();
    let adjusted: Vec<f64> = pooled.differences.iter().map(|one| one.p_adjusted).collect();
    assert_eq!(adjusted, wsi::metrics::holm::adjusted(&raw));
    assert!(pooled.test.contains("2001 exchanges") && pooled.test.ends_with("Holm-corrected over 3 comparisons"), "{}", pooled.test);
    assert!(pooled.notes.is_empty(), "{:?}", pooled.notes);

    let page = page(&out);
    for wanted in [
        "Does training with NCMI beat cross-entropy?",
        "NCMI-LP",
        "CE+LP",
        "untrained+LP",
        "<svg",
        "data:image/jpeg;base64,",
        "224 × 224 px",
        "permutation test p",
        "Holm-corrected over 3 comparisons",
    ] {
        assert!(page.contains(wanted), "no '{wanted}' on the page");
    }
    for foreign in ["http:", "https:", "src=\"/", "href=", "@import", "<script", "url(", "NaN"] {
        assert!(!page.contains(foreign), "'{foreign}' is on the page");
    }
    for name in ["report.html", "pooled.json", "scores.csv", "run.json"] {
        let text = std::fs::read_to_string(out.join(name)).unwrap();
        assert!(!text.contains(&*folder.path().to_string_lossy()), "{name} holds an absolute path");
    }
    assert_eq!(std::fs::read_to_string(out.join("scores.csv")).unwrap().lines().count(), 25);
    assert!(text::table(&pooled).contains("NCMI-LP"));
}

#[test]
fn report_of_one_comparison_corrects_nothing_and_doubts_what_patients_do_not_show() {
    let folder = tempfile::tempdir().unwrap();
    cohort(folder.path(), &[NCMI, Recipe { wrong_every: 30, ..CE }], 1);
    let out = folder.path().join("report");
    report::run(&[folder.path().join("probe")], &out, Options::default()).unwrap();
    let pooled = Pooled::read(&out).unwrap();
    assert!(pooled.test.ends_with("not corrected, as there is one comparison"), "{}", pooled.test);
    let answer = &pooled.differences[0];
    // Slides 0 and 40 are wrong in the one, 0 and 30 in the other: any exchange of patients gives as much.
    assert_eq!((answer.p, answer.p_adjusted), (1.0, 1.0));
    assert!(pooled.verdict.contains("permutation test p = 1.000") && pooled.verdict.contains("does not tell"), "{}", pooled.verdict);
    assert!(pooled.rows[0].macro_f1_sd_over_seeds.is_nan(), "one seed has no spread");
}

#[test]
fn report_compares_ncmi_with_every_other_loss_after_cross_entropy() {
    let folder = tempfile::tempdir().unwrap();
    cohort(folder.path(), &[NCMI, CE, Recipe { group: "4-fold/focal", loss: "focal", ..CE }, UNTRAINED], 1);
    let out = folder.path().join("report");
    report::run(&[folder.path().join("probe")], &out, Options::default()).unwrap();
    let pooled = Pooled::read(&out).unwrap();
    let compared: Vec<_> = pooled.differences.iter().map(|one| (one.first.as_str(), one.second.as_str())).collect();
    assert_eq!(compared[..2], [("NCMI-LP", "CE+LP"), ("NCMI-LP", "focal+LP")]);
    assert!(compared.len() == 5 && compared[2..].iter().all(|(_, second)| *second == "untrained+LP"), "{compared:?}");
    assert!(pooled.test.ends_with("Holm-corrected over 5 comparisons"), "{}", pooled.test);
}

/// Changes every score file below a folder.
fn rewrite(root: &Path, change: impl Fn(&mut serde_json::Value)) {
    for entry in std::fs::read_dir(root.join("probe")).unwrap() {
        let path = entry.unwrap().path().join("scores.json");
        let mut scores: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut scores);
        std::fs::write(&path, serde_json::to_vec(&scores).unwrap()).unwrap();
    }
}

#[test]
fn report_makes_its_intervals_as_the_runs_did() {
    let folder = tempfile::tempdir().unwrap();
    cohort(folder.path(), &[CE], 1);
    let read = |name: &str| {
        let out = folder.path().join(name);
        report::run(&[folder.path().join("probe")], &out, Options::default()).unwrap();
        Pooled::read(&out).unwrap()
    };
    let percentile = read("percentile");
    rewrite(folder.path(), |scores| scores["settings"]["probe"]["interval"] = "bca".into());
    let bca = read("bca");
    assert!(percentile.interval.contains("percentile") && bca.interval.contains("BCa"), "{} {}", percentile.interval, bca.interval);
    let (plain, moved) = (percentile.rows[0].macro_f1, bca.rows[0].macro_f1);
    assert!(plain.value == moved.value && (plain.low, plain.high) != (moved.low, moved.high), "{plain} {moved}");
    let one = std::cell::Cell::new(true);
    rewrite(folder.path(), |scores| {
        if one.take() {
            scores["settings"]["probe"]["interval"] = "percentile".into();
        }
    });
    let mixed = read("mixed");
    assert!(mixed.interval.contains("percentile") && mixed.notes[0].contains("different kinds of interval"), "{:?}", mixed.notes);
}

#[test]
fn report_reads_the_older_layout_and_refuses_a_newer_one() {
    let folder = tempfile::tempdir().unwrap();
    cohort(folder.path(), &[CE], 1);
    rewrite(folder.path(), |scores| {
        scores["schema"] = 1.into();
        scores["decisions"]["lp"].as_object_mut().unwrap().remove("metrics").unwrap();
    });
    report::run(&[folder.path().join("probe")], &folder.path().join("older"), Options::default()).unwrap();
    rewrite(folder.path(), |scores| scores["schema"] = 3.into());
    let error = format!("{:#}", report::run(&[folder.path().join("probe")], &folder.path().join("newer"), Options::default()).unwrap_err());
    assert!(error.contains("has layout 3, this program reads up to 2; use the newer program"), "{error}");
}

#[test]
fn report_is_the_same_bytes_from_the_same_runs() {
    let folder = tempfile::tempdir().unwrap();
    cohort(folder.path(), &[NCMI, CE], 1);
    let outs = ["a", "b"].map(|name| folder.path().join(name));
    report::run(&[folder.path().join("probe")], &outs[0], Options::default()).unwrap();
    // The same folders, one of them named twice.
    let again = [folder.path().join("probe"), folder.path().join("probe")];
    report::run(&again, &outs[1], Options::default()).unwrap();
    for name in ["report.html", "pooled.json", "scores.csv"] {
        assert!(std::fs::read(outs[0].join(name)).unwrap() == std::fs::read(outs[1].join(name)).unwrap(), "{name} differs");
    }
    let summary = report::run(&again, &outs[1], Options::default()).unwrap();
    assert_eq!(summary.status, "done", "a second call finds everything done");
}

#[test]
fn report_says_which_folds_are_missing() {
    let folder = tempfile::tempdir().unwrap();
    cohort(folder.path(), &[NCMI, CE], 1);
    std::fs::remove_dir_all(folder.path().join("probe/4-fold-ncmi-0-2-true")).unwrap();
    let out = folder.path().join("report");
    report::run(&[folder.path().join("probe")], &out, Options::default()).unwrap();
    let pooled = Pooled::read(&out).unwrap();
    assert!(pooled.notes[0].contains("seed 0: fold 2 is missing (3 of 4 folds found)"), "{:?}", pooled.notes);
    assert!(pooled.verdict.contains("provisional"), "{}", pooled.verdict);
    assert!(page(&out).contains("fold 2 is missing"));
    assert_eq!(pooled.differences[0].slides, 36, "only slides that both have are compared");
}

#[test]
fn report_averages_shuffles_of_the_labels() {
    let folder = tempfile::tempdir().unwrap();
    for labels in ["shuffled by patient, stream 0", "shuffled by patient, stream 1"] {
        cohort(folder.path(), &[Recipe { labels, ..CE }], 1);
    }
    let out = folder.path().join("report");
    report::run(&[folder.path().join("probe")], &out, Options::default()).unwrap();
    let pooled = Pooled::read(&out).unwrap();
    assert_eq!((pooled.rows.len(), pooled.rows[0].seeds), (1, 2));
    assert_eq!(pooled.rows[0].repeats, ["seed 0, stream 0", "seed 0, stream 1"]);
}

#[test]
fn report_leaves_a_damaged_run_out_and_fails() {
    let folder = tempfile::tempdir().unwrap();
    cohort(folder.path(), &[NCMI], 1);
    let damaged = folder.path().join("probe/4-fold-ncmi-0-1-true");
    std::fs::write(damaged.join("scores.json"), "{\"schema\": 1, ").unwrap();
    let out = folder.path().join("report");
    let error = complete(report::run(&[folder.path().join("probe")], &out, Options::default()).unwrap()).unwrap_err().to_string();
    assert!(error.contains("probe/4-fold-ncmi-0-1-true: 'scores.json' is damaged") && error.contains("run `wsi probe` again"), "{error}");
    assert!(page(&out).contains("4-fold-ncmi-0-1-true"));
    assert!(!page(&out).contains(&*folder.path().to_string_lossy()));

    let error = format!("{:#}", report::run(&[damaged], &folder.path().join("alone"), Options::default()).unwrap_err());
    assert!(error.contains("is damaged") && !error.contains('\n'), "{error}");
    assert!(!folder.path().join("alone").exists(), "nothing is half-written");
}

#[test]
fn report_of_nothing_says_what_to_give() {
    let folder = tempfile::tempdir().unwrap();
    let error = format!("{:#}", report::run(&[folder.path().to_owned()], &folder.path().join("out"), Options::default()).unwrap_err());
    assert!(error.contains("no scores.json in or below") && error.contains("give probe run folders"), "{error}");
    let error = format!("{:#}", report::run(&[folder.path().join("absent")], &folder.path().join("out"), Options::default()).unwrap_err());
    assert!(error.contains("no such run"), "{error}");
}

#[test]
fn report_sets_bag_models_side_by_side_and_shows_what_was_waived() {
    let folder = tempfile::tempdir().unwrap();
    let runs = |name: &str, change: &dyn Fn(&mut ScoreFile)| {
        let root = folder.path().join(name);
        cohort(&root, &[NCMI, CE], 1);
        for entry in std::fs::read_dir(root.join("probe")).unwrap() {
            let probe = entry.unwrap().path();
            let mut scores = ScoreFile::read(&probe).unwrap();
            scores.group = "4-fold".into();
            change(&mut scores);
            scores.write(&probe).unwrap();
        }
        root.join("probe")
    };
    let reported = |roots: &[PathBuf], name: &str| {
        let out = folder.path().join(name);
        report::run(roots, &out, Options::default()).unwrap();
        (Pooled::read(&out).unwrap(), page(&out))
    };
    let (abmil, transmil) = (runs("abmil", &|_| ()), runs("transmil", &|scores| scores.aggregator = "transmil".into()));
    let (pooled, html) = reported(&[abmil.clone(), transmil], "two");
    assert!(html.contains("Bag models side by side") && pooled.verdict.starts_with("Of 2 comparisons"), "{}", pooled.verdict);
    assert!(pooled.waivers.is_empty() && !html.contains("class=\"waivers\""));

    let waived = runs("waived", &|scores| {
        scores.waivers = vec!["same patient, train and valid: 3; allowed: as published".into()];
        scores.parts = BTreeMap::from([("train".into(), vec![5, 6, 7]), ("test".into(), vec![1, 2, 3])]);
    });
    let (pooled, html) = reported(&[waived], "waived-report");
    assert_eq!(pooled.waivers, ["4-fold by patient: same patient, train and valid: 3; allowed: as published"]);
    assert!(html.contains("class=\"waivers\"") && text::table(&pooled).contains("WAIVED: 4-fold by patient: same patient"));
    assert_eq!(pooled.cohorts[0].counts["train"], [5, 6, 7]);
    assert!(!html.contains("Bag models side by side"), "one bag model stands beside nothing");

    let paper = runs("paper", &|scores| scores.protocol = "paper".into());
    let (pooled, _) = reported(&[paper], "paper-report");
    assert!(pooled.differences.is_empty() && pooled.rows.iter().all(|row| !row.macro_f1.is_bounded()), "no verdict by intervals");

    let wider = runs("wider", &|scores| scores.settings = serde_json::json!({"train": {"train": {"batch-size": 1}}}));
    let keep = |root: &Path, loss: &str| {
        for entry in std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()) {
            if ScoreFile::read(&entry).unwrap().loss != loss {
                std::fs::remove_dir_all(entry).unwrap();
            }
        }
    };
    keep(&wider, "ncmi");
    keep(&abmil, "cross-entropy");
    let (pooled, _) = reported(&[abmil, wider], "other-model");
    assert!(pooled.differences.is_empty(), "NCMI with one bag a step is not compared with cross-entropy with another number");
}
