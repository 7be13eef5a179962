//! Leaks between the parts of a split: planted ones are found and stop a run, and none is found where there is none.

use std::path::Path;

use anyhow::Result;
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage, imageops};
use rayon::prelude::*;
use wsi::config::Config;
use wsi::datasets::leaks::{self, Kind, LeakSettings};
use wsi::datasets::split::SplitSettings;
use wsi::ground::fingerprint::Fingerprint;
use wsi::ground::units::{Coord, Geometry, LevelGeometry, Size};
use wsi::slides::{self, Slide, SlideFile};
use wsi::stages::{Data, probe, train};
use wsi::store::identity::Identity;
use wsi::store::scores::ScoreFile;
use wsi::store::{bag, coords};
use wsi::synth::{CohortSettings, cohort, render};
use wsi::tiling::fingerprint::fingerprint;
use wsi::tiling::survey::survey;
use wsi::tiling::{TileSettings, picture};

use crate::data::test_data;
use crate::program::{said, wsi};
use crate::split::Labels;
use crate::train::{config, machine};

/// A slide in memory, of one level.
struct Copied {
    geometry: Geometry,
    image: RgbImage,
}

impl Copied {
    /// The slide read anew: shifted by some pixels of level 0, and compressed as JPEG of that quality.
    fn of(slide: &dyn Slide, (right, down): (i64, i64), quality: u8) -> Self {
        let canvas = slide.geometry().canvas();
        let whole = slide.read(Coord { x: 0, y: 0 }, canvas, 0).unwrap();
        let mut shifted = RgbImage::from_pixel(canvas.width, canvas.height, Rgb([243; 3]));
        imageops::replace(&mut shifted, &whole, right, down);
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(&shifted).unwrap();
        let image = image::load_from_memory(&bytes).unwrap().into_rgb8();
        let levels = vec![LevelGeometry { size: canvas, downsample: 1.0 }];
        Self { geometry: Geometry { levels, ..slide.geometry().clone() }, image }
    }
}

impl Slide for Copied {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn read(&self, at: Coord, size: Size, _: usize) -> Result<RgbImage> {
        Ok(imageops::crop_imm(&self.image, at.x as u32, at.y as u32, size.width, size.height).to_image())
    }
}

fn print(slide: &dyn Slide) -> Fingerprint {
    let file = SlideFile { id: "a".into(), file: "a.tif".into(), path: "a.tif".into(), companions: Vec::new(), mpp: None, former_id: None };
    let seen = survey(slide, &file, "", &TileSettings::default(), None).unwrap();
    fingerprint(&picture::thumbnail(&seen).unwrap(), &seen.mask).expect("tissue has a pattern")
}

/// The fingerprints of all slides, and of copies of every `every`-th.
fn prints(folder: &Path, every: usize) -> (Vec<Fingerprint>, Vec<(usize, Fingerprint)>) {
    let files = slides::list(folder).unwrap();
    let both = files.par_iter().enumerate().map(|(index, file)| {
        let slide = slides::open(&file.path).unwrap();
        let copy = (index % every == 0).then(|| (index, print(&Copied::of(slide.as_ref(), (7, 5), 40))));
        (print(slide.as_ref()), copy)
    });
    let (prints, copies): (Vec<_>, Vec<_>) = both.collect::<Vec<_>>().into_iter().unzip();
    (prints, copies.into_iter().flatten().collect())
}

