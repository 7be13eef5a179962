//! The parts of `wsi report`'s page and the files beside it: what adds up, what is inside what, what is said where something is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use wsi::ground::units::{Mpp, Size};
use wsi::stages::report::{self, Options};
use wsi::store::heatmap::{self, Agreement, Froc, HeatmapFile, QuPathOrigin, SlideMap};
use wsi::store::history::{self, Epoch, MeasuredOn};
use wsi::store::pooled::Pooled;
use wsi::store::predictions::{self, Prediction, Predictions};
use wsi::store::run::Summary;
use wsi::store::scores::{Decision, ScoreFile, SplitKind};
use wsi::store::table;

use super::report::{CE, CLASSES, FOLDS, NCMI, PATIENTS, Recipe, UNTRAINED, cohort, page, prediction, write};

/// Reports on the probe folders below `root`, and those of `more`.
fn reported(root: &Path, more: &[PathBuf], options: Options) -> PathBuf {
    let out = root.join(format!("report-{}-{}", more.len(), options.thumbs));
    report::run(&[&[root.join("probe")], more].concat(), &out, options).unwrap();
    out
}

/// Columns of numbers of one of the charts.
fn numbers(out: &Path, figure: &str, columns: &[&str]) -> Vec<Vec<f64>> {
    let path = out.join("figures").join(format!("{figure}.csv"));
    let frame = table::read(&path).unwrap();
    columns.iter().map(|column| table::real(&frame, column, &path).unwrap()).collect()
}

fn change(root: &Path, change: impl Fn(&mut ScoreFile)) {
    for entry in std::fs::read_dir(root.join("probe")).unwrap().map(|entry| entry.unwrap().path()) {
        let mut scores = ScoreFile::read(&entry).unwrap();
        change(&mut scores);
        scores.write(&entry).unwrap();
    }
}

#[test]
fn every_chart_is_a_file_with_its_numbers() {
    let folder = tempfile::tempdir().unwrap();
    cohort(folder.path(), &[NCMI, CE, UNTRAINED], 2);
    let out = reported(folder.path(), &[], Options::default());
    let mut names: Vec<String> =
        std::fs::read_dir(out.join("figures")).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let stems = |ending: &str| names.iter().filter_map(|name| name.strip_suffix(ending)).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!((stems(".svg"), names.len()), (stems(".csv"), 2 * stems(".csv").len()));
    for (kind, least) in
        [("roc-", 4), ("precision-recall-", 4), ("reliability-", 3), ("confusion-", 3), ("macro-f1-", 1), ("training-loss-", 2)]
    {
        assert!(stems(".svg").iter().filter(|name| name.starts_with(kind)).count() >= least, "{kind}: {names:?}");
    }
    for name in &names {
        let text = std::fs::read_to_string(out.join("figures").join(name)).unwrap();
        let whole =
            if name.ends_with(".svg") { text.starts_with("<svg xmlns=") && text.ends_with("</svg>\n") } else { text.lines().count() > 1 };
        assert!(whole && !text.contains(&*folder.path().to_string_lossy()), "{name}");
    }
    let html = page(&out);
    assert_eq!(html.matches("<svg").count(), html.matches("role=\"img\"").count(), "every chart has words for those who do not see it");
}

#[test]
fn curves_lie_in_their_bands_and_bins_hold_every_decision() {
    let folder = tempfile::tempdir().unwrap();
    cohort(folder.path(), &[NCMI, CE], 2);
    let out = reported(folder.path(), &[], Options::default());
    for (figure, column) in [("roc-mean-of-3-classes", "true_positive_rate"), ("precision-recall-mean-of-3-classes", "precision")] {
        let found = numbers(&out, &format!("{figure}-4-fold-by-patient-abmil-efficientnet-lite0"), &[column, "low", "high"]);
        assert!(found[0].len() >= 200, "{}", found[0].len());
        for ((&value, &low), &high) in found[0].iter().zip(&found[1]).zip(&found[2]) {
            assert!((0.0..=1.0).contains(&value) && low <= value + 1e-9 && value <= high + 1e-9, "{figure}: {low} {value} {high}");
        }
    }
    let reliable =
        numbers(&out, "reliability-ce-lp-4-fold-by-patient-abmil-efficientnet-lite0", &["from", "to", "confidence", "right", "decisions"]);
    assert_eq!(reliable[4].iter().sum::<f64>(), (2 * 2 * PATIENTS) as f64, "every slide of every seed is in a bin");
    assert!((0..reliable[0].len()).all(|bin| reliable[0][bin] < reliable[2][bin] && reliable[2][bin] <= reliable[1][bin]));
    // All decisions have a confidence of 0.8; CE errs where slide + seed is divisible by 5.
    let wrong = (0..2).flat_map(|seed| (0..2 * PATIENTS).map(move |slide| slide + seed)).filter(|sum| sum % 5 == 0).count();
    assert!((reliable[3][0] - (1.0 - wrong as f64 / 96.0)).abs() < 1e-9, "{reliable:?}");
}

