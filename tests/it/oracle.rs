//! Bags as Python programs read and write them: `tests/oracle/bags.py`, in the environment that `./run test oracle` makes.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::program::{said, wsi};

/// Where the Python packages are, or `None` after saying so.
pub fn packages(test: &str) -> Option<PathBuf> {
    let found = std::env::var_os("WSI_ORACLE").map(PathBuf::from).filter(|folder| folder.is_dir());
    if found.is_none() {
        eprintln!("{test}: skipped: no Python oracle (`./run test oracle` makes one)");
    }
    found
}

/// What a script of `tests/oracle` prints.
pub fn python(packages: &Path, script: &str, arguments: &[&str]) -> Vec<u8> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle").join(script);
    let mut path = packages.as_os_str().to_owned();
    if let Some(torch) = std::env::var_os("WSI_BENCH_TORCH") {
        path.push(":");
        path.push(torch);
    }
    // The library path is for our own libtorch; PyTorch brings its own.
    let output = Command::new("python3")
        .args(["-W", "ignore"])
        .arg(place)
        .args(arguments)
        .env("PYTHONPATH", path)
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap();
    assert!(output.status.success(), "{script} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// What `bags.py` prints.
fn python_bags(packages: &Path, verb: &str, layout: &str, root: &Path) -> Value {
    serde_json::from_slice(&python(packages, "bags.py", &[verb, layout, text(root)])).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn convert(from: &Path, to: &str, out: &Path, more: &[&str]) {
    let output = wsi([&["bags", "convert", text(from), "--to", to, "--out", text(out)], more].concat());
    assert!(output.status.success(), "{}", said(&output));
}

/// What no layout but ours says, for bags of the script.
const GIVEN: [&str; 8] = ["--encoder-name", "oracle-vit", "--slide-mpp", "0.2499", "--tile-px", "224", "--side-level0", "448"];

fn same(one: &Value, other: &Value, fields: &[&str], after: &str) {
    let (one, other) = (one.as_object().unwrap(), other.as_object().unwrap());
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>(), "{after}");
    for (id, bag) in one {
        for field in fields {
            assert!(bag[field] == other[id][field], "{field} of {id} differ after {after}");
        }
    }
}

#[test]
fn bags_of_every_layout_come_in_and_go_back_with_their_coordinates() {
    let Some(packages) = packages("bags_of_every_layout") else { return };
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    std::fs::write(place("labels.csv"), "slide_id,patient_id,label\nslide_a,a,0\nslide_b,b,1\n").unwrap();
    let labels = ["--labels".to_owned(), text(&place("labels.csv")).to_owned()];
    for layout in ["clam", "trident", "stamp", "acmil"] {
        let (made, ours, back) = (place(layout), place(&format!("{layout}-wsi")), place(&format!("{layout}-back")));
        let wanted = python_bags(&packages, "make", layout, &made);
        convert(&made, "wsi", &ours, &GIVEN);
        let read = python_bags(&packages, "dump", "wsi", &ours);
        same(&wanted, &read, &["coords", "features", "side"], &format!("{layout} → wsi"));
        assert!(read.as_object().unwrap().values().all(|bag| bag["encoder"] == "oracle-vit"));
        for other in ["clam", "trident", "stamp", "acmil"] {
            let out = place(&format!("{layout}-wsi-{other}"));
            convert(&ours, other, &out, &[&labels[0], &labels[1]]);
            same(
                &wanted,
                &python_bags(&packages, "dump", other, &out),
                &["coords", "features", "side"],
                &format!("{layout} → wsi → {other}"),
            );
        }
        convert(&place(&format!("{layout}-wsi-{layout}")), "wsi", &back, &GIVEN);
        same(&wanted, &python_bags(&packages, "dump", "wsi", &back), &["coords", "features", "side"], &format!("{layout} there and back"));
    }
}

#[test]
fn atlaspatch_is_read_and_its_encoder_chosen() {
    let Some(packages) = packages("atlaspatch") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (made, ours) = (folder.path().join("made"), folder.path().join("ours"));
    let wanted = python_bags(&packages, "make", "atlaspatch", &made);
    let unclear = wsi(["bags", "convert", text(&made), "--to", "wsi", "--out", text(&ours), "--slide-mpp", "0.2499"]);
    assert!(unclear.status.code() == Some(1) && said(&unclear).contains("choose one with --encoder-name"), "{}", said(&unclear));
    std::fs::remove_dir_all(&ours).ok();
    convert(&made, "wsi", &ours, &["--slide-mpp", "0.2499", "--encoder-name", "oracle-vit"]);
    same(&wanted, &python_bags(&packages, "dump", "wsi", &ours), &["coords", "features", "side"], "atlaspatch → wsi");
    let refused = wsi(["bags", "convert", text(&ours), "--to", "atlaspatch", "--out", text(&folder.path().join("x"))]);
    assert!(said(&refused).contains("read only"), "{}", said(&refused));
}

#[test]
fn what_tile_and_extract_write_opens_in_python() {
    let Some(packages) = packages("what_tile_and_extract_write") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (slides, tiles, bags) = (folder.path().join("slides"), folder.path().join("tiles"), folder.path().join("bags"));
    std::fs::create_dir(&slides).unwrap();
    let made = &wsi::synth::cohort(&wsi::synth::CohortSettings::default()).unwrap()[0];
    std::fs::write(slides.join("x.tif"), wsi::synth::render(made, 0).unwrap()).unwrap();
    let tiled = wsi(["tile", "--slides", text(&slides), "--out", text(&tiles)]);
    assert!(tiled.status.success(), "{}", said(&tiled));
    let random = ["--encoder", "resnet18", "--random-weights", "--device", "cpu"];
    let extracted = wsi([&["extract", "--slides", text(&slides), "--tiles", text(&tiles), "--out", text(&bags)], &random[..]].concat());
    assert!(extracted.status.success(), "{}", said(&extracted));
    let patches = python_bags(&packages, "dump", "patches", &tiles);
    let read = python_bags(&packages, "dump", "wsi", &bags);
    same(&patches, &read, &["coords", "side"], "tile and extract");
    assert_eq!(read["x"]["encoder"], "resnet18");
    let bag = wsi::store::bag::read(&bags.join("bags/x.h5")).unwrap();
    let first: Vec<f64> = bag.features.values[..512].iter().map(|value| value.to_f64()).collect();
    assert_eq!(read["x"]["features"][0], serde_json::json!(first));
}
