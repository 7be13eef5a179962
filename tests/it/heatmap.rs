//! `wsi heatmap`: numbers, pictures and objects for QuPath, against bags whose tiles are known.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::f16;
use serde::Deserialize;
use serde_json::{Value, json};
use wsi::ground::plan::{Plan, Window};
use wsi::ground::reader::Reader;
use wsi::ground::units::{Coord, Mpp, Size};
use wsi::store::bag::{self, Features, Origin};
use wsi::store::heatmap::{self, HeatmapFile};

use crate::program::{said, wsi};

const SIDE: i64 = 200;
const CORNER: Coord = Coord { x: 3000, y: 500 };
const WIDTH: usize = 8;

/// Twelve slides of six patients, tiles on a grid; one class has three tiles in a corner that look unlike all others.
struct Cohort {
    folder: tempfile::TempDir,
}

impl Cohort {
    /// Bags with labels and drawings, and a model that was trained and probed on them.
    fn new(aggregator: &str) -> Self {
        let cohort = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir_all(cohort.path("bags")).unwrap();
        std::fs::create_dir_all(cohort.path("drawn")).unwrap();
        let mut labels = "slide_id,patient_id,label\n".to_owned();
        for slide in 0..12 {
            let (id, tumour) = (format!("s{slide:02}"), slide % 2 == 1);
            labels += &format!("{id},p{},{}\n", slide / 2, if tumour { "tumour" } else { "normal" });
            cohort.bag(&id, tumour, grid());
            // Half of a tile beside the three as well, which is not enough of it.
            let square = [[3000, 500], [3690, 500], [3690, 710], [3000, 710], [3000, 500]];
            let features: Vec<Value> = tumour
                .then(|| json!({ "type": "Feature", "geometry": { "type": "Polygon", "coordinates": [square] }, "properties": {} }))
                .into_iter()
                .collect();
            let drawn = json!({ "type": "FeatureCollection", "features": features });
            std::fs::write(cohort.path(&format!("drawn/{id}.geojson")), drawn.to_string()).unwrap();
        }
        std::fs::write(cohort.path("labels.csv"), labels).unwrap();
        let aggregator = format!("train.model.aggregator.name={aggregator}");
        let settings =
            [aggregator.as_str(), "split.folds=2", "split.validation=0.0", "probe.resamples=100", "train.optimizer.learning-rate=0.01"];
        let [bags, labels, model] = ["bags", "labels.csv", "model"].map(|name| cohort.text(name));
        let train = ["train", "--data", &bags, "--labels", &labels, "--out", &model, "--epochs", "30", "--device", "cpu"];
        let output = wsi([&train[..], settings.map(|setting| ["--set", setting]).as_flattened()].concat());
        assert!(output.status.success(), "{}", said(&output));
        cohort
    }

