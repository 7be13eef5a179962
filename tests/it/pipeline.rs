//! Pipelines through the real program: every stage once, nothing twice, mistakes named. Here on a tiny image set.

use std::path::{Path, PathBuf};

use crate::program::{said, wsi};

/// A set in CIFAR-100's layout with two classes that differ in brightness.
pub fn images(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("fine_label_names.txt"), "dark\nlight\n").unwrap();
    for (part, count) in [("train", 24u32), ("test", 12)] {
        let record = |index: u32| {
            let label = (index % 2) as u8;
            let pixel = move |p: u32| (40 + 150 * u32::from(label) + (p * 7 + index * 13) % 50) as u8;
            [0, label].into_iter().chain((0..3072).map(pixel))
        };
        std::fs::write(folder.join(format!("{part}.bin")), (0..count).flat_map(record).collect::<Vec<u8>>()).unwrap();
    }
}

fn call(pipeline: &Path, folder: &Path, more: &[&str]) -> std::process::Output {
    let set = |key: &str, path: PathBuf| format!("{key}={}", path.display());
    let mut arguments = vec!["run".to_owned(), pipeline.display().to_string(), "--device".into(), "cpu".into()];
    for item in [set("data", folder.join("images")), set("out", folder.join("out"))].into_iter().chain(more.iter().map(|&s| s.to_owned())) {
        arguments.extend(["--set".to_owned(), item]);
    }
    wsi(arguments)
}

fn find(folder: &Path, name: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, name, found);
        } else if path.file_name().unwrap() == name {
            found.push(path);
        }
    }
    found.sort();
}

#[test]
fn images_are_trained_probed_and_reported_once() {
    let folder = tempfile::tempdir().unwrap();
    images(&folder.path().join("images"));
    let pipeline = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/cifar100.toml");
    let small = ["train.epochs=1", "train.batch-size=8", "probe.resamples=100"];
    let first = call(&pipeline, folder.path(), &small);
    assert!(first.status.success(), "{}", said(&first));
    let table = String::from_utf8(first.stdout).unwrap();
    assert!(table.contains("NCMI-LP") && table.contains("CE+LP") && table.contains("report.html"), "{table}");

    let files = |name: &str| {
        let mut found = Vec::new();
        find(&folder.path().join("out"), name, &mut found);
        found
    };
    assert_eq!((files("scores.json").len(), files("report.html").len()), (2, 1));
    let times = || files("run.json").iter().map(|path| path.metadata().unwrap().modified().unwrap()).collect::<Vec<_>>();
    let before = times();
    assert!(call(&pipeline, folder.path(), &small).status.success());
    assert_eq!(before, times(), "a second call does nothing");

    // Another setting is another folder; the first runs stay.
    assert!(call(&pipeline, folder.path(), &[&small[..], &["seed=1"]].concat()).status.success());
    assert_eq!((files("scores.json").len(), files("report.html").len()), (4, 2));

    let folder_name = folder.path().to_string_lossy().into_owned();
    for name in ["run.json", "scores.json", "report.html", "config.toml", "pooled.json"] {
        for path in files(name) {
            assert!(!std::fs::read_to_string(&path).unwrap().contains(&folder_name), "{} holds an absolute path", path.display());
        }
    }
}

#[test]
fn mistakes_in_a_pipeline_are_named() {
    let folder = tempfile::tempdir().unwrap();
    images(&folder.path().join("images"));
    let refusal = |text: &str, more: &[&str]| {
        let pipeline = folder.path().join("mine.toml");
        std::fs::write(&pipeline, text).unwrap();
        let output = call(&pipeline, folder.path(), more);
        assert_eq!(output.status.code(), Some(1));
        assert!(!folder.path().join("out").exists(), "nothing is written");
        said(&output)
    };
    let good = "stages = ['train', 'probe']\n[inputs]\nimages = '{data}'\n";
    assert!(refusal("stages = ['trian']\n[inputs]\n", &[]).contains("'trian' is not known"));
    assert!(refusal("stages = ['probe', 'train']\n[inputs]\n", &[]).contains("order"));
    assert!(refusal(&format!("colour = 1\n{good}"), &[]).contains("colour"));
    assert!(refusal(good, &["train.epoch=1"]).contains("did you mean 'epochs'"));
    assert!(refusal("stages = ['train']\n[inputs]\nimages = '{data}/elsewhere'\n", &[]).contains("elsewhere' does not exist"));
}
