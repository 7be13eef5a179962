//! Annotations as ASAP, the CAMELYON challenges and QuPath write them, and the tiles that follow from them.

use std::collections::BTreeSet;

use rand::Rng;
use wsi::ground::seed;
use wsi::store::annotations::{self, Kind};
use wsi::store::coords;

use super::data::test_data;
use super::program::{said, wsi};

#[test]
fn real_asap_files_are_read() {
    let Some(data) = test_data("real_asap_files_are_read") else { return };
    let read = |name: &str| annotations::read(&data.join("labels/asap").join(name)).unwrap();

    let polygon = read("asap-polygon.xml");
    assert_eq!((polygon.shapes.len(), polygon.groups.len()), (1, 0));
    let shape = &polygon.shapes[0];
    assert_eq!((shape.name.as_str(), shape.kind, &shape.group, shape.points.len()), ("Annotation 0", Kind::Polygon, &None, 6));
    assert_eq!((shape.points[0], shape.points[5]), ([22851.3281, 16551.1797], [22954.1191, 16565.2363]));
    let outline = shape.outline.as_ref().unwrap();
    assert_eq!((outline.ring().len(), outline.ring()[0], outline.ring()[6]), (7, shape.points[0], shape.points[0]));
    assert!(outline.contains([22850.0, 16640.0]) && !outline.contains([23000.0, 16700.0]));

    let points = read("asap-pointset.xml");
    assert_eq!((points.shapes[0].kind, points.shapes[0].points.len(), &points.shapes[0].outline), (Kind::PointSet, 5, &None));
    let dot = read("asap-dot.xml");
    assert_eq!((dot.shapes[0].kind, &dot.shapes[0].points[..]), (Kind::Dot, &[[23071.5605, 16831.0098]][..]));
    assert!(dot.region(&["None"], &[]).outlines.is_empty());
}

#[test]
fn a_file_of_another_kind_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.xml");
    std::fs::write(&path, "<Annotations/>").unwrap();
    let error = format!("{:#}", annotations::read(&path).unwrap_err());
    assert!(error.contains("slide.xml") && error.contains("no ASAP file"), "{error}");
    assert!(!error.contains(folder.path().to_str().unwrap()), "{error}");
}

#[test]
fn tiles_are_those_inside_or_outside_of_the_outlines() {
    let Some(data) = test_data("tiles_are_those_inside") else { return };
    // Outlines of this slide are squares of 280 px, its grid's own at 0.5 µm/px: tile and outline agree one by one.
    let slide = data.join("lung-mil/slides/lung_023_1.tif");
    let drawn = annotations::read(&data.join("lung-mil/annotations/lung_023_1.geojson")).unwrap();
    let corners: BTreeSet<(i64, i64)> = drawn.shapes.iter().map(|shape| (shape.points[0][0] as i64, shape.points[0][1] as i64)).collect();
    assert!(corners.len() > 20 && drawn.outlines_by_group().keys().eq(&["squamous"]));

    let folder = tempfile::tempdir().unwrap();
    let tiled = |name: &str, more: &[&str]| -> BTreeSet<(i64, i64)> {
        let out = folder.path().join(name);
        let fixed = ["tile", "--slides", slide.to_str().unwrap(), "--out", out.to_str().unwrap(), "--tissue", "none"];
        let output = wsi([&fixed, more].concat());
        assert!(output.status.success(), "{}", said(&output));
        coords::read(&out.join("patches/lung_023_1_patches.h5")).unwrap().coords.iter().map(|at| (at.x, at.y)).collect()
    };
    let roi = data.join("lung-mil/annotations");
    let roi = roi.to_str().unwrap();
    let all = tiled("all", &[]);
    assert_eq!(tiled("inside", &["--roi", roi]), corners);
    assert_eq!(tiled("class", &["--roi", roi, "--roi-classes", "squamous,adenocarcinoma"]), corners);
    let outside = tiled("outside", &["--roi", roi, "--roi-outside"]);
    assert!(outside.is_disjoint(&corners) && outside.union(&corners).eq(&all));

    // The same region painted, a sixteenth of the size.
    let plan = coords::read(&folder.path().join("all/patches/lung_023_1_patches.h5")).unwrap();
    let region = drawn.region::<&str>(&[], &[]);
    let painted = image::GrayImage::from_fn(plan.canvas.width / 16, plan.canvas.height / 16, |x, y| {
        image::Luma([255 * u8::from(region.contains([f64::from(x) * 16.0 + 8.0, f64::from(y) * 16.0 + 8.0]))])
    });
    let mask = folder.path().join("drawn.png");
    painted.save(&mask).unwrap();
    assert_eq!(tiled("painted", &["--roi", mask.to_str().unwrap()]), corners);
}