    fn bag(&self, id: &str, tumour: bool, coords: Vec<Coord>) {
        let number: usize = id[1..].parse().unwrap();
        let value = |tile: usize, column: usize| {
            let noise = ((tile * 7 + column * 13 + number * (tile + 3)) % 23) as f32 / 23.0;
            if tumour && tile < 3 && column < 2 { 4.0 } else { noise }
        };
        let values = (0..coords.len()).flat_map(|tile| (0..WIDTH).map(move |column| f16::from_f32(value(tile, column)))).collect();
        let features = Features { values, tiles: coords.len(), width: WIDTH };
        let origin = Origin { encoder: "planted".into(), weights: "none".into(), computed: None };
        bag::write(&self.path(&format!("bags/{id}.h5")), &plan(id, coords), &features, &origin, None).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn look(&self, out: &str, more: &[&str]) -> std::process::Output {
        let (model, out) = (self.text("model"), self.text(out));
        wsi([&["heatmap", &model, "--out", &out, "--device", "cpu"], more].concat())
    }

    fn looked(&self, out: &str, more: &[&str]) -> HeatmapFile {
        let output = self.look(out, more);
        assert!(output.status.success(), "{}", said(&output));
        HeatmapFile::read(&self.path(out)).unwrap()
    }
}

/// A row of ten, two rows of ten below: the first three are the tumour's.
fn grid() -> Vec<Coord> {
    (0..30).map(|tile| Coord { x: CORNER.x + SIDE * (tile % 10), y: CORNER.y + SIDE * (tile / 10) }).collect()
}

fn plan(id: &str, coords: Vec<Coord>) -> Plan {
    Plan {
        slide_id: id.to_owned(),
        slide_file: format!("{id}.mrxs"),
        slide_digest: format!("digest of {id}"),
        canvas: Size { width: 8000, height: 4000 },
        bounds: Some((CORNER, Size { width: 4000, height: 3000 })),
        mpp: Mpp::square(0.25),
        mpp_source: "slide".into(),
        window: Window {
            level: 0,
            level_downsample: 1.0,
            decode_scale: 1,
            read_px: SIDE as u32,
            tile_px: SIDE as u32,
            side_level0_px: SIDE as u32,
            step_level0_px: SIDE as u32,
            mpp_requested: 0.25,
            mpp_true: 0.25,
            residual: 0.0,
            reader: Reader::OpenSlide,
        },
        fingerprint: None,
        tissue: vec![1.0; coords.len()],
        coords,
    }
}

/// What QuPath documents of a feature, and nothing else: <https://qupath.readthedocs.io>, "Exporting annotations" and its GeoJSON type adapters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Collection {
    r#type: String,
    features: Vec<Feature>,
    /// A foreign member, as RFC 7946 allows.
    wsi: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Feature {
    r#type: String,
    id: String,
    geometry: Geometry,
    properties: Properties,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Geometry {
    r#type: String,
    coordinates: Vec<Vec<[f64; 2]>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Properties {
    object_type: String,
    name: Option<String>,
    classification: Option<Classification>,
    is_locked: Option<bool>,
    measurements: Option<BTreeMap<String, f64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Classification {
    name: String,
    color: [u8; 3],
}

/// Reads a file as QuPath would and checks what it takes for granted.
fn opened(path: &Path) -> Collection {
    let collection: Collection = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(collection.r#type, "FeatureCollection");
    let mut ids = std::collections::BTreeSet::new();
    for feature in &collection.features {
        assert_eq!((feature.r#type.as_str(), feature.geometry.r#type.as_str()), ("Feature", "Polygon"));
        let parts: Vec<usize> = feature.id.split('-').map(str::len).collect();
        let hexadecimal = feature.id.chars().all(|c| c == '-' || c.is_ascii_digit() || ('a'..='f').contains(&c));
        assert!(parts == [8, 4, 4, 4, 12] && hexadecimal && ids.insert(&feature.id), "'{}' is no UUID of its own", feature.id);
        assert!(feature.geometry.coordinates.iter().all(|ring| ring.len() > 3 && ring.first() == ring.last()), "rings are closed");
        let of = &feature.properties;
        match of.object_type.as_str() {
            "tile" => assert!(of.measurements.as_ref().is_some_and(|m| !m.is_empty()) && of.classification.is_none()),
            "annotation" => assert!(
                of.name.is_some()
                    && of.is_locked.is_some()
                    && of.classification.as_ref().is_some_and(|c| !c.name.is_empty() && c.color != [0; 3])
            ),
            other => panic!("QuPath has no objects of type '{other}'"),
        }
    }
    collection
}

/// Enclosed area of an outline less its holes.
fn area(rings: &[Vec<[f64; 2]>]) -> f64 {
    let of = |ring: &Vec<[f64; 2]>| ring.windows(2).map(|pair| pair[0][0] * pair[1][1] - pair[1][0] * pair[0][1]).sum::<f64>().abs() / 2.0;
    of(&rings[0]) - rings[1..].iter().map(of).sum::<f64>()
}

#[test]
fn every_file_says_the_same_of_a_slide() {
    let cohort = Cohort::new("abmil");
    let drawn = cohort.text("drawn");
    let file = cohort.looked("looked", &["--annotations", &drawn]);
    assert_eq!((file.slides.len(), file.branches), (6, 1), "the test slides of one fold of two");
    let mut pointed = 0;
    for slide in &file.slides {
        let id = &slide.slide_id;
        let tiles = heatmap::tiles(&cohort.path("looked"), id, &file).unwrap();
        assert_eq!(tiles.coords, grid());
        let attention = tiles.attention.as_ref().unwrap();
        assert!((attention.iter().sum::<f64>() - 1.0).abs() < 1e-6);
        for tile in 0..30 {
            assert!((tiles.classes.iter().map(|class| class[tile]).sum::<f64>() - 1.0).abs() < 1e-6);
        }
        let agreement = slide.agreement.as_ref().unwrap();
        if slide.label == "tumour" {
            // All pairs of a tile inside and one outside.
            let won = |inside: &f64| {
                attention[3..]
                    .iter()
                    .map(|outside| f64::from(u8::from(inside > outside)) + f64::from(u8::from(inside == outside)) / 2.0)
                    .sum::<f64>()
            };
            let auroc = attention[..3].iter().map(won).sum::<f64>() / (3.0 * 27.0);
            let highest = (0..30).max_by(|&a, &b| attention[a].total_cmp(&attention[b])).unwrap();
            assert!((agreement.auroc - auroc).abs() < 1e-12 && agreement.auprc > 0.0, "{slide:?}");
            assert_eq!((agreement.tiles_inside, agreement.lesions, agreement.pointing), (3, 1, highest < 3), "{slide:?}");
            pointed += usize::from(highest < 3);
        } else {
            assert!(agreement.tiles_inside == 0 && agreement.auroc.is_nan() && !agreement.pointing, "{slide:?}");
        }
        let picture = image::open(cohort.path(&format!("looked/pictures/{id}.png"))).unwrap();
        assert_eq!(picture.width(), 1024);
        let objects = opened(&cohort.path(&format!("looked/geojson/{id}.geojson")));
        let (squares, marked): (Vec<_>, Vec<_>) = objects.features.iter().partition(|feature| feature.properties.object_type == "tile");
        assert_eq!(squares.len(), 30);
        for (tile, square) in squares.iter().enumerate() {
            let corner = square.geometry.coordinates[0][0];
            assert_eq!(corner, [(grid()[tile].x - CORNER.x) as f64, (grid()[tile].y - CORNER.y) as f64], "QuPath counts from the bounds");
            assert_eq!(square.properties.measurements.as_ref().unwrap()["attention"], tiles.attention.as_ref().unwrap()[tile]);
        }
        let high: Vec<Coord> =
            tiles.percentile.as_ref().unwrap().iter().zip(grid()).filter(|(share, _)| **share >= 0.9).map(|(_, at)| at).collect();
        let area: f64 = marked.iter().map(|feature| area(&feature.geometry.coordinates)).sum();
        assert!(!high.is_empty() && (area - (high.len() as i64 * SIDE * SIDE) as f64).abs() < 1e-6, "{marked:?}");
    }
    let froc = file.froc.as_ref().unwrap();
    assert_eq!((froc.lesions, froc.slides), (3, 6));
    assert!(froc.points.is_sorted_by(|a, b| a.1 <= b.1) && froc.points[5].1 >= pointed as f64 / 3.0, "{froc:?}");
    let table = std::fs::read_to_string(cohort.path("looked/slides.csv")).unwrap();
    assert!(table.starts_with("slide_id,patient_id,label,predicted,tiles,p_normal,p_tumour,tiles_inside,attention_auroc"), "{table}");

    // The same again is the same to the byte, and with the other origin nothing but QuPath's places differs.
    let again = cohort.looked("again", &["--annotations", &drawn, "--threads", "1"]);
    assert_eq!(serde_json::to_string(&again).unwrap(), serde_json::to_string(&file).unwrap());
    cohort.looked("canvas", &["--annotations", &drawn, "--qupath-origin", "canvas"]);
    let output = cohort.look("misspelt", &["--annotations", &drawn, "--annotation-classes", "Tumor"]);
    assert!(
        output.status.code() == Some(1) && said(&output).contains("no tested slide has an outline of the classes Tumor"),
        "{}",
        said(&output)
    );
    let id = &file.slides[0].slide_id;
    for name in [format!("tiles/{id}.csv"), format!("pictures/{id}.png"), format!("geojson/{id}.geojson")] {
        let [one, two, canvas] = ["looked", "again", "canvas"].map(|run| std::fs::read(cohort.path(run).join(&name)).unwrap());
        assert!(one == two, "{name}");
        assert_eq!(one == canvas, !name.starts_with("geojson"), "{name}");
    }
    let [bounds, canvas] = ["looked", "canvas"].map(|run| opened(&cohort.path(run).join(format!("geojson/{id}.geojson"))));
    assert_eq!(
        (&bounds.wsi["origin"], &canvas.wsi["origin"], &bounds.wsi["corner_level0_px"]),
        (&json!("bounds"), &json!("canvas"), &json!([3000, 500]))
    );
    for (from_bounds, from_canvas) in bounds.features.iter().zip(&canvas.features) {
        for (a, b) in from_bounds.geometry.coordinates[0].iter().zip(&from_canvas.geometry.coordinates[0]) {
            assert_eq!([a[0] + 3000.0, a[1] + 500.0], *b);
        }
    }
}

#[test]
fn without_attention_the_chosen_class_is_shown() {
    let cohort = Cohort::new("mean");
    let drawn = cohort.text("drawn");
    let file = cohort.looked(
        "looked",
        &["--annotations", &drawn, "--set", "heatmap.pictures=[\"attention\",\"classes\"]", "--set", "heatmap.geojson-tiles=4"],
    );
    assert!(
        file.branches == 0
            && file.froc.is_none()
            && file.annotations.is_none()
            && file.slides.iter().all(|slide| slide.agreement.is_none())
    );
    let id = &file.slides.iter().find(|slide| slide.label == "tumour").unwrap().slide_id;
    let tiles = heatmap::tiles(&cohort.path("looked"), id, &file).unwrap();
    assert!(tiles.attention.is_none() && tiles.classes[1][0] > tiles.classes[1][29], "the planted tiles look like tumour");
    for kind in ["", ".class-0", ".class-1"] {
        assert!(cohort.path(&format!("looked/pictures/{id}{kind}.png")).is_file(), "{kind}");
    }
    let objects = opened(&cohort.path(&format!("looked/geojson/{id}.geojson")));
    assert_eq!(objects.features.iter().filter(|feature| feature.properties.object_type == "tile").count(), 4);
}

#[test]
fn a_bad_bag_is_named_and_the_others_are_shown() {
    let cohort = Cohort::new("abmil");
    let file = cohort.looked("first", &[]);
    let [beside, gone, kept] = [0, 1, 2].map(|slide| file.slides[slide].slide_id.clone());
    cohort.bag(&beside, false, vec![Coord { x: 9000, y: 0 }]);
    std::fs::remove_file(cohort.path(&format!("bags/{gone}.h5"))).unwrap();
    let output = cohort.look("looked", &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(said.contains(&format!("the bag of '{beside}' has a tile at x=9000 y=0, beside its slide of 8000x4000 px")), "{said}");
    assert!(said.contains(&format!("{gone}.h5")), "{said}");
    let file = HeatmapFile::read(&cohort.path("looked")).unwrap();
    assert_eq!((file.slides.len(), file.slides[0].slide_id.as_str()), (4, kept.as_str()));
    let failed = std::fs::read_to_string(cohort.path("looked/failed.csv")).unwrap();
    assert_eq!(failed.lines().count(), 3, "{failed}");
    assert!(!failed.contains(cohort.folder.path().to_str().unwrap()), "{failed}");
    // The same folder with other bags is another run.
    let output = cohort.look("first", &[]);
    assert!(
        output.status.code() == Some(1) && crate::program::said(&output).contains("other settings or inputs"),
        "{}",
        crate::program::said(&output)
    );

    let output = cohort.look("other", &["--slides", &cohort.text("drawn")]);
    assert_eq!(output.status.code(), Some(1), "there are no slides in that folder");
    let output = wsi(["heatmap", &cohort.text("bags"), "--out", &cohort.text("nothing")]);
    assert!(
        output.status.code() == Some(1) && crate::program::said(&output).contains("is no probe run"),
        "{}",
        crate::program::said(&output)
    );
}
