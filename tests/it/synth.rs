//! `wsi synth`: cohorts that tile, have the real ones' names and labels, and are the same bytes for the same seed.

use std::collections::BTreeMap;
use std::path::Path;

use wsi::slides;
use wsi::synth::{BracsSettings, Camelyon17Settings, CohortSettings, SyntheticSlide, cohort, outlines, render};

use crate::program::{said, wsi};

#[test]
fn the_same_seed_is_the_same_slide() {
    let slide = &cohort(&CohortSettings::default()).unwrap()[5];
    let first = render(slide, 7).unwrap();
    assert!(first == render(slide, 7).unwrap());
    assert!(first != render(slide, 8).unwrap());
}

#[test]
fn a_cohort_is_made_once_and_tiles() {
    let folder = tempfile::tempdir().unwrap();
    let (made, tiled) = (folder.path().join("cohort"), folder.path().join("tiles"));
    let synth = || wsi(["synth", "--slides-per-class", "4", "--out", made.to_str().unwrap()]);
    let output = synth();
    assert!(output.status.success(), "{}", said(&output));
    let written = std::fs::metadata(made.join("slides/synth_000_0.tif")).unwrap().modified().unwrap();
    assert!(said(&synth()).contains("nothing to do"));
    assert_eq!(std::fs::metadata(made.join("slides/synth_000_0.tif")).unwrap().modified().unwrap(), written);

    let labels = std::fs::read_to_string(made.join("labels.csv")).unwrap();
    assert_eq!(labels.lines().next(), Some("slide_id,patient_id,label,centre,mpp"));
    for text in [",normal,centre_0,0.5", ",glandular,centre_1,0.4", ",solid,centre_1,0.4"] {
        assert_eq!(labels.matches(text).count(), 2, "{text} in {labels}");
    }
    for slide in slides::list(&made).unwrap() {
        let geometry = slides::open(&slide.path).unwrap().geometry().clone();
        let mpp = geometry.mpp.unwrap().mean();
        assert!((mpp - 0.5).abs() < 1e-9 || (mpp - 0.4).abs() < 1e-9, "{mpp}");
        assert_eq!(geometry.levels.len(), 3);
    }

    let output = wsi(["tile", "--slides", made.to_str().unwrap(), "--out", tiled.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    for entry in std::fs::read_dir(tiled.join("patches")).unwrap() {
        let plan = wsi::store::coords::read(&entry.unwrap().path()).unwrap();
        assert!((30..=60).contains(&plan.coords.len()), "{}: {} tiles", plan.slide_id, plan.coords.len());
    }
}

#[test]
fn a_cohort_that_cannot_be_balanced_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = wsi(["synth", "--slides-per-class", "3", "--out", folder.path().join("x").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("multiple of 4"), "{}", said(&output));
}

/// The slide written into `folder`, opened: width in pixels and µm per pixel.
fn opened(path: &Path) -> (f64, f64) {
    let geometry = slides::open(path).unwrap().geometry().clone();
    (f64::from(geometry.canvas().width), geometry.mpp.unwrap().mean())
}

fn rendered_by_one_thread(slide: &SyntheticSlide, seed: u64) -> Vec<u8> {
    rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(|| render(slide, seed).unwrap())
}

#[test]
fn camelyon17_has_the_real_layout_at_any_thread_count() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("cohort");
    let output = wsi(["synth", "camelyon17", "--scale", "0.05", "--threads", "2", "--out", made.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));

    let stages = std::fs::read_to_string(made.join("stages.csv")).unwrap();
    let labels: BTreeMap<&str, &str> = stages.lines().map(|line| line.split_once(',').unwrap()).collect();
    assert_eq!(stages.lines().next(), Some("patient,stage"));
    assert_eq!(labels.len(), 1 + 5 + 25);
    for class in ["negative", "itc", "micro", "macro"] {
        assert!(stages.lines().any(|line| line.ends_with(&format!(".tif,{class}"))), "no {class} in {stages}");
    }

    let mut pixel_sizes = Vec::new();
    for centre in 0..5 {
        let patient = format!("patient_{:03}", 20 * centre);
        assert!(labels[format!("{patient}.zip").as_str()].starts_with("pN"), "{stages}");
        let sizes: Vec<f64> = (0..5)
            .map(|node| {
                assert!(labels.contains_key(format!("{patient}_node_{node}.tif").as_str()), "{stages}");
                opened(&made.join(format!("training/center_{centre}/{patient}_node_{node}.tif"))).1
            })
            .collect();
        assert!(sizes.iter().all(|size| (size - sizes[0]).abs() < 1e-9), "one scanner a centre: {sizes:?}");
        pixel_sizes.push(sizes[0]);
    }
    pixel_sizes.sort_by(f64::total_cmp);
    assert!(
        pixel_sizes[0] > 0.44 && pixel_sizes[4] < 0.5001 && pixel_sizes.windows(2).all(|pair| pair[1] - pair[0] > 0.005),
        "{pixel_sizes:?}"
    );

    let annotated: Vec<_> = std::fs::read_dir(made.join("lesion_annotations")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(annotated.len(), 5);
    for path in annotated {
        let id = path.file_stem().unwrap().to_str().unwrap();
        assert_ne!(labels[format!("{id}.tif").as_str()], "negative", "{id} has no lesion to outline");
        let centre = id[8..11].parse::<usize>().unwrap() / 20;
        let (width, _) = opened(&made.join(format!("training/center_{centre}/{id}.tif")));
        let xml = std::fs::read_to_string(&path).unwrap();
        assert!(xml.contains("PartOfGroup=\"metastases\"") && xml.contains("<Group Name=\"metastases\""), "{xml}");
        for text in xml.split(" X=\"").skip(1) {
            let x: f64 = text.split('"').next().unwrap().parse().unwrap();
            assert!((0.0..=width).contains(&x), "{id}: {x} is off the slide");
        }
    }

    let planned = cohort(&CohortSettings::Camelyon17(Camelyon17Settings { scale: 0.05, seed: 0 })).unwrap();
    for slide in [&planned[3], &planned[17]] {
        assert!(std::fs::read(made.join(&slide.path)).unwrap() == rendered_by_one_thread(slide, 0), "{}", slide.slide_id);
    }
}

#[test]
fn metastases_are_as_large_as_their_class_says() {
    let slides = cohort(&CohortSettings::Camelyon17(Camelyon17Settings { scale: 1.0, seed: 3 })).unwrap();
    for slide in slides {
        let xml = outlines(&slide, 3).unwrap();
        let longest = xml.split("</Annotation>").map(|polygon| longest_um(polygon, slide.mpp())).fold(0.0, f64::max);
        let limits = match slide.label.as_str() {
            "negative" => 0.0..=0.0,
            "itc" => 5.0..=200.0 / 6.0,
            "micro" => 200.0 / 6.0..=2000.0 / 6.0,
            _ => 2000.0 / 6.0..=1200.0,
        };
        assert!(limits.contains(&longest), "{} is {} with {longest} µm", slide.slide_id, slide.label);
    }
}

/// Greatest distance of two corners of a polygon, µm.
fn longest_um(polygon: &str, mpp: f64) -> f64 {
    let number = |text: &str, key: &str| text.split(key).nth(1).unwrap().split('"').next().unwrap().parse::<f64>().unwrap();
    let corners: Vec<(f64, f64)> =
        polygon.lines().filter(|line| line.contains(" X=")).map(|line| (number(line, "X=\""), number(line, "Y=\""))).collect();
    let distances = corners.iter().flat_map(|a| corners.iter().map(move |b| (a.0 - b.0).hypot(a.1 - b.1) * mpp));
    distances.fold(0.0, f64::max)
}

#[test]
fn bracs_has_the_real_layout() {
    let settings = CohortSettings::Bracs(BracsSettings { scale: 0.1, seed: 0 });
    let planned = cohort(&settings).unwrap();
    let labels = settings.label_file(&planned);
    assert_eq!((labels.path.as_str(), labels.text.lines().next()), ("labels.csv", Some(",case_id,slide_id,split_info,label")));
    assert_eq!(labels.text.lines().count(), 1 + planned.len());

    let folders = ["BT/Type_N", "BT/Type_PB", "BT/Type_UDH", "AT/Type_FEA", "AT/Type_ADH", "MT/Type_DCIS", "MT/Type_IC"];
    for (row, slide) in planned.iter().enumerate() {
        let part = ["train", "val", "test"].into_iter().find(|part| slide.path.starts_with(&format!("BRACS_WSI/{part}/"))).unwrap();
        let class: usize = slide.label.parse().unwrap();
        assert_eq!(slide.path, format!("BRACS_WSI/{part}/Group_{}/{}.tif", folders[class], slide.slide_id));
        let line = format!("{row},{},{},{part},{class}", slide.patient_id, slide.slide_id);
        assert_eq!(labels.text.lines().nth(1 + row), Some(line.as_str()));
    }
    for part in ["train", "val", "test"] {
        let types = (0..7).filter(|class| planned.iter().any(|slide| slide.label == class.to_string() && slide.path.contains(part)));
        assert_eq!(types.count(), 7, "every type in {part}");
    }

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.tif");
    let first = render(&planned[0], 0).unwrap();
    assert!(first == rendered_by_one_thread(&planned[0], 0));
    std::fs::write(&path, first).unwrap();
    assert!((opened(&path).1 - 0.5).abs() < 1e-9);
}

#[test]
fn options_of_another_cohort_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("x");
    let refused = |arguments: &[&str], reason: &str| {
        let output = wsi(["synth", "--out", out.to_str().unwrap()].iter().chain(arguments));
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains(reason), "{}", said(&output));
    };
    refused(&["demo", "--scale", "0.5"], "does not have that option");
    refused(&["camelyon17", "--slides-per-class", "8"], "does not have that option");
    refused(&["camelyon17", "--scale", "1.5"], "at most 1");
    refused(&["rare", "--lesion-share", "0.5"], "0.001 to 0.2");
    assert!(!out.exists(), "a refusal leaves nothing");
}
