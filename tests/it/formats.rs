//! `wsi bags`: our bags in other layouts and back, what is wrong said by rule, a screen to look at.

use std::path::Path;

use wsi::store::bag;

use crate::data::test_data;
use crate::program::{said, wsi};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Two of our own bags.
fn bags(folder: &Path) -> std::path::PathBuf {
    for (id, tiles) in [("a", 7), ("b", 3)] {
        let plan = crate::train::plan(id, tiles);
        let values = (0..tiles * 4).map(|i| half::f16::from_f32(i as f32 / 3.0)).collect();
        let features = bag::Features { values, tiles, width: 4 };
        let origin = bag::Origin { encoder: "resnet18".into(), weights: "0".repeat(64) };
        bag::write(&folder.join(format!("own/bags/{id}.h5")), &plan, &features, &origin, None).unwrap();
    }
    std::fs::write(folder.join("labels.csv"), "slide_id,patient_id,label\na,1,x\nb,2,y\n").unwrap();
    folder.join("own")
}

#[test]
fn our_bags_go_through_every_layout_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let own = bags(folder.path());
    for layout in ["wsi", "clam", "trident", "stamp", "acmil"] {
        let (there, back) = (folder.path().join(layout), folder.path().join(format!("{layout}-back")));
        let labels = folder.path().join("labels.csv");
        let output = wsi(["bags", "convert", text(&own), "--to", layout, "--out", text(&there), "--labels", text(&labels)]);
        assert!(output.status.success(), "{layout}: {}", said(&output));
        let given = ["--encoder-name", "resnet18", "--slide-mpp", "0.5", "--tile-px", "224", "--side-level0", "224"];
        let output = wsi([&["bags", "convert", text(&there), "--to", "wsi", "--out", text(&back)], &given[..]].concat());
        assert!(output.status.success(), "{layout}: {}", said(&output));
        for id in ["a", "b"] {
            let (before, after) =
                (bag::read(&own.join(format!("bags/{id}.h5"))).unwrap(), bag::read(&back.join(format!("bags/{id}.h5"))).unwrap());
            assert_eq!((before.coords, before.features), (after.coords, after.features), "{layout}");
            assert_eq!(after.header.unwrap().origin.encoder, "resnet18");
        }
    }
    let again = wsi(["bags", "convert", text(&own), "--to", "clam", "--out", text(&folder.path().join("clam"))]);
    assert!(again.status.code() == Some(1) && said(&again).contains("is not empty"), "{}", said(&again));
}

#[test]
fn what_a_layout_does_not_say_is_asked_for_and_never_guessed() {
    let folder = tempfile::tempdir().unwrap();
    let own = bags(folder.path());
    let (there, back) = (folder.path().join("clam"), folder.path().join("back"));
    assert!(wsi(["bags", "convert", text(&own), "--to", "clam", "--out", text(&there)]).status.success());
    let output = wsi(["bags", "convert", text(&there), "--to", "wsi", "--out", text(&back), "--encoder-name", "resnet18"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("a: its pixel size is not known and is never guessed; give --slide-mpp"), "{}", said(&output));
    let acmil = wsi(["bags", "convert", text(&own), "--to", "acmil", "--out", text(&folder.path().join("acmil"))]);
    assert!(said(&acmil).contains("its label is not known") && said(&acmil).contains("--labels"), "{}", said(&acmil));
    let unknown = wsi(["bags", "show", text(folder.path())]);
    assert!(said(&unknown).contains("name one with --from"), "{}", said(&unknown));
}

#[test]
fn rules_are_named_and_broken_ones_exit_with_one() {
    let folder = tempfile::tempdir().unwrap();
    let own = bags(folder.path());
    let clean = wsi(["bags", "lint", text(&own)]);
    assert!(clean.status.success(), "{}", String::from_utf8_lossy(&clean.stdout));

    // A short bag with a path of a machine, row by row and with a number that is none, as CLAM would leave it.
    let root = folder.path().join("clam");
    std::fs::create_dir_all(root.join("h5_files")).unwrap();
    let write = |id: &str, rows: usize, values: &[f32], place: &str| {
        let file = hdf5::File::create(root.join(format!("h5_files/{id}.h5"))).unwrap();
        let features = file.new_dataset::<f32>().chunk((1, 2)).shape((values.len() / 2, 2)).create("features").unwrap();
        features.write_raw(values).unwrap();
        let name: hdf5::types::VarLenUnicode = place.parse().unwrap();
        features.new_attr::<hdf5::types::VarLenUnicode>().create("savetodir").unwrap().write_scalar(&name).unwrap();
        file.new_dataset::<i32>().shape((rows, 2)).create("coords").unwrap().write_raw(&vec![5i32; 2 * rows]).unwrap();
    };
    write("short", 2, &[1.0; 6], ".");
    write("odd", 3, &[1.0, f32::NAN, 1.0, 1.0, 1.0, 1.0], "/home/somebody/features");
    let output = wsi(["bags", "lint", text(&root)]);
    assert_eq!(output.status.code(), Some(1));
    let table = String::from_utf8(output.stdout).unwrap();
    for rule in [
        "short\terror\trows-differ",
        "odd\terror\tnot-finite",
        "odd\terror\tabsolute-path",
        "odd\terror\tcoords-repeated",
        "odd\twarning\tchunk-a-row",
        "odd\twarning\tunknown-encoder",
        "odd\twarning\tno-pixel-size",
    ] {
        assert!(table.contains(rule), "{rule}:\n{table}");
    }
    assert!(!table.contains("somebody"), "the path itself is not repeated");
    let json = wsi(["bags", "lint", "--json", text(&root)]);
    assert!(String::from_utf8(json.stdout).unwrap().lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

#[test]
fn a_screen_of_bags() {
    let folder = tempfile::tempdir().unwrap();
    let output = wsi(["bags", "show", text(&bags(folder.path()))]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("a\twsi\t7\t4\tf16\tresnet18\t0.5000\t224\t224\t0..1344\t0..0"), "{table}");
    let Some(data) = test_data("a_screen_of_bags") else { return };
    // Bags of another program, in none of the layouts' folders.
    let output = wsi(["bags", "show", text(&data.join("mil")), "--from", "wsi"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("TCGA-3X-AAVA-01Z-00-DX1\twsi\t777\t512"), "{table}");
}
