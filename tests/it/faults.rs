//! Damaged, cut and vanishing files, and full disks: a name and a reason, never a made-up pixel, never half a file.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use wsi::store::{bag, coords};
use wsi::synth::{CohortSettings, cohort, render};

use crate::data::test_data;
use crate::program::{said, wsi};

const RANDOM: [&str; 5] = ["--encoder", "resnet18", "--random-weights", "--device", "cpu"];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn tile(slides: &Path, out: &Path, more: &[&str]) -> Output {
    wsi([&["tile", "--slides", text(slides), "--out", text(out)], more].concat())
}

fn extract(slides: &Path, tiles: &Path, out: &Path, more: &[&str]) -> Output {
    wsi([&["extract", "--slides", text(slides), "--tiles", text(tiles), "--out", text(out)], &RANDOM[..], more].concat())
}

/// What a call that must fail with 1 said.
fn refused(output: &Output) -> String {
    let said = said(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// A synthetic slide's bytes.
fn slide(index: usize) -> Vec<u8> {
    render(&cohort(&CohortSettings::default()).unwrap()[index], 0).unwrap()
}

/// Where the JPEG streams of a TIFF of whole JPEG tiles begin.
fn jpeg_starts(file: &[u8]) -> Vec<usize> {
    (0..file.len() - 3).filter(|&at| file[at..at + 3] == [0xFF, 0xD8, 0xFF]).collect()
}

/// Files below a folder that are no whole output: temporary ones, and bags or coordinates that cannot be read.
fn half_written(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            found.extend(half_written(&path));
        } else if name.starts_with('.')
            || name.ends_with("_patches.h5") && coords::read(&path).is_err()
            || name.ends_with(".h5") && !name.ends_with("_patches.h5") && bag::read(&path).is_err()
        {
            found.push(path);
        }
    }
    found
}

#[test]
fn one_damaged_stored_tile_costs_the_tiles_that_touch_it_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let whole = slide(1);
    let file = place("x.tif");
    std::fs::write(&file, &whole).unwrap();
    assert!(tile(&file, &place("tiles"), &[]).status.success());
    assert!(extract(&file, &place("tiles"), &place("bags"), &[]).status.success());
    let plan = coords::read(&place("tiles/patches/x_patches.h5")).unwrap();
    let good = bag::read(&place("bags/bags/x.h5")).unwrap();
    assert_eq!(good.coords, plan.coords);

    // Levels are stored one after the other, finest first, each tile a whole JPEG: one from the middle of the finest.
    let mut bytes = whole.clone();
    let starts = jpeg_starts(&whole);
    let at = starts[starts.len() * 3 / 8];
    bytes[at..at + 64].fill(0);
    std::fs::write(&file, &bytes).unwrap();
    // The overview of a slide this small is read from the same level: what it cannot see is planned for, within the budget.
    let strict = refused(&tile(&file, &place("strict-tiles"), &[]));
    assert!(strict.contains("tiles lie where the slide cannot be read") && strict.contains("--max-bad-tiles 1%"), "{strict}");
    assert_eq!(half_written(&place("strict-tiles")), Vec::<PathBuf>::new());
    let out = place("damaged");
    assert!(tile(&file, &out, &["--max-bad-tiles", "50%"]).status.success());
    let planned = coords::read(&out.join("patches/x_patches.h5")).unwrap().coords;
    assert!(plan.coords.iter().all(|at| planned.contains(at)), "no tile is lost to damage");

    let strict = refused(&extract(&file, &out, &place("strict"), &["--max-bad-tiles", "0%"]));
    assert!(
        strict.contains("or more of its 39 tiles cannot be read")
            && strict.contains("--max-bad-tiles 0%")
            && strict.contains("'x.tif' at x="),
        "{strict}"
    );
    assert!(!place("strict/bags/x.h5").exists());
    assert!(std::fs::read_to_string(place("strict/failed.csv")).unwrap().contains("x,"), "what failed can be fed back");

    let output = extract(&file, &out, &place("lenient"), &["--max-bad-tiles", "50%"]);
    assert!(output.status.success(), "{}", said(&output));
    let bag = bag::read(&place("lenient/bags/x.h5")).unwrap();
    let status = bag.header.unwrap().status.unwrap();
    assert!((1..=4).contains(&status.unreadable), "a stored tile of 256 px touches 1 to 4 squares of 224: {status:?}");
    assert_eq!(status.ok + status.unreadable, planned.len());
    // What is there is what was there before, row by row.
    let width = good.features.width;
    for (row, at) in bag.coords.iter().enumerate() {
        let Some(before) = plan.coords.iter().position(|other| other == at) else { continue };
        assert_eq!(bag.features.values[row * width..][..width], good.features.values[before * width..][..width], "{at:?}");
    }
    let log = std::fs::read_to_string(place("lenient/log.jsonl")).unwrap();
    assert_eq!(log.matches("\"unreadable\"").count(), status.unreadable, "each is in the log with its place and reason");
    let table = std::fs::read_to_string(place("lenient/slides.csv")).unwrap();
    assert!(table.starts_with("slide_id,planned,tiles,unreadable,outside,blank,"), "{table}");
}

