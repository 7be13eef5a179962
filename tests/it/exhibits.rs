//! Every table and figure of the paper that is about images, at its smallest scale through the real program: all runs end, and the page
//! says what it is.

use std::path::{Path, PathBuf};

use image::{Rgb, RgbImage};
use wsi::slides::jpeg;

use crate::pipeline::images;
use crate::program::{said, wsi};

fn call(name: &str, folder: &Path, data: &str, more: &[&str]) -> std::process::Output {
    let pipeline = format!("{}/pipelines/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let set = |key: &str, value: &str| format!("{key}={}", folder.join(value).display());
    let (data, out) = (set("data", data), set("out", "out"));
    wsi([&["run", &pipeline, "--device", "cpu", "--set", &data, "--set", &out][..], more].concat())
}

/// The only page of a pipeline: its folder and its text.
fn page(folder: &Path, name: &str) -> (PathBuf, String) {
    let reports: Vec<PathBuf> =
        std::fs::read_dir(folder.join("out").join(name).join("report")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [report] = &reports[..] else { panic!("{name} has {} reports", reports.len()) };
    assert!(report.file_name().unwrap().to_string_lossy().starts_with(&format!("{name}-smoke-")));
    (report.clone(), std::fs::read_to_string(report.join("report.html")).unwrap())
}

/// Runs a pipeline at its smallest scale; gives the page's folder and text.
fn smoke(name: &str, folder: &Path, data: &str) -> (PathBuf, String) {
    let output = call(name, folder, data, &["--scale", "smoke"]);
    assert!(output.status.success(), "{name}: {}", said(&output));
    let (report, page) = page(folder, name);
    assert!(page.contains("Not the paper's experiment") && page.contains("Scale 'smoke'") && page.contains("Other data"), "{name}");
    assert!(std::fs::read_to_string(report.join("table.csv")).unwrap().lines().count() > 1, "{name}");
    let here = folder.to_string_lossy();
    for file in ["report.html", "table.csv", "run.json", "config.toml"] {
        assert!(!std::fs::read_to_string(report.join(file)).unwrap().contains(&*here), "{name}: {file} holds an absolute path");
    }
    (report, page)
}

#[test]
fn tables_one_and_five_show_every_recipe_beside_the_papers_value() {
    let folder = tempfile::tempdir().unwrap();
    images(&folder.path().join("images"));
    let (report, page) = smoke("table1", folder.path(), "images");
    // Thirteen rows ran, one is the paper's alone.
    assert_eq!(page.matches("2 seeds").count(), 13);
    assert!(page.contains("paper 76.94") && page.contains("NCMI-LP − CE+LP, in points:"));
    assert!(page.contains("Not run at this size: ResNet-34, ResNet-50, ResNet-101."));

    let written = || std::fs::metadata(report.join("run.json")).unwrap().modified().unwrap();
    let before = written();
    assert!(call("table1", folder.path(), "images", &["--scale", "smoke"]).status.success());
    assert_eq!(before, written(), "a second call does nothing");

    let (_, page) = smoke("table5", folder.path(), "images");
    assert!(page.contains("Softmax alone") && page.contains("paper 5.64") && page.contains("NSF, centring − NSF alone, in points:"));
    let refused = call("table5", folder.path(), "images", &["--scale", "tiny"]);
    assert!(!refused.status.success() && said(&refused).contains("no scale 'tiny'; it has: gpu, small, smoke"), "{}", said(&refused));
}

#[test]
fn figures_are_drawn_with_their_numbers() {
    let folder = tempfile::tempdir().unwrap();
    images(&folder.path().join("images"));
    for (name, words) in [
        ("figure2", &["Pearson", "ResNet-34, 24 wide"][..]),
        ("figure3", &["batch size 16", "SupCon"]),
        ("figure4", &["Nothing was selected on", "NSF alone ends at", "Γ"]),
        ("figure5", &["class means over epochs", "running centre"]),
    ] {
        let (report, page) = smoke(name, folder.path(), "images");
        for word in words {
            assert!(page.contains(word), "{name} does not say '{word}'");
        }
        assert!(page.contains("<svg class=\"chart\""), "{name}");
        assert!(std::fs::read_to_string(report.join("figure.svg")).unwrap().starts_with("<svg xmlns="), "{name}");
    }
}

#[test]
fn looks_at_the_test_images_change_nothing_and_are_continued() {
    let folder = tempfile::tempdir().unwrap();
    images(&folder.path().join("images"));
    let train = |out: &str, every: &str| {
        let [data, out] = ["images", out].map(|name| folder.path().join(name).display().to_string());
        let config = format!("{}/configs/ncmi-paper.toml", env!("CARGO_MANIFEST_DIR"));
        let settings = ["train.epochs=3", "train.batch-size=8", "train.model.encoder.width=4", every].map(|item| ["--set", item]).concat();
        let arguments = ["train", "--no-probe", "--device", "cpu", "--config", &config, "--data", &data, "--out", &out];
        let output = wsi([&arguments[..], &settings].concat());
        assert!(output.status.success(), "{}", said(&output));
    };
    let file = |out: &str, name: &str| std::fs::read(folder.path().join(out).join(name)).unwrap();
    train("blind", "train.watch-test=0");
    train("watched", "train.watch-test=1");
    assert!(file("blind", "checkpoint-last.safetensors") == file("watched", "checkpoint-last.safetensors"), "looking changes no weight");
    assert!(file("blind", "history.csv") == file("watched", "history.csv"));
    assert!(!folder.path().join("blind/test-curves.csv").exists());
    let curves = String::from_utf8(file("watched", "test-curves.csv")).unwrap();
    assert_eq!((curves.lines().count(), curves.matches("test").count()), (4, 3), "{curves}");

    // The training is whole, its summary is not: the files stay as they are.
    std::fs::remove_file(folder.path().join("watched/run.json")).unwrap();
    let embeddings = file("watched", "test-embeddings.safetensors");
    train("watched", "train.watch-test=1");
    assert_eq!(String::from_utf8(file("watched", "test-curves.csv")).unwrap(), curves);
    assert!(file("watched", "test-embeddings.safetensors") == embeddings);
}

#[test]
fn a_run_that_fails_is_named_and_the_others_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    images(&folder.path().join("images"));
    let text = std::fs::read_to_string(format!("{}/pipelines/table5.toml", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let configs = format!("{}/configs/", env!("CARGO_MANIFEST_DIR"));
    // A temperature that NCMI refuses: these runs end with an error, the others do not.
    let text = text.replace("../configs/", &configs).replace(
        "[scale.small]",
        "[[sweep]]\ngroup = 'broken'\n[sweep.set]\n'train.loss.name' = 'ncmi'\n'train.loss.temperature' = -1.0\nseed = 0\n\n[scale.small]",
    );
    let file = folder.path().join("broken.toml");
    std::fs::write(&file, text).unwrap();
    let [data, out] = [("data", "images"), ("out", "out")].map(|(key, name)| format!("{key}={}", folder.path().join(name).display()));
    let file = file.display().to_string();
    let output = wsi(["run", &file, "--scale", "smoke", "--device", "cpu", "--set", &data, "--set", &out]);
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("failed; the page shows the others") && told.contains("temperature must be positive"), "{told}");
    let (_, page) = page(folder.path(), "broken");
    assert!(page.contains("ended with an error and is left out") && page.contains("paper 76.45"));
    assert!(!page.contains(&*folder.path().to_string_lossy()));
}

#[test]
fn tables_two_and_four_are_of_photographs() {
    let folder = tempfile::tempdir().unwrap();
    for part in ["train", "val"] {
        for class in 0..6u8 {
            let class_folder = folder.path().join("photographs").join(part).join(format!("n{class:02}"));
            std::fs::create_dir_all(&class_folder).unwrap();
            for index in 0..2u8 {
                let shade = Rgb([40 * class, 200 - 30 * class, 60 + 90 * index]);
                let image = RgbImage::from_fn(48, 40, |x, _| if x % 8 < 4 { shade } else { Rgb([90, 90, 90]) });
                std::fs::write(class_folder.join(format!("{index}.jpg")), jpeg::encode(&image, 90).unwrap()).unwrap();
            }
        }
    }
    let (report, page) = smoke("table2", folder.path(), "photographs");
    assert!(page.contains("top-5") && page.contains("paper 96.23") && page.contains("NCMI-LP − CE+LP, in points:"), "{page}");
    let predictions = report.join("../../probe");
    let probe = std::fs::read_dir(predictions).unwrap().next().unwrap().unwrap().path();
    let head = std::fs::read_to_string(probe.join("predictions.csv")).unwrap();
    assert_eq!(head.lines().next(), Some("decision,slide_id,patient_id,label,predicted"));
    assert!(!head.contains("knn"));

    let (_, page) = smoke("table4", folder.path(), "photographs");
    assert!(
        page.contains("paper 592 (× 1.48)")
            && page.contains("An epoch on ResNet-50, in epochs of CE:")
            && page.contains("seconds an epoch")
    );
}
