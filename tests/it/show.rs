//! `wsi show`: what things are, on one screen, for people and for programs.

use std::path::Path;

use serde_json::Value;
use wsi::store::bag;

use crate::program::{said, wsi};

fn shown(path: &Path) -> (String, Value) {
    let path = path.to_str().unwrap();
    let (text, json) = (wsi(["show", path]), wsi(["show", path, "--json"]));
    assert!(text.status.success() && json.status.success(), "{}", said(&text));
    (String::from_utf8(text.stdout).unwrap(), serde_json::from_slice(&json.stdout).unwrap())
}

#[test]
fn every_step_of_the_river_is_shown_on_one_screen() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_owned();
    let [cohort, slides, labels, tiles, bags, model] =
        ["cohort", "cohort/slides", "cohort/labels.csv", "runs/tiles", "runs/bags", "runs/model"].map(text);
    let random = ["--encoder", "resnet18", "--random-weights", "--device", "cpu"];
    let settings = ["split.folds=2", "split.validation=0.0", "probe.resamples=50", "train.epochs=1"].map(|setting| ["--set", setting]);
    for call in [
        vec!["synth", "--slides-per-class", "4", "--out", &cohort],
        vec!["tile", "--slides", &slides, "--out", &tiles, "--json"],
        [&["extract", "--slides", &slides, "--tiles", &tiles, "--out", &bags][..], &random].concat(),
        [&["train", "--data", &bags, "--labels", &labels, "--out", &model, "--json"][..], settings.as_flattened()].concat(),
    ] {
        let output = wsi(&call);
        assert!(output.status.success(), "{}", said(&output));
        if call.contains(&"--json") {
            let value: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert!(value["stage"] == "tile" || value["decisions"]["lp"].is_object(), "{value}");
        }
    }
    let bag = path("runs/bags/bags/synth_000_0.h5");
    for (thing, kind, says) in [
        (path("cohort/slides/synth_000_0.tif"), "slide", "µm a pixel"),
        (path("cohort/slides"), "slides", "synth_000_1"),
        (path("runs/tiles/patches/synth_000_0_patches.h5"), "coordinates", "footprint"),
        (bag.clone(), "bag", "resnet18"),
        (path("runs/model"), "run", "train.epochs = 1"),
        (path("runs/model/checkpoint-last.safetensors"), "checkpoint", "epochs done"),
        (path("runs"), "runs", "model/probe"),
    ] {
        let (text, json) = shown(&thing);
        assert!(text.starts_with(&format!("{kind}: ")) && text.contains(says), "{text}");
        assert_eq!(json["kind"], kind);
        assert!(text.lines().count() < 60 && !text.contains(folder.path().to_str().unwrap()), "{text}");
    }
    let (_, json) = shown(&bag);
    assert_eq!(json["features a tile"], 512);

    // A changed bag is no bag to show, and what is nothing says what there could be.
    let features: Vec<u8> = bag::read(&bag).unwrap().features.values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let mut bytes = std::fs::read(&bag).unwrap();
    let at = bytes.windows(features.len()).position(|window| window == features).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&bag, bytes).unwrap();
    let output = wsi(["show", bag.to_str().unwrap()]);
    assert!(output.status.code() == Some(1) && said(&output).contains("looks like a bag"), "{}", said(&output));
    let output = wsi(["show", path("nowhere").to_str().unwrap()]);
    assert!(output.status.code() == Some(1) && said(&output).contains("does not exist"), "{}", said(&output));
}
