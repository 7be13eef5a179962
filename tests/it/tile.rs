//! `wsi tile` on real slides and on synthetic ones: the right squares, the right pixels, the same bytes every time.

use std::collections::BTreeMap;
use std::path::Path;

use image::RgbImage;
use wsi::ground::plan::Plan;
use wsi::ground::tile_status::TileStatus;
use wsi::ground::units::{Coord, Size};
use wsi::slides;
use wsi::store::coords;
use wsi::synth::{CohortSettings, cohort, render};
use wsi::tiling::stream::for_each_batch;

use crate::data::test_data;
use crate::program::{said, wsi};

/// Three synthetic slides, one of each class, from both centres.
fn synthetic(folder: &Path) {
    let slides = cohort(&CohortSettings::default()).unwrap();
    for slide in [&slides[0], &slides[2], &slides[10]] {
        std::fs::write(folder.join(format!("{}.tif", slide.slide_id)), render(slide, 0).unwrap()).unwrap();
    }
}

/// Every output that must not depend on the machine, by its name inside the folder.
fn outputs(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::from([("slides.csv".to_owned(), std::fs::read(out.join("slides.csv")).unwrap())]);
    for folder in ["patches", "thumbnails", "visualization"] {
        for entry in std::fs::read_dir(out.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            files.insert(format!("{folder}/{}", path.file_name().unwrap().to_string_lossy()), std::fs::read(path).unwrap());
        }
    }
    files
}

fn tile(slides: &Path, out: &Path, more: &[&str]) {
    let output = wsi([&["tile", "--slides", slides.to_str().unwrap(), "--out", out.to_str().unwrap()], more].concat());
    assert!(output.status.success(), "{}", said(&output));
    assert!(output.stdout.is_empty(), "stdout carries data only");
}

/// The tiles of a plan that have pixels, in order, each with its place.
fn pixels(slide: &Path, plan: &Plan, threads: usize) -> Vec<(Coord, RgbImage)> {
    let slide = slides::open(slide).unwrap();
    let (side, mut tiles) = (plan.window.tile_px, Vec::new());
    for_each_batch(slide.as_ref(), plan, 8, threads, |batch| {
        let places = plan.coords[batch.first..].iter().zip(&batch.status).filter(|(_, status)| **status == TileStatus::Ok);
        let each = batch.pixels.chunks((3 * side * side) as usize);
        tiles.extend(places.zip(each).map(|((at, _), tile)| (*at, RgbImage::from_raw(side, side, tile.to_vec()).unwrap())));
        Ok(())
    })
    .unwrap();
    tiles
}

#[test]
fn outputs_are_the_same_bytes_at_any_thread_count_and_after_an_interruption() {
    let folder = tempfile::tempdir().unwrap();
    let slides = folder.path().join("slides");
    std::fs::create_dir(&slides).unwrap();
    synthetic(&slides);
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    tile(&slides, &one, &["--threads", "1"]);
    tile(&slides, &two, &["--threads", "2"]);
    let first = outputs(&one);
    assert_eq!(first.len(), 1 + 3 * 3);
    assert!(first == outputs(&two));

    // Cut off before the end: one slide's coordinates missing, no run.json.
    std::fs::remove_file(two.join("run.json")).unwrap();
    std::fs::remove_file(two.join("patches/synth_001_0_patches.h5")).unwrap();
    tile(&slides, &two, &[]);
    assert!(first == outputs(&two));

    let root = folder.path().to_str().unwrap().as_bytes();
    for (name, bytes) in &first {
        assert!(!bytes.windows(root.len()).any(|window| window == root), "{name} holds an absolute path");
    }
}

#[test]
fn unscanned_area_is_white_not_black() {
    let folder = tempfile::tempdir().unwrap();
    synthetic(folder.path());
    let slide = slides::open(&folder.path().join("synth_000_0.tif")).unwrap();
    let corner = slide.read(Coord { x: 0, y: 0 }, Size { width: 32, height: 32 }, 0).unwrap();
    assert!(corner.pixels().all(|pixel| pixel.0 == [255; 3]));
}

