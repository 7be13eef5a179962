//! Tissue masks on real pictures: blank glass and pen give nothing, tissue is found beside them.

use image::imageops::{FilterType, resize};
use wsi::tissue::{Mask, TissueSettings};

use crate::data::test_data;

/// The picture at 8 µm/px, the pixel size that `tile` looks at, and its mask; `mpp` is the picture's own, estimated.
fn mask(name: &str, mpp: f64, picture: &str) -> Option<Mask> {
    let path = test_data("tissue")?.join("tissue").join(picture);
    let image = image::open(&path).unwrap_or_else(|error| panic!("{picture}: {error}")).to_rgb8();
    let factor = (mpp / 8.0).min(1.0);
    let scaled = |length: u32| (f64::from(length) * factor).round() as u32;
    let image = resize(&image, scaled(image.width()), scaled(image.height()), FilterType::Triangle);
    Some(TissueSettings::named(name).expect("a member").mask(&image, mpp.max(8.0)))
}

#[test]
fn blank_glass_and_pen_are_no_tissue() {
    for picture in ["almost-white-1.png", "no-tissue.png", "no-tissue-line.png", "no-tissue-green-pen.png"] {
        for name in ["hsv", "otsu"] {
            let Some(mask) = mask(name, 4.0, picture) else { return };
            assert!(mask.coverage() < 0.02, "{name} finds {:.3} tissue in {picture}", mask.coverage());
        }
    }
}

#[test]
fn tissue_is_found_beside_pen_marks() {
    // Shares as seen by eye on the pictures.
    for (picture, mpp, low, high) in [
        ("tcga-lung-rgb.png", 0.25, 0.95, 1.0),
        ("tissue-level2-1784-6289-5880-10386.png", 4.0, 0.65, 0.85),
        ("diagnostic-slide-thumb-rgb.png", 30.0, 0.40, 0.55),
        ("medium-nuclei-score-green-pen-level1.png", 1.0, 0.35, 0.5),
        ("tcga-green-pen.png", 2.0, 0.65, 0.85),
        ("tcga-red-pen.png", 2.0, 0.55, 0.85),
        ("wsi-blue-pen.png", 60.0, 0.2, 0.45),
    ] {
        for name in ["hsv", "otsu"] {
            let Some(mask) = mask(name, mpp, picture) else { return };
            assert!((low..=high).contains(&mask.coverage()), "{name} finds {:.3} tissue in {picture}", mask.coverage());
        }
    }
}