/// Every good slide that the test data has, by a file of it.
fn good_slides(data: &Path) -> Vec<PathBuf> {
    let slides = ["CMU-1-Small-Region.svs", "boxes.tiff", "small.svs", "boxes_dcm/boxes_0.dcm"].map(|name| data.join("slides").join(name));
    let dicom = std::fs::read_dir(data.join("slides/camelyon_dcm")).unwrap().map(|entry| entry.unwrap().path()).next().unwrap();
    let lung = ["lung_000_0.tif", "lung_001_0.tif"].map(|name| data.join("lung-mil/slides").join(name));
    slides.into_iter().chain([dicom]).chain(lung).filter(|path| path.is_file()).collect()
}

#[test]
fn slides_cut_short_are_refused_by_name_or_stay_within_the_budget() {
    let Some(data) = test_data("slides_cut_short") else { return };
    let folder = tempfile::tempdir().unwrap();
    let slides = good_slides(&data);
    assert!(slides.len() >= 6, "{slides:?}");
    for (index, whole) in slides.iter().enumerate() {
        let bytes = std::fs::read(whole).unwrap();
        let name = whole.file_name().unwrap().to_str().unwrap();
        for percent in [10, 50, 90, 99] {
            let place = |what: &str| folder.path().join(format!("{index}-{percent}-{what}"));
            std::fs::create_dir(place("slide")).unwrap();
            let cut = place("slide").join(name);
            std::fs::write(&cut, &bytes[..bytes.len() * percent / 100]).unwrap();
            let stem = cut.file_stem().unwrap().to_str().unwrap();
            let tiled = tile(
                &cut,
                &place("tiles"),
                &["--tile-px", "16", "--slide-mpp", "0.5", "--tissue", "none", "--set", "tile.mpp-tolerance=100"],
            );
            let outcome = if tiled.status.success() {
                let output = extract(&cut, &place("tiles"), &place("bags"), &["--resize"]);
                if output.status.success() { "within the budget".to_owned() } else { refused(&output) }
            } else {
                refused(&tiled)
            };
            assert!(outcome == "within the budget" || outcome.contains(&format!("{stem}: ")), "{name} at {percent} %: {outcome}");
            for run in [place("tiles"), place("bags")] {
                assert_eq!(half_written(&run), Vec::<PathBuf>::new());
            }
            std::fs::remove_dir_all(place("slide")).unwrap();
        }
    }
}

#[test]
fn empty_files_loops_and_dangling_links() {
    let folder = tempfile::tempdir().unwrap();
    let slides = folder.path().join("slides");
    std::fs::create_dir(&slides).unwrap();
    std::fs::write(slides.join("empty.svs"), "").unwrap();
    symlink(&slides, slides.join("again")).unwrap();
    symlink("itself.svs", slides.join("itself.svs")).unwrap();
    symlink("gone.svs", slides.join("dangling.svs")).unwrap();
    std::fs::write(slides.join("good.tif"), slide(0)).unwrap();
    let out = folder.path().join("out");
    let said = refused(&tile(&slides, &out, &[]));
    for slide in ["empty", "itself", "dangling"] {
        assert!(said.contains(&format!("  {slide}: ")), "{slide}: {said}");
    }
    assert!(said.contains("3 of the tile stage's items failed"), "{said}");
    assert!(out.join("patches/good_patches.h5").is_file(), "the good slide is tiled, once, whatever the loop");
    let failed = std::fs::read_to_string(out.join("failed.csv")).unwrap();
    assert_eq!(failed.lines().count(), 4, "{failed}");

    // The list of failures, fed back after a repair.
    for slide in ["itself", "dangling"] {
        std::fs::remove_file(slides.join(format!("{slide}.svs"))).unwrap();
        std::fs::write(slides.join(format!("{slide}.svs")), self::slide(3)).unwrap();
    }
    std::fs::remove_file(slides.join("empty.svs")).unwrap();
    std::fs::write(slides.join("empty.tif"), self::slide(4)).unwrap();
    let second = folder.path().join("second");
    let output = tile(&slides, &second, &["--only", text(&out.join("failed.csv"))]);
    assert!(output.status.success(), "{}", self::said(&output));
    assert_eq!(std::fs::read_dir(second.join("patches")).unwrap().count(), 3);
    assert!(!second.join("failed.csv").exists());

    std::fs::write(folder.path().join("only.csv"), "slide_id\nabsent\n").unwrap();
    let line = refused(&tile(&slides, &folder.path().join("third"), &["--only", text(&folder.path().join("only.csv"))]));
    assert!(line.contains("'only.csv' names slides that are not there: absent"), "{line}");
}

