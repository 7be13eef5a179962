//! Bad slides and bad folders: one clear line that names the item and the remedy, nothing half-written, exit code 1.

use std::path::{Path, PathBuf};

use wsi::synth::{CohortSettings, cohort, render};

use crate::data::test_data;
use crate::program::{said, wsi};

/// Runs `tile`, which must fail with 1, and returns the line that holds `item`.
fn complaint(slides: &Path, out: &Path, more: &[&str], item: &str) -> String {
    let output = wsi([&["tile", "--slides", slides.to_str().unwrap(), "--out", out.to_str().unwrap()], more].concat());
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said.lines().rfind(|line| line.contains(item)).unwrap_or_else(|| panic!("nothing names '{item}':\n{said}")).to_owned()
}

fn bad_files(data: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(data.join("slides/bad")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn each_bad_file_is_refused_with_a_reason_and_a_remedy() {
    let Some(data) = test_data("each_bad_file_is_refused") else { return };
    let folder = tempfile::tempdir().unwrap();
    for file in bad_files(&data) {
        let name = file.file_name().unwrap().to_str().unwrap();
        let line = complaint(&file, &folder.path().join(name), &[], name);
        assert!(line.contains("convert it") || line.contains("copy or export it again"), "{line}");
        assert!(!line.contains(data.to_str().unwrap()), "no path in messages: {line}");
    }
}

#[test]
fn bad_slides_do_not_stop_the_others() {
    let Some(data) = test_data("bad_slides_do_not_stop_the_others") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (slides, out) = (folder.path().join("slides"), folder.path().join("out"));
    std::fs::create_dir(&slides).unwrap();
    let bad = bad_files(&data);
    for file in &bad {
        std::fs::copy(file, slides.join(file.file_name().unwrap())).unwrap();
    }
    let good = &cohort(&CohortSettings::default()).unwrap()[0];
    std::fs::write(slides.join("good.tif"), render(good, 0).unwrap()).unwrap();

    complaint(&slides, &out, &[], &format!("{} of the tile stage's items failed", bad.len()));
    let patches: Vec<_> = std::fs::read_dir(out.join("patches")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(patches, ["good_patches.h5"], "the good slide, and nothing half-written");
    let table = std::fs::read_to_string(out.join("slides.csv")).unwrap();
    assert_eq!(table.matches(",failed,").count(), bad.len());
    assert_eq!(table.matches(",done,").count(), 1);
    assert!(!table.contains(folder.path().to_str().unwrap()), "no path in outputs");
}

#[test]
fn folders_without_slides() {
    let folder = tempfile::tempdir().unwrap();
    let (empty, out) = (folder.path().join("empty"), folder.path().join("out"));
    std::fs::create_dir(&empty).unwrap();
    assert!(complaint(&empty, &out, &[], "no slides in the folder 'empty'").contains("svs"));
    assert!(complaint(&folder.path().join("absent.svs"), &out, &[], "'absent.svs' does not exist").contains("give"));
    assert!(!out.exists(), "nothing is written before the slides are known");
}

#[test]
fn tables_with_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    let (table, out) = (folder.path().join("table.csv"), folder.path().join("out"));
    std::fs::write(&table, "name\nx\n").unwrap();
    assert!(complaint(&table, &out, &[], "'table.csv' names no slides").contains("slide_id"));
    std::fs::write(&table, "slide\nabsent.svs\n").unwrap();
    complaint(&table, &out, &[], "line 2: there is no slide 'absent.svs'");
    std::fs::write(folder.path().join("x.svs"), "").unwrap();
    std::fs::write(&table, "slide_id,mpp\nx,0.25um\n").unwrap();
    assert!(complaint(&table, &out, &[], "line 2").contains("'0.25um' is not a number"));
}

#[test]
fn two_slides_of_one_id() {
    let folder = tempfile::tempdir().unwrap();
    for centre in ["a", "b"] {
        std::fs::create_dir(folder.path().join(centre)).unwrap();
        std::fs::write(folder.path().join(centre).join("x.svs"), "").unwrap();
    }
    let line = complaint(folder.path(), &folder.path().join("out"), &[], "two slides have the id 'x'");
    assert!(line.contains("'a/x.svs' and 'b/x.svs'") && line.contains("rename"), "{line}");
}

#[test]
fn a_slide_without_pixel_size_and_one_without_tissue() {
    let Some(data) = test_data("a_slide_without_pixel_size") else { return };
    let folder = tempfile::tempdir().unwrap();
    let boxes = data.join("slides/boxes.tiff");
    let line = complaint(&boxes, &folder.path().join("a"), &[], "boxes: ");
    assert!(line.contains("does not state its pixel size") && line.contains("--slide-mpp"), "{line}");
    // Boxes in pure red, green and blue are ink, not tissue.
    let line = complaint(&boxes, &folder.path().join("b"), &["--slide-mpp", "0.5", "--tile-px", "50"], "boxes: ");
    assert!(line.contains("no tissue") && line.contains("--min-tissue"), "{line}");
    assert!(folder.path().join("b/visualization/boxes.jpg").is_file(), "there is something to look at");
    let line = complaint(&boxes, &folder.path().join("c"), &["--slide-mpp", "2"], "boxes: ");
    assert!(line.contains("coarser than the 0.5 asked for"), "{line}");
}

#[test]
fn folders_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let slide = folder.path().join("x.svs");
    std::fs::write(&slide, "").unwrap();
    let line = complaint(&slide, &folder.path().join("x.svs/out"), &[], "cannot create the folder");
    assert!(line.contains("--out"), "{line}");

    let used = folder.path().join("used");
    std::fs::create_dir(&used).unwrap();
    std::fs::write(used.join("thesis.doc"), "").unwrap();
    complaint(&slide, &used, &[], "is no run of this program");
    assert_eq!(std::fs::read_dir(&used).unwrap().count(), 1);
}

#[test]
fn settings_that_make_no_grid() {
    let folder = tempfile::tempdir().unwrap();
    let (slide, out) = (folder.path().join("x.svs"), folder.path().join("out"));
    std::fs::write(&slide, "").unwrap();
    for (flags, item) in [
        (["--mpp", "0"], "tile.mpp is 0"),
        (["--tile-px", "0"], "tile.tile-px is 0"),
        (["--min-tissue", "50"], "tile.min-tissue is 50"),
        (["--tissue", "otsy"], "did you mean 'otsu'"),
        (["--set", "tile.mmp=0.5"], "did you mean 'mpp'"),
    ] {
        complaint(&slide, &out, &flags, item);
    }
    assert!(!out.exists());
}