/// Unrelated slides are further apart than any copy is from its slide, and the default stands between.
fn copies_are_told_from_strangers(prints: &[Fingerprint], copies: &[(usize, Fingerprint)]) {
    let distance = |a: &Fingerprint, b: &Fingerprint| a.distance(b).unwrap_or(256);
    let pairs = (0..prints.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
    let nearest = pairs.map(|(a, b)| distance(&prints[a], &prints[b])).min().unwrap();
    let furthest = copies.iter().map(|(index, copy)| distance(&prints[*index], copy)).max().unwrap();
    eprintln!("fingerprints: {} slides at least {nearest} bits apart, {} copies at most {furthest}", prints.len(), copies.len());
    let allowed = LeakSettings::default().thumbnail_distance;
    assert!(furthest <= allowed && allowed < nearest, "copies {furthest}, strangers {nearest}");
}

fn synthetic(folder: &Path, count: usize) {
    let slides = cohort(&CohortSettings::default()).unwrap();
    slides[..count].par_iter().for_each(|slide| {
        std::fs::write(folder.join(format!("{}.tif", slide.slide_id)), render(slide, 0).unwrap()).unwrap();
    });
}

#[test]
fn copies_of_synthetic_slides_are_told_from_strangers() {
    let folder = tempfile::tempdir().unwrap();
    synthetic(folder.path(), 24);
    let (prints, copies) = prints(folder.path(), 4);
    copies_are_told_from_strangers(&prints, &copies);
}

#[test]
fn copies_of_real_tissue_are_told_from_strangers() {
    let Some(data) = test_data("copies_of_real_tissue_are_told_from_strangers") else { return };
    let (prints, copies) = prints(&data.join("lung-mil/slides"), 8);
    copies_are_told_from_strangers(&prints, &copies);
}

#[test]
fn a_tile_run_stores_the_fingerprint_and_a_bag_carries_it() {
    let folder = tempfile::tempdir().unwrap();
    let (made, tiles) = (folder.path().join("slides"), folder.path().join("tiles"));
    std::fs::create_dir(&made).unwrap();
    synthetic(&made, 1);
    let output = wsi(["tile", "--slides", made.to_str().unwrap(), "--out", tiles.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    let plan = coords::read(&tiles.join("patches/synth_000_0_patches.h5")).unwrap();
    let seen = print(slides::open(&made.join("synth_000_0.tif")).unwrap().as_ref());
    assert_eq!(plan.fingerprint, Some(seen));

    let features = bag::Features { values: vec![half::f16::ONE; plan.coords.len()], tiles: plan.coords.len(), width: 1 };
    let path = folder.path().join("a.h5");
    bag::write(&path, &plan, &features, &bag::Origin { encoder: "none".into(), weights: "none".into(), computed: None }, None).unwrap();
    assert_eq!(bag::read_header(&path).unwrap().unwrap().fingerprint, Some(seen));
}

#[test]
fn a_near_duplicate_is_named_and_stops_at_the_distance() {
    let row = |slide: &str, class, part: &str| (slide.to_owned(), slide.to_owned(), class, String::new(), part.to_owned());
    let labels = Labels::new(2, vec![row("a", 0, "train"), row("b", 1, "train"), row("c", 0, "valid"), row("d", 1, "test")]);
    let by_part: SplitSettings =
        Config::load(None, &["split={name='column', column='part', test=['test'], valid=['valid']}".to_owned()]).unwrap().split;
    let split = by_part.divide(&labels, 0).unwrap();
    let identity = |bits: u64| Identity {
        fingerprint: Some(Fingerprint { bits: [bits, u64::MAX, 0, 5], colour: [200, 120, 160] }),
        ..Identity::default()
    };
    let identities = [identity(0), Identity::default(), identity(0x0fff_ffff_0000_0000), identity(0x00ff_ffff)];
    let found = leaks::find(&LeakSettings::default(), &labels, &split, &identities).unwrap();
    assert_eq!(found.len(), 1, "24 bits are near, 28 and 52 are not: {found:?}");
    assert_eq!(found[0].kind, Kind::NearDuplicate);
    assert_eq!(found[0].to_string(), "train: 'a', test: 'd': thumbnails differ in 24 of 256 bits");
    let strict = LeakSettings { thumbnail_distance: 23, ..LeakSettings::default() };
    assert!(leaks::find(&strict, &labels, &split, &identities).unwrap().is_empty());
}

const BY_CENTRE: &str = "split={name='column', column='centre', test=['west'], validation=0.2}";

/// A cohort of bags in which patients p00 (east) and p03 (west) are of one class.
fn bags(folder: &Path) -> Data {
    crate::train::cohort(folder, 3, 6)
}

fn refused(data: &Data, out: &Path, overrides: &[&str]) -> String {
    train::run(&config(&[&[BY_CENTRE], overrides].concat()), data, out, &machine()).unwrap_err().to_string()
}

#[test]
fn a_clean_cohort_trains_without_a_waiver() {
    let folder = tempfile::tempdir().unwrap();
    let data = bags(folder.path());
    let out = folder.path().join("run");
    let summary = train::run(&config(&[BY_CENTRE, "train.epochs=1", "leaks.external=centre"]), &data, &out, &machine()).unwrap();
    assert_eq!(summary.figures["waivers"], serde_json::json!([]));
}

#[test]
fn a_copied_bag_is_found_whoever_wrote_it_and_a_reason_is_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let data = bags(folder.path());
    let (original, copy) = (data.data.join("p00_0.h5"), data.data.join("p03_1.h5"));
    std::fs::copy(original, &copy).unwrap();
    let error = refused(&data, &folder.path().join("a"), &[]);
    assert!(error.contains("'p00_0'") && error.contains("'p03_1'") && error.contains("same features"), "{error}");

    // The copy as another program would have written it.
    hdf5::File::open_rw(&copy).unwrap().delete_attr("wsi").unwrap();
    let error = refused(&data, &folder.path().join("b"), &[]);
    assert!(error.contains("'p00_0'") && error.contains("'p03_1'") && error.contains("same features"), "{error}");
    assert!(!folder.path().join("b/split.csv").exists(), "a run that is refused leaves no results");

    let allowed = config(&[BY_CENTRE, "train.epochs=1", "leaks.allow=a planted copy"]);
    let (out, probed) = (folder.path().join("c"), folder.path().join("c-probe"));
    let summary = train::run(&allowed, &data, &out, &machine()).unwrap();
    probe::run(&allowed, &probe::Inputs { train: out, data, tiles: None }, &probed, &machine()).unwrap();
    let waivers = ScoreFile::read(&probed).unwrap().waivers;
    assert_eq!(waivers.len(), 1, "{waivers:?}");
    assert!(waivers[0].starts_with("same slide, ") && waivers[0].ends_with("| test: 1; allowed: a planted copy"), "{waivers:?}");
    assert_eq!(summary.figures["waivers"], serde_json::json!(waivers));
}

#[test]
fn the_same_slide_file_and_the_same_tiles_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let bags = folder.path().join("bags");
    let outline = |tiles: i64, seed: i64| (0..tiles).map(|i| Coord { x: 448 * (i + seed) % 8960, y: 448 * (i / 3) }).collect::<Vec<_>>();
    let write = |id: &str, digest: &str, coords: Vec<Coord>, value: f32| {
        let tiles = coords.len();
        let tissue = vec![1.0; tiles];
        let plan = wsi::ground::plan::Plan { slide_digest: digest.into(), coords, tissue, ..crate::train::plan(id, 1) };
        let features = bag::Features { values: vec![half::f16::from_f32(value); 2 * tiles], tiles, width: 2 };
        let origin = bag::Origin { encoder: "none".into(), weights: "none".into(), computed: None };
        bag::write(&bags.join(format!("{id}.h5")), &plan, &features, &origin, None).unwrap();
    };
    let (one, other) = ("1".repeat(64), "2".repeat(64));
    write("a", &one, outline(30, 0), 1.0);
    write("b", &one, outline(31, 0), 2.0);
    write("c", "none", outline(30, 0), 3.0);
    write("d", &other, outline(30, 7), 4.0);
    let row = |slide: &str, class, part: &str| (slide.to_owned(), slide.to_owned(), class, String::new(), part.to_owned());
    let labels = Labels::new(1, vec![row("a", 0, "train"), row("b", 0, "test"), row("c", 0, "test"), row("d", 0, "test")]);
    let split = Config::load(None, &["split={name='bracs-official'}".to_owned()]).unwrap().split.divide(&labels, 0).unwrap();
    let ids: Vec<String> = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
    let identities = wsi::store::identity::read(&bags, &ids).unwrap();
    let found = leaks::find(&LeakSettings::default(), &labels, &split, &identities).unwrap();
    let said: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        ["train: 'a', test: 'b': the same slide file (equal digest)", "train: 'a', test: 'c': the same tiles (equal coordinates)",]
    );
}