#[test]
fn tiles_of_a_known_picture_are_its_pixels_in_red_green_blue_order() {
    let Some(data) = test_data("tiles_of_a_known_picture") else { return };
    let folder = tempfile::tempdir().unwrap();
    let slide = data.join("slides/boxes.tiff");
    tile(&slide, folder.path().join("out").as_path(), &["--slide-mpp", "0.5", "--tile-px", "50", "--step-px", "37", "--tissue", "none"]);
    let plan = coords::read(&folder.path().join("out/patches/boxes_patches.h5")).unwrap();
    assert_eq!((plan.mpp_source.as_str(), plan.window.level, plan.coords.len()), ("argument", 0, 7 * 6));
    let truth = image::open(data.join("slides/boxes.png")).unwrap().to_rgb8();
    let tiles = pixels(&slide, &plan, 2);
    assert!(tiles.len() > 20, "squares of one colour have no pixels, the others do: {}", tiles.len());
    for (at, tile) in tiles {
        for (x, y, pixel) in tile.enumerate_pixels() {
            assert_eq!(pixel, truth.get_pixel(at.x as u32 + x, at.y as u32 + y), "at {at:?} + ({x}, {y})");
        }
    }
}

#[test]
fn an_aperio_slide() {
    let Some(data) = test_data("an_aperio_slide") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (data.join("slides/CMU-1-Small-Region.svs"), folder.path().join("out"));
    tile(&file, &out, &[]);
    let plan = coords::read(&out.join("patches/CMU-1-Small-Region_patches.h5")).unwrap();
    assert_eq!((plan.canvas, plan.mpp.x, plan.window.side_level0_px), (Size { width: 2220, height: 2967 }, 0.499, 224));
    assert!((plan.window.residual + 0.002).abs() < 1e-9, "the residual is said: {}", plan.window.residual);
    assert!((45..=55).contains(&plan.coords.len()), "{} tiles", plan.coords.len());
    let (one, two) = (pixels(&file, &plan, 1), pixels(&file, &plan, 2));
    assert!(one == two && one.len() == plan.coords.len());
    let slide = slides::open(&file).unwrap();
    let window = Size { width: 224, height: 224 };
    assert!(one.iter().all(|(at, tile)| *tile == slide.read(*at, window, 0).unwrap()));
    assert!(one.iter().all(|(_, tile)| tile.pixels().any(|pixel| pixel.0[0] > pixel.0[1].saturating_add(20))), "pink, not green or blue");
}

#[test]
fn dicom_slides() {
    let Some(data) = test_data("dicom_slides") else { return };
    let folder = tempfile::tempdir().unwrap();
    let series = slides::list(&data.join("slides/boxes_dcm")).unwrap();
    assert_eq!(series.len(), 1, "the files of one series are one slide");
    assert_eq!((series[0].id.as_str(), series[0].file.as_str()), ("boxes_dcm", "boxes_0.dcm"));
    assert_eq!(series[0].files().count(), 2, "both are digested");
    tile(&data.join("slides/boxes_dcm"), &folder.path().join("boxes"), &["--tile-px", "8", "--tissue", "none"]);
    assert_eq!(coords::read(&folder.path().join("boxes/patches/boxes_dcm_patches.h5")).unwrap().coords.len(), 4);

    tile(&data.join("slides/camelyon_dcm"), &folder.path().join("camelyon"), &["--mpp", "29", "--tile-px", "64"]);
    let patches = folder.path().join("camelyon/patches/multi_frame_jpeg_camelyon_challenge_image_patches.h5");
    let tiles = coords::read(&patches).unwrap().coords.len();
    assert!((50..=75).contains(&tiles), "{tiles} tiles");
}

#[test]
fn a_table_names_slides_and_gives_missing_pixel_sizes() {
    let Some(data) = test_data("a_table_names_slides") else { return };
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("table.csv");
    let boxes = data.join("slides/boxes.tiff").canonicalize().unwrap();
    std::fs::write(&table, format!("slide,mpp\n{},0.5\n", boxes.display())).unwrap();
    tile(&table, &folder.path().join("out"), &["--tile-px", "50", "--tissue", "none"]);
    let plan = coords::read(&folder.path().join("out/patches/boxes_patches.h5")).unwrap();
    assert_eq!((plan.mpp_source.as_str(), plan.slide_file.as_str()), ("table", "boxes.tiff"));

    let labelled = slides::list(&data.join("lung-mil/labels.csv")).unwrap();
    assert_eq!((labelled.len(), labelled[2].file.as_str(), labelled[2].mpp), (48, "slides/lung_001_0.tif", Some(0.4)));
}
