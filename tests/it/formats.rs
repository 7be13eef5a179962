//! `wsi bags`: our bags in other layouts and back, what is wrong said by rule, a screen to look at.

use std::path::Path;

use wsi::ground::plan::Plan;
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
        let origin = bag::Origin { encoder: "resnet18".into(), weights: "0".repeat(64), computed: None };
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
    assert!(table.contains("TCGA-3X-AAVA-01Z-00-DX1\twsi\t") && table.contains("it has no dataset 'coords'"), "{table}");
    let output = wsi(["bags", "show", text(&data.join("mil")), "--from", "stamp"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.contains("TCGA-AD-6964-01Z-00-DX1\tstamp\t") && table.contains("does not say that its coordinates are micrometres"),
        "{table}"
    );
}

/// Writes one bag of a plan by hand, features all one.
fn bag_of(folder: &Path, plan: &Plan, encoder: &str) {
    let tiles = plan.coords.len();
    let features = bag::Features { values: vec![half::f16::ONE; tiles * 2], tiles, width: 2 };
    let origin = bag::Origin { encoder: encoder.into(), weights: "none".into(), computed: None };
    bag::write(&folder.join(format!("bags/{}.h5", plan.slide_id)), plan, &features, &origin, None).unwrap();
}

fn convert(from: &Path, to: &str, out: &Path, more: &[&str]) {
    let output = wsi([&["bags", "convert", text(from), "--to", to, "--out", text(out)], more].concat());
    assert!(output.status.success(), "{to}: {}", said(&output));
}

#[test]
fn an_overlap_survives_a_layout_that_says_it_and_one_that_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own");
    let mut plan = crate::train::plan("a", 6);
    plan.window.step_level0_px = 112;
    plan.coords.iter_mut().for_each(|at| at.x /= 2);
    bag_of(&own, &plan, "resnet18");
    for layout in ["trident", "clam"] {
        let (there, back) = (folder.path().join(layout), folder.path().join(format!("{layout}-back")));
        convert(&own, layout, &there, &[]);
        convert(&there, "wsi", &back, &["--slide-mpp", "0.5", "--encoder-name", "resnet18"]);
        let header = bag::read_header(&back.join("bags/a.h5")).unwrap().unwrap();
        assert_eq!(header.window.step_level0_px, 112, "{layout}");
    }
    assert!(folder.path().join("trident/20x_224px_112px_overlap/features_resnet18/a.h5").is_file());
}

#[test]
fn an_encoders_name_leads_out_of_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (own, there, back) = (folder.path().join("own"), folder.path().join("deep/there"), folder.path().join("back"));
    bag_of(&own, &crate::train::plan("a", 3), "/../../../owner/model");
    convert(&own, "trident", &there, &[]);
    let above: Vec<_> = std::fs::read_dir(folder.path().join("deep")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(above, ["there"]);
    convert(&there, "wsi", &back, &[]);
    assert_eq!(bag::read_header(&back.join("bags/a.h5")).unwrap().unwrap().origin.encoder, "/../../../owner/model");
}

#[test]
fn stamps_own_grid_of_micrometres_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (root, ours) = (folder.path().join("stamp"), folder.path().join("ours"));
    std::fs::create_dir(&root).unwrap();
    // As STAMP cuts: a region begins on a whole pixel, its tiles follow every 256 µm, 1024.41 px of this slide.
    let (mpp, tile_um) = (0.2499f64, 256.0f64);
    let microns: Vec<f32> = (0..3).flat_map(|tile| [(200_000.0 * mpp + f64::from(tile) * tile_um) as f32, 0.0]).collect();
    let file = hdf5::File::create(root.join("a.h5")).unwrap();
    file.new_dataset::<f32>().shape((3, 2)).create("coords").unwrap().write_raw(&microns).unwrap();
    file.new_dataset::<f32>().shape((3, 2)).create("feats").unwrap().write_raw(&[1.0f32; 6]).unwrap();
    file.new_attr::<f64>().create("tile_size_um").unwrap().write_scalar(&tile_um).unwrap();
    file.new_attr::<i64>().create("tile_size_px").unwrap().write_scalar(&224i64).unwrap();
    let place: hdf5::types::VarLenUnicode = "C:\\slides\\a.svs".parse().unwrap();
    file.new_attr::<hdf5::types::VarLenUnicode>().create("extractor").unwrap().write_scalar(&place).unwrap();
    file.close().unwrap();
    convert(&root, "wsi", &ours, &["--slide-mpp", "0.2499"]);
    let read = bag::read(&ours.join("bags/a.h5")).unwrap();
    assert_eq!(read.coords.iter().map(|at| at.x).collect::<Vec<_>>(), [200_000, 201_024, 202_049]);
    let output = wsi(["bags", "lint", text(&root), "--slide-mpp", "0.2499"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("a\terror\tabsolute-path"), "a path among the file's own attributes");
    for wrong in ["0", "-0.25", "nan"] {
        let output = wsi(["bags", "show", text(&root), &format!("--slide-mpp={wrong}")]);
        assert!(output.status.code() == Some(1) && said(&output).contains("--slide-mpp is"), "{}", said(&output));
    }
}

#[test]
fn lint_looks_at_the_coordinates_file_and_at_the_readers_of_magnifications() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own");
    let mut plan = crate::train::plan("a", 3);
    plan.mpp = wsi::ground::units::Mpp::square(0.46);
    bag_of(&own, &plan, "resnet18");
    let output = wsi(["bags", "lint", text(&own)]);
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && table.contains("a\twarning\tnot-nominal"), "0.46 µm/px is read as 20x, 0.5: {table}");

    for (layout, patches, attribute) in
        [("trident", "20x_224px_0px_overlap/patches/a_patches.h5", "savetodir"), ("clam", "patches/a.h5", "save_path")]
    {
        let there = folder.path().join(layout);
        convert(&own, layout, &there, &[]);
        let file = hdf5::File::open_rw(there.join(patches)).unwrap();
        let value: hdf5::types::VarLenUnicode = "/data/somebody".parse().unwrap();
        file.dataset("coords").unwrap().attr(attribute).unwrap().write_scalar(&value).unwrap();
        file.close().unwrap();
        let output = wsi(["bags", "lint", text(&there)]);
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.code() == Some(1) && table.contains(&format!("a\terror\tabsolute-path\tthe attribute '{attribute}'")),
            "{table}"
        );
    }
}

#[test]
fn labels_become_the_tables_that_clam_and_stamp_train_with() {
    let folder = tempfile::tempdir().unwrap();
    let own = bags(folder.path());
    let labels = folder.path().join("labels.csv");
    std::fs::write(&labels, "slide_id,patient_id,label\nb,1,x\na,2,y\n").unwrap();
    let labelled = ["--labels", text(&labels)];
    let (stamp, clam) = (folder.path().join("stamp"), folder.path().join("clam"));
    convert(&own, "stamp", &stamp, &labelled);
    convert(&own, "clam", &clam, &labelled);
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap();
    assert_eq!(read(stamp.join("clini.csv")), "PATIENT,label\n1,x\n2,y\n");
    assert_eq!(read(stamp.join("slide.csv")), "PATIENT,FILENAME\n1,b.h5\n2,a.h5\n");
    assert_eq!(read(clam.join("dataset.csv")), "case_id,slide_id,label\n2,a,y\n1,b,x\n");
}