#[test]
fn the_cohort_adds_up_and_centres_are_scored_apart() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    cohort(root, &[NCMI, CE], 1);
    let slides: Vec<String> = (0..2 * PATIENTS).map(|slide| format!("slide-{slide:02}")).collect();
    // 51 slides came; one had no tissue, one could not be read, and one has no label.
    let tiled = slides.iter().map(|id| format!("{id},0.2500,0.000000,done,\n")).collect::<String>();
    let lost = "odd,,,done,\nbare,,,failed,no tissue: none of 12 squares has 0.5 of it\nbroken,,,failed,'broken.tif' is no slide\n";
    std::fs::write(root.join("tile/slides.csv"), format!("slide_id,mpp,residual,status,reason\n{tiled}{lost}")).unwrap();
    std::fs::create_dir_all(root.join("bags")).unwrap();
    let embedded = slides.iter().map(|id| format!("{id},done,\n")).collect::<String>();
    std::fs::write(root.join("bags/slides.csv"), format!("slide_id,status,reason\n{embedded}odd,done,\n")).unwrap();
    let labelled: String = slides
        .iter()
        .enumerate()
        .map(|(slide, id)| format!("{id},patient-{:02},{},centre {},,used\n", slide / 2, CLASSES[slide / 2 % 3], slide / 2 % 2))
        .collect();
    let roll = format!("slide_id,patient_id,label,centre,part,status\n{labelled}odd,,,,,no label\nabsent,p,normal,,,no bag\n");
    for entry in std::fs::read_dir(root.join("train")).unwrap() {
        std::fs::write(entry.unwrap().path().join("cohort.csv"), &roll).unwrap();
    }
    let parts = BTreeMap::from([("train".to_owned(), vec![12, 12, 12]), ("test".to_owned(), vec![4, 4, 4])]);
    change(root, |scores| (scores.bag_folder, scores.parts) = (Some("../../bags".into()), parts.clone()));
    let out = reported(root, &[], Options::default());

    let path = out.join("figures/cohort-flow.csv");
    let frame = table::read(&path).unwrap();
    let steps = table::text(&frame, "step", &path).unwrap();
    let flow = numbers(&out, "cohort-flow", &["slides", "left_out"]);
    let mut left: Vec<(String, f64, f64)> = Vec::new();
    for (row, step) in steps.iter().enumerate() {
        match left.last_mut().filter(|last| last.0 == *step) {
            Some(last) => last.2 += flow[1][row],
            None => left.push((step.clone(), flow[0][row], flow[1][row])),
        }
    }
    let way: Vec<&(String, f64, f64)> = left.iter().filter(|step| !step.0.contains('(')).collect();
    assert_eq!(way.iter().map(|step| step.1).collect::<Vec<_>>(), [51.0, 49.0, 49.0, 48.0], "{left:?}");
    for pair in way.windows(2) {
        assert_eq!(pair[0].1, pair[1].1 + pair[1].2, "{pair:?}");
    }
    assert_eq!(left.iter().filter(|step| step.0.contains('(')).map(|step| step.1).sum::<f64>(), 48.0, "the parts are all of it");
    let html = page(&out);
    for wanted in [
        "1 no tissue",
        "1 … is no slide",
        "1 bag without a label",
        "1 slide in the labels has no bag and could not be used: absent.",
        "The 48 slides used are of 24 patients.",
        "centre 0",
        "centre 1",
        "few patients",
        "of 0.2500 µm/px",
        "112 µm a side, exactly",
        "licence Apache-2.0",
        "Licences of weights",
    ] {
        assert!(html.contains(wanted), "no '{wanted}' on the page");
    }
}