#[test]
fn a_slide_that_disappears_between_tiling_and_extraction() {
    let folder = tempfile::tempdir().unwrap();
    let slides = folder.path().join("slides");
    std::fs::create_dir(&slides).unwrap();
    for (index, id) in ["a", "b"].iter().enumerate() {
        std::fs::write(slides.join(format!("{id}.tif")), slide(index)).unwrap();
    }
    let (tiles, bags) = (folder.path().join("tiles"), folder.path().join("bags"));
    assert!(tile(&slides, &tiles, &[]).status.success());
    std::fs::remove_file(slides.join("a.tif")).unwrap();
    let said = refused(&extract(&slides, &tiles, &bags, &[]));
    assert!(said.contains("a: 'a.tif' is not among the slides"), "{said}");
    assert!(bags.join("bags/b.h5").is_file() && !bags.join("bags/a.h5").exists());
}

/// A file system of 300 KiB, taken away again when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this process may not mount one.
    fn at(path: PathBuf) -> Option<Self> {
        std::fs::create_dir(&path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=300k", "none"]).arg(&path).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_leaves_whole_files_and_says_which_one_was_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::at(folder.path().join("disk")) else {
        eprintln!("a_full_disk: skipped: this process may not mount a file system");
        return;
    };
    let slides = folder.path().join("slides");
    std::fs::create_dir(&slides).unwrap();
    for index in 0..4 {
        std::fs::write(slides.join(format!("s{index}.tif")), slide(index)).unwrap();
    }
    let tiles = folder.path().join("tiles");
    assert!(tile(&slides, &tiles, &["--step-px", "112"]).status.success());
    let bags = disk.0.join("bags");
    let said = refused(&extract(&slides, &tiles, &bags, &[]));
    assert!(said.contains("no room left") && said.contains("cannot write"), "{said}");
    // The saved rows of the slide after it are whole.
    let left = half_written(&bags).into_iter().filter(|path| path.extension().is_none_or(|ending| ending != "part"));
    assert_eq!(left.collect::<Vec<_>>(), Vec::<PathBuf>::new());

    // Space again: the same call goes on.
    assert!(Command::new("mount").args(["-o", "remount,size=50m"]).arg(&disk.0).status().unwrap().success());
    let output = extract(&slides, &tiles, &bags, &[]);
    assert!(output.status.success(), "{}", self::said(&output));
    assert_eq!(std::fs::read_dir(bags.join("bags")).unwrap().count(), 4);
}

#[test]
fn a_disk_that_fills_in_the_middle_of_a_slide_leaves_its_saved_rows_to_go_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::at(folder.path().join("disk")) else {
        eprintln!("a_disk_that_fills: skipped: this process may not mount a file system");
        return;
    };
    let (file, tiles, whole) = (folder.path().join("x.tif"), folder.path().join("tiles"), folder.path().join("whole"));
    std::fs::write(&file, slide(1)).unwrap();
    assert!(tile(&file, &tiles, &["--step-px", "112"]).status.success());
    let single = ["--set", "extract.dtype=f32", "--batch-size", "8"];
    assert!(extract(&file, &tiles, &whole, &single).status.success());
    let bags = disk.0.join("bags");
    let call = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsi"));
        command.args(["extract", "--slides", text(&file), "--tiles", text(&tiles), "--out", text(&bags)]).args(RANDOM).args(single);
        command.env("WSI_SAVE_EVERY", "0").output().unwrap()
    };
    // Room for the first rows, not for all.
    std::fs::write(disk.0.join("ballast"), vec![1; 180 << 10]).unwrap();
    let said = refused(&call());
    assert!(said.contains("x: cannot write") && said.contains("/.x.part'") && said.contains("No space left"), "{said}");
    assert!(bags.join("bags/.x.part").metadata().unwrap().len() > 8 * 512 * 4, "what was saved stays");

    std::fs::remove_file(disk.0.join("ballast")).unwrap();
    assert!(Command::new("mount").args(["-o", "remount,size=50m"]).arg(&disk.0).status().unwrap().success());
    let output = call();
    assert!(output.status.success() && self::said(&output).contains("x goes on after"), "{}", self::said(&output));
    assert!(std::fs::read(bags.join("bags/x.h5")).unwrap() == std::fs::read(whole.join("bags/x.h5")).unwrap());
    assert_eq!(half_written(&bags), Vec::<PathBuf>::new());
}