#[test]
fn a_shared_patient_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let data = bags(folder.path());
    let labels = data.labels.clone().unwrap();
    let text = std::fs::read_to_string(&labels).unwrap().replace("p03_1,p03,", "p03_1,p00,");
    std::fs::write(&labels, text).unwrap();
    let error = refused(&data, &folder.path().join("a"), &[]);
    assert!(error.contains("same patient") && error.contains("patient 'p00'") && error.contains("'p03_1'"), "{error}");
}

#[test]
fn a_claim_of_external_validation_is_held_to() {
    let folder = tempfile::tempdir().unwrap();
    let data = bags(folder.path());
    let out = folder.path().join("a");
    let by_fold = config(&["split={name='k-fold', folds=3}", "leaks.external=centre"]);
    let error = train::run(&by_fold, &data, &out, &machine()).unwrap_err().to_string();
    assert!(error.contains("not external, train | test: 2") && error.contains("centre 'east'"), "{error}");
}

#[test]
fn a_checkpoint_of_another_split_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = bags(folder.path());
    let run = |fold: usize| {
        let out = folder.path().join(format!("fold{fold}"));
        train::run(&config(&["train.epochs=1", &format!("split.fold={fold}")]), &data, &out, &machine()).unwrap();
        out
    };
    let (first, second) = (run(0), run(1));
    for file in ["checkpoint-best.safetensors", "checkpoint-last.safetensors"] {
        std::fs::copy(second.join(file), first.join(file)).unwrap();
    }
    let inputs = probe::Inputs { train: first, data, tiles: None };
    let error = probe::run(&config(&[]), &inputs, &folder.path().join("probe"), &machine()).unwrap_err().to_string();
    assert!(error.contains("was trained on the split"), "{error}");
}

