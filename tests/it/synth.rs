//! `wsi synth`: a cohort that tiles, is balanced, and is the same bytes for the same seed.

use wsi::slides;
use wsi::synth::{CohortSettings, cohort, render};

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