/// A heatmap run of a fold: on every annotated slide attention has this AUROC plus a hundredth for every patient.
fn looked(root: &Path, recipe: &Recipe, fold: usize, auroc: f64) -> PathBuf {
    let probe = write(root, recipe, 0, fold);
    let scores = ScoreFile::read(&probe).unwrap();
    // Where `wsi heatmap` puts it, or elsewhere.
    let run = if recipe.loss == "ncmi" { probe.join("heatmap") } else { root.join("heatmap").join(format!("{}-{fold}", recipe.loss)) };
    let of = |slide: usize| {
        let Prediction { slide_id, patient_id, label, predicted, probabilities } = prediction(recipe, 0, slide);
        let auroc = auroc + (slide / 2) as f64 / 100.0;
        let agreement = Agreement { tiles_inside: 3, auroc, auprc: auroc / 2.0, pointing: slide % 4 < 2, lesions: 1 };
        SlideMap {
            slide_id,
            patient_id,
            label: CLASSES[label].into(),
            predicted: CLASSES[predicted].into(),
            probabilities,
            tiles: 9,
            side_level0_px: 224,
            canvas: Size { width: 900, height: 600 },
            bounds: None,
            mpp: Mpp::square(0.5),
            agreement: Some(agreement),
        }
    };
    let slides: Vec<SlideMap> = (0..2 * PATIENTS).filter(|slide| slide / 2 % FOLDS == fold).map(of).collect();
    let picture = image::RgbImage::from_fn(900, 700, |x, y| image::Rgb([(x % 256) as u8, (y % 256) as u8, 90]));
    std::fs::create_dir_all(run.join(heatmap::PICTURES)).unwrap();
    picture.save(run.join(heatmap::PICTURES).join(format!("{}.png", slides[0].slide_id))).unwrap();
    let froc = Froc { points: vec![(0.25, 0.5), (0.5, 0.5), (1.0, 0.75)], score: 0.6, lesions: 12, slides: 12 };
    let file = HeatmapFile {
        schema: heatmap::SCHEMA,
        classes: scores.classes,
        loss: recipe.loss.into(),
        aggregator: scores.aggregator,
        encoder: scores.encoder,
        group: recipe.group.into(),
        recipe: String::new(),
        labels: "true".into(),
        seed: 0,
        epochs: recipe.epochs,
        checkpoint: "last".into(),
        split: scores.split,
        branches: 1,
        origin: QuPathOrigin::Bounds,
        train_folder: "../../train".into(),
        tile_folder: None,
        bag_folder: "../../bags".into(),
        annotations: None,
        slides,
        froc: Some(froc),
    };
    file.write(&run).unwrap();
    let summary = Summary {
        version: "0.1.0".into(),
        stage: "heatmap".into(),
        digest: "0".into(),
        inputs: BTreeMap::new(),
        status: "done".into(),
        failed: BTreeMap::new(),
        seconds: 1.0,
        figures: serde_json::Value::Null,
    };
    std::fs::write(run.join("run.json"), serde_json::to_string(&summary).unwrap()).unwrap();
    run
}