#[test]
fn the_program_takes_a_split_file_a_reason_and_a_protocol() {
    let folder = tempfile::tempdir().unwrap();
    let data = bags(folder.path());
    let earlier = folder.path().join("earlier");
    train::run(&config(&[BY_CENTRE, "train.epochs=1"]), &data, &earlier, &machine()).unwrap();
    let out = folder.path().join("out");
    let split = earlier.join("split.csv");
    let argument = |path: &Path| path.to_str().unwrap().to_owned();
    let labels = data.labels.clone().unwrap();
    let call = |more: &[&str]| {
        let mut all = ["train", "--device", "cpu", "--epochs", "1", "--set", "split.title=by hand"].map(str::to_owned).to_vec();
        all.extend(["--data".into(), argument(&data.data), "--labels".into(), argument(&labels), "--out".into(), argument(&out)]);
        all.extend(["--split".into(), argument(&split)]);
        all.extend(more.iter().map(|&word| word.to_owned()));
        wsi(all)
    };
    let output = call(&["--protocol", "paper", "--allow-leak", "true"]);
    assert!(output.status.success(), "{}", said(&output));
    let scores = ScoreFile::read(&out.join("probe")).unwrap();
    assert_eq!((scores.split.name.as_str(), scores.protocol.as_str()), ("by hand", "paper"));
    assert!(scores.waivers.is_empty() && scores.inputs.contains_key("split"), "{:?}", scores.inputs);
    assert_eq!(std::fs::read(out.join("split.csv")).unwrap(), std::fs::read(&split).unwrap());

    let output = call(&["--set", "train.select=loss"]);
    assert!(!output.status.success() && said(&output).contains("other settings"), "{}", said(&output));
}
