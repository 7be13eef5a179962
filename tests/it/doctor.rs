//! `wsi doctor`: a cohort in order finds nothing; each thing that is planted is found, by name, with what to do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tch::Tensor;
use wsi::store::weights::{self, Metadata};
use wsi::synth::{CohortSettings, cohort, render};

use crate::leases::without_flock;
use crate::program::{said, wsi};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Synthetic slides of both patients of a class and their labels.
struct Ward {
    folder: tempfile::TempDir,
}

impl Ward {
    fn new() -> Self {
        let ward = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(ward.path("slides")).unwrap();
        let slides = cohort(&CohortSettings::default()).unwrap();
        let mut labels = String::from("slide_id,patient_id,label\n");
        for (slide, patient) in slides[..4].iter().zip(["P1", "P1", "P2", "P2"]) {
            std::fs::write(ward.path("slides").join(format!("{}.tif", slide.slide_id)), render(slide, 0).unwrap()).unwrap();
            labels += &format!("{},{patient},normal\n", slide.slide_id);
        }
        std::fs::write(ward.path("labels.csv"), labels).unwrap();
        ward
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Examines slides, labels and a folder for results, as JSON.
    fn examine(&self, more: &[&str]) -> Output {
        let (slides, labels, out) = (self.path("slides"), self.path("labels.csv"), self.path("results/new"));
        wsi([&["doctor", "--json", "--slides", text(&slides), "--labels", text(&labels), "--out", text(&out)], more].concat())
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Findings by their check; of several of one check the worst.
fn findings(output: &Output) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for line in String::from_utf8(output.stdout.clone()).unwrap().lines() {
        let finding: Value = serde_json::from_str(line).unwrap();
        let check = finding["check"].as_str().unwrap().to_owned();
        let rank = |finding: &Value| ["ok", "warning", "error"].iter().position(|level| finding["level"] == *level).unwrap();
        match found.get(&check) {
            Some(there) if rank(there) >= rank(&finding) => {}
            _ => drop(found.insert(check, finding)),
        }
    }
    found
}

/// Level and words of one finding.
fn of<'a>(found: &'a BTreeMap<String, Value>, check: &str) -> (&'a str, String) {
    let finding = found.get(check).unwrap_or_else(|| panic!("no check '{check}' in {:?}", found.keys()));
    let word = |name: &str| finding[name].as_str().unwrap();
    (word("level"), format!("{}; {}", word("seen"), word("advice")))
}

#[test]
fn a_cohort_in_order_has_no_error_and_nothing_stays_behind() {
    let ward = Ward::new();
    let before = ward.names();
    let output = ward.examine(&[]);
    assert!(output.status.success(), "{}", said(&output));
    let found = findings(&output);
    let fine =
        ["program", "libtorch", "OpenSlide", "HDF5", "slides", "pixel sizes", "tiles", "pyramids", "readers", "slide names", "labels"];
    for check in fine.into_iter().chain(["labels and slides", "rename", "exclusive creation", "HDF5 files", "clock"]) {
        assert_eq!(of(&found, check).0, "ok", "{check}: {:?}", of(&found, check));
    }
    assert!(of(&found, "slides").1.starts_with("4 of 4 open") && of(&found, "pixel sizes").1.contains("(4)"), "{found:?}");
    assert!(of(&found, "labels").1.contains("4 slides of 2 patients; each class's: normal 4 of 2"), "{:?}", of(&found, "labels"));
    assert!(of(&found, "space").1.contains("bags of 1280 numbers a tile"), "{:?}", of(&found, "space"));
    assert_eq!(before, ward.names(), "nothing stays behind");
    let all = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
    assert!(!all.contains(text(ward.folder.path())), "{all}");

    let table = wsi(["doctor", "--slides", text(&ward.path("slides"))]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.starts_with("level\tcheck\twhat was seen\twhat to do\n") && table.contains("\nok\tslides\t4 of 4 open"), "{table}");
    assert_eq!(wsi(["doctor", "--phi", "x", "--strict"]).status.code(), Some(2));
}

#[test]
fn slides_that_cannot_be_used_are_named() {
    let ward = Ward::new();
    std::fs::write(ward.path("slides/broken.svs"), "no slide").unwrap();
    std::fs::copy(ward.path("slides/synth_000_0.tif"), ward.path("slides/SYNTH_000_0.tif")).unwrap();
    let output = ward.examine(&["--set", "tile.mpp=0.3"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let found = findings(&output);
    let (level, words) = of(&found, "slides");
    assert!(level == "error" && words.contains("5 of 6 open") && words.contains("'broken.svs'"), "{words}");
    let (level, words) = of(&found, "tiles");
    assert!(
        level == "error" && words.contains("0 of 5 slides at 0.3 µm/px") && words.contains("coarser than the 0.3 asked for"),
        "{words}"
    );
    let (level, words) = of(&found, "slide names");
    assert!(level == "warning" && words.contains("SYNTH_000_0 and synth_000_0"), "{words}");
    let nowhere = findings(&wsi(["doctor", "--json", "--slides", text(&ward.path("nowhere"))]));
    assert!(of(&nowhere, "slides").0 == "error" && of(&nowhere, "slides").1.contains("'nowhere' does not exist"), "{nowhere:?}");
}

#[test]
fn labels_and_slides_that_do_not_meet_are_told_from_both_sides() {
    let ward = Ward::new();
    let labels = std::fs::read_to_string(ward.path("labels.csv")).unwrap();
    let rename = |from: &str, to: &str| std::fs::write(ward.path("labels.csv"), labels.replacen(from, to, 1)).unwrap();
    rename("synth_001_1,P2", "elsewhere,P2");
    let output = ward.examine(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let (level, words) = (of(&findings(&output), "labels and slides").0.to_owned(), of(&findings(&output), "labels and slides").1);
    assert!(level == "error" && words.contains("1 of 4 labels have no slide: elsewhere"), "{words}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 of 4 slides have no label: synth_001_1"));

    // Allowed by a setting, it is a warning; which --strict does not let pass.
    let lenient = ward.examine(&["--set", "cohort.partial=true"]);
    assert!(lenient.status.success(), "{}", said(&lenient));
    assert_eq!(of(&findings(&lenient), "labels and slides").0, "warning");
    let strict = ward.examine(&["--set", "cohort.partial=true", "--strict"]);
    assert!(strict.status.code() == Some(1) && said(&strict).contains("errors: 0, warnings: "), "{}", said(&strict));

    rename("synth_001_1,P2", "2024-01-31,P2");
    let (level, words) = (of(&findings(&ward.examine(&[])), "labels").0.to_owned(), of(&findings(&ward.examine(&[])), "labels").1);
    assert!(level == "error" && words.contains("took the id for a date") && !words.contains(text(ward.folder.path())), "{words}");
    rename("synth_001_1,P2,normal", "synth_001_1,P2,tumour");
    assert!(of(&findings(&ward.examine(&[])), "labels").1.contains("one patient cannot be both trained and tested on"));
}

#[test]
fn weights_are_read_to_their_last_byte() {
    let ward = Ward::new();
    let folder = ward.path("weights");
    let examine = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsi"));
        command.args(["doctor", "--json", "--encoder", "resnet18"]).env("WSI_WEIGHTS", &folder).output().unwrap()
    };
    let missing = examine();
    assert_eq!(missing.status.code(), Some(1));
    let (level, words) = (of(&findings(&missing), "weights").0.to_owned(), of(&findings(&missing), "weights").1);
    assert!(level == "error" && words.contains("wsi weights import FILE --encoder resnet18") && words.contains("licence"), "{words}");

    let path = weights::path_in(&folder, "resnet18");
    let metadata = Metadata { licence: "BSD-3-Clause".into(), ..Metadata::default() };
    weights::write(&path, &BTreeMap::from([("a".to_owned(), Tensor::from_slice(&[1f32, 2.0]))]), &metadata).unwrap();
    let (level, words) = (of(&findings(&examine()), "weights").0.to_owned(), of(&findings(&examine()), "weights").1);
    assert!(level == "ok" && words.contains("licence: BSD-3-Clause") && words.contains("sha256"), "{words}");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (level, words) = (of(&findings(&examine()), "weights").0.to_owned(), of(&findings(&examine()), "weights").1);
    assert!(level == "error" && words.contains("damaged or changed") && !words.contains(text(&folder)), "{words}");
}

#[test]
fn a_file_system_that_refuses_locks_is_told_with_the_setting_that_helps() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = without_flock(folder.path()) else { return eprintln!("skipped: no C compiler") };
    let examine = |locking: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsi"));
        command.args(["doctor", "--json", "--out", text(&folder.path().join("out"))]).env("LD_PRELOAD", &library);
        command.env_remove("HDF5_USE_FILE_LOCKING").envs(locking.map(|value| ("HDF5_USE_FILE_LOCKING", value))).output().unwrap()
    };
    let output = examine(None);
    assert!(output.status.success(), "the stages do without: {}", said(&output));
    let found = findings(&output);
    assert!(of(&found, "file locks").0 == "warning" && of(&found, "file locks").1.contains("HDF5_USE_FILE_LOCKING=FALSE"), "{found:?}");
    assert_eq!(of(&found, "HDF5 files").0, "ok");
    let found = findings(&examine(Some("TRUE")));
    assert!(of(&found, "HDF5 files").0 == "error" && of(&found, "HDF5 files").1.contains("HDF5_USE_FILE_LOCKING=TRUE"), "{found:?}");
}

#[test]
fn folders_that_cannot_hold_results_are_told() {
    let ward = Ward::new();
    let out = |place: &Path| findings(&wsi(["doctor", "--json", "--out", text(place)]));
    let blocked = out(&ward.path("labels.csv/results"));
    assert_eq!(
        (of(&blocked, "output folder").0, &*of(&blocked, "output folder").1),
        ("error", "a file is in its way; remove it, or choose another --out")
    );
    let found = out(Path::new("/proc/results"));
    assert!(of(&found, "output folder").0 == "error" && of(&found, "output folder").1.contains("cannot be written"), "{found:?}");
    let memory = Path::new("/dev/shm");
    if !wsi::ground::volume::Volume::of(memory).is_ok_and(|volume| volume.is_memory()) {
        return eprintln!("folders_that_cannot_hold_results: skipped: no file system in memory");
    }
    let found = out(memory);
    assert!(of(&found, "file system").0 == "warning" && of(&found, "file system").1.contains("tmpfs"), "{found:?}");
}