#[test]
fn where_models_look_is_compared_on_the_same_slides() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    cohort(root, &[NCMI, CE], 1);
    let none = page(&reported(root, &[], Options::default()));
    assert!(none.contains("No heatmap run is among the folders"));
    for fold in 0..FOLDS {
        looked(root, &NCMI, fold, 0.7);
        looked(root, &CE, fold, 0.6);
    }
    let out = reported(root, &[root.join("heatmap")], Options::default());
    let html = page(&out);
    // Patients hard for both cancel: the difference is a tenth on every slide.
    for wanted in ["8 heatmap runs looked at 48 slides", "NCMI − CE", "+0.100", "+0.100 to +0.100", "0.815, 0.715", "0.600", "AUROC 0.6"]
    {
        assert!(html.contains(wanted), "no '{wanted}' on the page");
    }
    let pooled = Pooled::read(&out).unwrap();
    let [ncmi, ce] = &pooled.attention[..] else { panic!("{:?}", pooled.attention) };
    assert_eq!((ce.recipe.as_str(), ncmi.recipe.as_str(), ncmi.slides, ncmi.patients, ncmi.seeds), ("CE", "NCMI", 48, PATIENTS, 1));
    assert!((ncmi.auroc.value - 0.815).abs() < 1e-9 && ncmi.auroc.low < 0.815 && ncmi.auroc.high > 0.815, "{}", ncmi.auroc);
    // Every other patient is pointed at.
    assert!((ncmi.pointing.value - 0.5).abs() < 1e-9 && (ncmi.froc - 0.6).abs() < 1e-9);
    let between = &pooled.attention_differences[0].auroc;
    assert!((between.value - 0.1).abs() < 1e-9 && (between.high - between.low).abs() < 1e-9, "{between}");
    let path = out.join("attention.csv");
    assert_eq!(table::read(&path).unwrap().height(), 96);
    assert!(out.join("figures/froc-4-fold-by-patient-abmil-efficientnet-lite0.svg").is_file());
    assert!(html.matches("data:image/jpeg").count() > 1 && html.matches("data:image/jpeg").count() <= 20);

    let bare = page(&reported(root, &[root.join("heatmap")], Options { thumbs: false }));
    assert!(bare.contains("NCMI − CE") && !bare.contains("data:image"), "no picture of tissue");
}

#[test]
fn the_command_prints_json_on_request() {
    let folder = tempfile::tempdir().unwrap();
    cohort(folder.path(), &[NCMI, CE], 1);
    let call = |more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_wsi"));
        let output = command.args(["report", "probe", "--out", "out"]).args(more).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(call(&[]).contains("NCMI-LP"));
    let printed = call(&["--json"]);
    assert_eq!(printed, std::fs::read_to_string(folder.path().join("out/pooled.json")).unwrap());
    assert!(!page(&folder.path().join("out")).is_empty() && serde_json::from_str::<Pooled>(&printed).unwrap().schema == 4);
}

#[test]
fn recipes_of_one_name_say_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let longer = Recipe { group: "4-fold/longer", epochs: 5, ..CE };
    cohort(folder.path(), &[NCMI, CE, longer], 1);
    let out = reported(folder.path(), &[], Options::default());
    let path = out.join("figures/roc-mean-of-3-classes-4-fold-by-patient-abmil-efficientnet-lite0.csv");
    let recipes: BTreeSet<String> = table::text(&table::read(&path).unwrap(), "recipe", &path).unwrap().into_iter().collect();
    let named: Vec<&str> = recipes.iter().map(String::as_str).collect();
    assert_eq!(named, ["CE+LP, 3 epochs, 4-fold/ce", "CE+LP, 5 epochs, 4-fold/longer", "NCMI-LP"]);
    // Three lines, three colours.
    let chart = std::fs::read_to_string(path.with_extension("svg")).unwrap();
    for colour in ["#0072B2", "#D55E00", "#009E73"] {
        assert!(chart.contains(colour), "{colour}");
    }
}

#[test]
fn what_is_missing_or_damaged_beside_a_run_costs_its_part_alone() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    cohort(root, &[NCMI, CE], 1);
    let train = std::fs::read_dir(root.join("train")).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    std::fs::write(train.join("history.csv"), "epoch,learning_rate\n1,0.1\n").unwrap();
    std::fs::write(root.join("tile/slides.csv"), "slide_id\nx\n").unwrap();
    let begun = root.join("probe/begun");
    std::fs::create_dir_all(&begun).unwrap();
    std::fs::write(begun.join("recipe.json"), "{\"digest\": \"0\", \"stage\": \"probe\", \"inputs\": {}}").unwrap();
    let out = reported(root, &[], Options::default());
    let html = page(&out);
    for wanted in [
        "Run 'probe/begun' is not finished and is left out",
        "history.csv' has no column",
        "slides.csv' has no column 'status'",
        "NCMI-LP",
        "47 slides without a picture in the tile run",
    ] {
        assert!(html.contains(wanted), "no '{wanted}' on the page");
    }
    assert!(!html.contains(&*root.to_string_lossy()), "an absolute path is on the page");
}