#[test]
fn a_slide_on_which_nothing_is_drawn_fails_by_name_or_is_skipped_by_name() {
    let Some(data) = test_data("a_slide_on_which_nothing_is_drawn") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (slides, roi) = (folder.path().join("slides"), folder.path().join("roi"));
    std::fs::create_dir_all(&slides).unwrap();
    std::fs::create_dir(&roi).unwrap();
    for id in ["lung_000_0", "lung_000_1", "lung_023_1"] {
        std::fs::copy(data.join(format!("lung-mil/slides/{id}.tif")), slides.join(format!("{id}.tif"))).unwrap();
    }
    // The first has no file, the second a file without outlines.
    for id in ["lung_000_1", "lung_023_1"] {
        std::fs::copy(data.join(format!("lung-mil/annotations/{id}.geojson")), roi.join(format!("{id}.geojson"))).unwrap();
    }
    let tile = |out: &str, more: &[&str]| {
        let out = folder.path().join(out);
        let fixed = ["tile", "--slides", slides.to_str().unwrap(), "--out", out.to_str().unwrap(), "--roi", roi.to_str().unwrap()];
        let output = wsi([&fixed, more].concat());
        (output.status.code(), said(&output), std::fs::read_to_string(out.join("slides.csv")).unwrap())
    };
    let (code, _, table) = tile("refused", &[]);
    assert_eq!(code, Some(1));
    assert!(table.contains("none of 'lung_000_0.geojson'") && table.contains("no outline in 'lung_000_1.geojson'"), "{table}");
    let (code, text, table) = tile("skipped", &["--set", "tile.roi.missing=skip"]);
    assert_eq!((code, table.matches("skipped").count(), table.matches(",done,").count()), (Some(0), 2, 1), "{text}{table}");

    let one = folder.path().join("roi/lung_023_1.geojson");
    let output = wsi(["tile", "--slides", slides.to_str().unwrap(), "--out", "x", "--roi", one.to_str().unwrap()].map(str::to_owned));
    assert!(!output.status.success() && said(&output).contains("is one file for 3 slides"), "{}", said(&output));
}

#[test]
fn contours_of_a_real_slide_are_its_mask() {
    let Some(data) = test_data("contours_of_a_real_slide") else { return };
    let folder = tempfile::tempdir().unwrap();
    let written = |threads: &str| {
        let out = folder.path().join(threads);
        let slide = data.join("slides/CMU-1-Small-Region.svs");
        let output = wsi(["tile", "--slides", slide.to_str().unwrap(), "--out", out.to_str().unwrap(), "--threads", threads]);
        assert!(output.status.success(), "{}", said(&output));
        out.join("contours_geojson/CMU-1-Small-Region.geojson")
    };
    let file = written("1");
    assert_eq!(std::fs::read(&file).unwrap(), std::fs::read(written("2")).unwrap());
    let contours = annotations::read(&file).unwrap().region::<&str>(&[], &[]);
    let plan = coords::read(&folder.path().join("1/patches/CMU-1-Small-Region_patches.h5")).unwrap();
    assert!(!contours.outlines.is_empty());
    for (share, tissue) in contours.shares(&plan.coords, plan.window.side_level0_px).into_iter().zip(plan.tissue) {
        assert!((share - tissue).abs() < 0.01, "{share} of the contours, {tissue} of the mask");
    }
}

#[test]
fn damaged_files_are_errors_and_never_panics() {
    let Some(data) = test_data("damaged_files_are_errors") else { return };
    let mut random = seed::stream(0, "damaged-annotations");
    for file in ["lung-mil/annotations/lung_023_1.geojson", "labels/asap/asap-polygon.xml"] {
        let whole = std::fs::read(data.join(file)).unwrap();
        assert!(annotations::parse(&whole).is_ok());
        for length in (0..whole.len().min(400)).chain((400..whole.len()).step_by(97)) {
            let cut = annotations::parse(&whole[..length]);
            assert!(cut.is_err() || whole[length..].iter().all(u8::is_ascii_whitespace), "{file} cut at {length}");
        }
        for _ in 0..2000 {
            let mut bytes = whole.clone();
            for _ in 0..random.random_range(1..6) {
                let at = random.random_range(0..bytes.len());
                bytes[at] = random.random();
            }
            drop(annotations::parse(&bytes));
        }
    }
}
