//! Tissue masks on real pictures: blank glass and pen give nothing, tissue is found beside them.

use std::path::Path;

use image::imageops::{FilterType, resize};
use wsi::config::Config;
use wsi::tissue::quality::Quality;
use wsi::tissue::{Mask, TissueSettings};

use crate::data::test_data;

/// The picture at 8 µm/px, the pixel size that `tile` looks at, and its mask; `mpp` is the picture's own, estimated.
fn mask(settings: &TissueSettings, mpp: f64, picture: &str) -> Option<Mask> {
    let path = test_data("tissue")?.join("tissue").join(picture);
    let image = image::open(&path).unwrap_or_else(|error| panic!("{picture}: {error}")).to_rgb8();
    let factor = (mpp / 8.0).min(1.0);
    let scaled = |length: u32| (f64::from(length) * factor).round() as u32;
    let image = resize(&image, scaled(image.width()), scaled(image.height()), FilterType::Triangle);
    Some(settings.mask(&image, mpp.max(8.0)))
}

fn named(name: &str) -> TissueSettings {
    TissueSettings::named(name).expect("a member")
}

/// The settings files of `configs/tissue`.
fn presets() -> Vec<(String, TissueSettings)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/tissue");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let preset = |file: &std::path::PathBuf| {
        let settings = Config::load(Some(file), &[]).unwrap_or_else(|error| panic!("{}: {error:#}", file.display())).tile.tissue;
        (file.file_stem().unwrap().to_string_lossy().into_owned(), settings)
    };
    files.iter().map(preset).collect()
}

#[test]
fn blank_glass_and_pen_are_no_tissue() {
    let members = ["hsv", "otsu"].map(|name| (name.to_owned(), named(name)));
    for picture in ["almost-white-1.png", "no-tissue.png", "no-tissue-line.png", "no-tissue-green-pen.png"] {
        for (name, settings) in members.iter().cloned().chain(presets()) {
            let Some(mask) = mask(&settings, 4.0, picture) else { return };
            assert_eq!(mask.coverage(), 0.0, "{name} finds tissue in {picture}");
        }
    }
}

#[test]
fn tissue_is_found_beside_pen_marks() {
    // Shares as seen by eye on the pictures.
    for (picture, mpp, low, high) in [
        ("tcga-lung-rgb.png", 0.25, 0.95, 1.0),
        ("low-nuclei-score-level0.png", 0.25, 0.95, 1.0), // nothing but fat
        ("tissue-level2-1784-6289-5880-10386.png", 4.0, 0.65, 0.85),
        ("diagnostic-slide-thumb-rgb.png", 30.0, 0.40, 0.55),
        ("medium-nuclei-score-green-pen-level1.png", 1.0, 0.35, 0.5),
        ("tcga-green-pen.png", 2.0, 0.65, 0.85),
        ("tcga-red-pen.png", 2.0, 0.55, 0.85),
        ("wsi-blue-pen.png", 60.0, 0.2, 0.45),
    ] {
        for name in ["hsv", "otsu"] {
            let Some(mask) = mask(&named(name), mpp, picture) else { return };
            assert!((low..=high).contains(&mask.coverage()), "{name} finds {:.3} tissue in {picture}", mask.coverage());
        }
    }
}

#[test]
fn presets_find_large_tissue_and_agree_with_the_default() {
    let presets = presets();
    assert_eq!(presets.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["biopsy", "resection", "tcga-like"]);
    for (name, settings) in presets {
        for (picture, mpp) in [("tissue-level2-1784-6289-5880-10386.png", 4.0), ("tcga-green-pen.png", 2.0), ("tcga-red-pen.png", 2.0)] {
            let (Some(found), Some(usual)) = (mask(&settings, mpp, picture), mask(&named("hsv"), mpp, picture)) else { return };
            let difference = found.coverage() - usual.coverage();
            // A piece smaller than a resection's least is none.
            let too_small = name == "resection" && mpp < 4.0;
            assert!(too_small || difference.abs() < 0.2, "{name} differs by {difference:.3} in {picture}");
        }
    }
}

#[test]
fn texture_is_what_finds_fat() {
    let mut colour_alone = named("hsv");
    let TissueSettings::Hsv(settings) = &mut colour_alone else { panic!("{colour_alone:?}") };
    settings.cleaning.texture = 0.0;
    let Some(mask) = mask(&colour_alone, 0.25, "low-nuclei-score-level0.png") else { return };
    assert_eq!(mask.coverage(), 0.0);
}

#[test]
fn quality_tells_pen_glass_and_tissue_apart() {
    let Some(data) = test_data("quality") else { return };
    let quality = |picture: &str, mpp: f64| {
        let image = image::open(data.join("tissue").join(picture)).unwrap().to_rgb8();
        let side = image.width().min(image.height());
        let square = image::imageops::crop_imm(&image, 0, 0, side, side).to_image();
        Quality::of(square.as_raw(), side as usize, mpp)
    };
    let glass = quality("almost-white-1.png", 0.5);
    assert!(glass.whiteness > 0.99 && glass.pen == 0.0 && glass.darkness == 0.0, "{glass:?}");
    let pen = quality("no-tissue-green-pen.png", 4.0);
    assert!(pen.pen > 0.6 && pen.whiteness < 0.3, "{pen:?}");
    let tissue = quality("tcga-lung-rgb.png", 0.25);
    assert!(tissue.pen == 0.0 && tissue.whiteness < 0.25 && tissue.blur < 0.6, "{tissue:?}");
    assert!(pen.blur > tissue.blur, "the pen lies above the focus: {} and {}", pen.blur, tissue.blur);
    let half = quality("medium-nuclei-score-green-pen-level1.png", 1.0);
    assert!((0.3..0.7).contains(&half.pen), "{half:?}");
}