#[test]
fn outputs_over_epochs_are_shown_where_they_were_measured() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    cohort(root, &[NCMI, CE], 1);
    assert!(!page(&reported(root, &[], Options { thumbs: false })).contains("over epochs</h2>"));
    for entry in std::fs::read_dir(root.join("train")).unwrap().map(|entry| entry.unwrap().path()) {
        let epoch = |epoch: usize| Epoch {
            measured_on: Some(MeasuredOn::Test),
            accuracy: 0.5 + epoch as f64 / 1000.0,
            cmi: 0.1,
            gamma: 1.0,
            ncmi: 0.1,
            ..Epoch::new(epoch, 0.1, 1.0)
        };
        history::write_as(&entry.join("test-curves.csv"), &(1..=300).map(epoch).collect::<Vec<_>>()).unwrap();
    }
    let out = reported(root, &[], Options::default());
    assert!(page(&out).contains("measured on the test rows, on which nothing was selected"));
    let found = numbers(&out, "course-accuracy-4-fold-by-patient-abmil-efficientnet-lite0", &["epoch", "mean_over_runs"]);
    assert_eq!(found[0].len(), 600, "the file has every epoch of both recipes");
    assert!((found[1][299] - 80.0).abs() < 1e-9);
}

#[test]
fn a_page_of_a_thousand_slides_and_forty_runs_is_small() {
    const SLIDES: usize = 1000;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for recipe in [NCMI, CE] {
        for seed in 0..20 {
            let probe = write(root, &recipe, seed, 0);
            let rows: Vec<Prediction> = (0..SLIDES)
                .map(|slide| {
                    let mut one = prediction(&recipe, seed, slide);
                    // Sure to a different degree, so that there is something to rank.
                    let sure = 0.4 + 0.59 * ((slide * 7919 + seed as usize * 31) % 997) as f64 / 997.0;
                    one.probabilities = (0..3).map(|class| if class == one.predicted { sure } else { (1.0 - sure) / 2.0 }).collect();
                    one
                })
                .collect();
            let mut scores = ScoreFile::read(&probe).unwrap();
            (scores.split.kind, scores.split.folds, scores.slides, scores.patients) = (SplitKind::Holdout, 1, SLIDES, SLIDES / 2);
            scores.split.name = format!("holdout by patient, seed {seed}");
            scores.write(&probe).unwrap();
            predictions::write(&probe, &scores.classes, &Predictions::from([(Decision::Lp, rows.clone()), (Decision::Own, rows)]), true)
                .unwrap();
            let train = probe.join(&scores.train_folder);
            let epoch = |epoch: usize| Epoch {
                valid_loss: 1.0,
                valid_macro_f1: 0.5,
                valid_macro_auc: 0.5,
                ..Epoch::new(epoch, 5e-4, 1.0 / epoch as f64)
            };
            history::write(&train, &(1..=300).map(epoch).collect::<Vec<_>>()).unwrap();
        }
    }
    let picture = image::RgbImage::from_fn(900, 600, |x, y| image::Rgb([x * y % 251, x * 31 % 241, y * 17 % 239].map(|v| v as u8)));
    std::fs::create_dir_all(root.join("tile/visualization")).unwrap();
    (0..SLIDES).for_each(|slide| {
        let place = root.join(format!("tile/visualization/slide-{slide:02}.jpg"));
        if slide == 0 {
            picture.save(place).unwrap()
        } else {
            std::fs::hard_link(root.join("tile/visualization/slide-00.jpg"), place).unwrap()
        }
    });
    let out = reported(root, &[], Options::default());
    let size = std::fs::metadata(out.join("report.html")).unwrap().len();
    assert!(size < 5_000_000, "{size} bytes");
    let html = page(&out);
    assert!(html.contains("the worst 50") && html.contains("slides.csv beside this page lists all 1000"));
    assert!(html.matches("<tr").count() < 1000, "a page is no table of every slide");
    assert_eq!(table::read(&out.join("slides.csv")).unwrap().height(), SLIDES);
    for foreign in ["http", "src=\"/", "href=", "@import", "<script", "url(", "NaN"] {
        assert!(!html.contains(foreign), "'{foreign}' is on the page");
    }
    assert_eq!(html.matches("src=").count(), html.matches("src=\"data:image/jpeg;base64,").count());
    // For the browser's test, which times the page.
    if let Some(place) = std::env::var_os("WSI_REPORT_PAGE") {
        std::fs::copy(out.join("report.html"), place).unwrap();
    }
}
