//! Patients' names: found in slides, kept out of outputs.

use std::path::Path;

use wsi::store::pseudonym::Salt;
use wsi::store::{bag, coords};
use wsi::synth::{CohortSettings, cohort, render};

use crate::data::test_data;
use crate::program::{said, wsi};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn outputs_are_as_private_as_the_user_wants() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    std::fs::write(place("labels.csv"), "slide_id,label\nx,a\n").unwrap();
    std::fs::write(place("salt"), [7; 32]).unwrap();
    for (umask, mode) in [("027", 0o640), ("002", 0o664), ("077", 0o600)] {
        let script = format!("umask {umask}; exec \"$0\" pseudonymise labels.csv --salt salt --columns slide_id --out {umask}.csv");
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_wsi")]).current_dir(folder.path());
        assert!(command.status().unwrap().success());
        let found = std::fs::metadata(place(&format!("{umask}.csv"))).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "umask {umask}: {found:o}");
    }
}

/// Whether a name occurs in any file below a folder, or in a file's own name.
fn mentions(folder: &Path, name: &str) -> bool {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        let here = path.file_name().unwrap().to_string_lossy().contains(name);
        let within = |bytes: Vec<u8>| bytes.windows(name.len()).any(|window| window == name.as_bytes());
        here || if path.is_dir() { mentions(&path, name) } else { within(std::fs::read(&path).unwrap()) }
    })
}

#[test]
fn risky_tags_are_listed_by_name_and_no_value_is_shown() {
    let Some(data) = test_data("risky_tags") else { return };
    let output = wsi(["doctor", "--phi", text(&data.join("slides/CMU-1-Small-Region.svs"))]);
    assert!(output.status.success(), "{}", said(&output));
    let table = String::from_utf8(output.stdout).unwrap();
    for place in
        ["aperio.Filename", "aperio.User", "aperio.Date", "tiff.ImageDescription", "attached picture 'label'", "attached picture 'macro'"]
    {
        assert!(table.contains(&format!("CMU-1-Small-Region.svs\t{place}\t")), "{place}: {table}");
    }
    // The scanner's serial number and user stand in the file and not in the table.
    assert!(!table.contains("CPAPERIOCS") && !table.contains("b414003d"), "{table}");
    let json = wsi(["doctor", "--json", "--phi", text(&data.join("slides/CMU-1-Small-Region.svs"))]);
    let first: serde_json::Value = serde_json::from_slice(json.stdout.split(|&byte| byte == b'\n').next().unwrap()).unwrap();
    assert_eq!(first["slide"], "CMU-1-Small-Region.svs");
}

#[test]
fn with_a_salt_no_output_and_no_message_names_a_slide() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    std::fs::create_dir(place("slides")).unwrap();
    let made = &cohort(&CohortSettings::default()).unwrap()[0];
    std::fs::write(place("slides/Meier_H21-0815.tif"), render(made, 0).unwrap()).unwrap();
    std::fs::write(place("slides/Schulz_H21-0816.svs"), "no slide").unwrap();
    std::fs::write(place("salt"), [7; 32]).unwrap();
    let salt = ["--pseudonymise".to_owned(), text(&place("salt")).to_owned()];

    let call = |words: &[&str]| wsi(words.iter().copied().chain(salt.iter().map(String::as_str)));
    let slides = place("slides");
    let tiled = call(&["tile", "--slides", text(&slides), "--out", text(&place("tiles"))]);
    assert_eq!(tiled.status.code(), Some(1), "the other file is no slide: {}", said(&tiled));
    let id = Salt::read(&place("salt")).unwrap().pseudonym("Meier_H21-0815");
    assert_eq!(coords::read(&place("tiles").join(format!("patches/{id}_patches.h5"))).unwrap().slide_file, format!("{id}.tif"));
    let random = ["--encoder", "resnet18", "--random-weights", "--device", "cpu"];
    let extracted = call(
        &[&["extract", "--slides", text(&slides), "--tiles", text(&place("tiles")), "--out", text(&place("bags"))][..], &random].concat(),
    );
    assert!(extracted.status.success(), "{}", said(&extracted));
    assert_eq!(bag::read_header(&place("bags").join(format!("bags/{id}.h5"))).unwrap().unwrap().slide_id, id);
    for name in ["Meier", "Schulz", "H21"] {
        assert!(!mentions(&place("tiles"), name) && !mentions(&place("bags"), name), "{name} is in an output");
        assert!(!said(&tiled).contains(name) && !said(&extracted).contains(name), "{name} is in a message: {}", said(&tiled));
    }

    std::fs::write(place("labels.csv"), "slide_id,patient_id,label\nMeier_H21-0815.tif,Meier,normal\n").unwrap();
    let output = wsi(["pseudonymise", text(&place("labels.csv")), "--salt", text(&place("salt")), "--out", text(&place("new.csv"))]);
    assert!(output.status.success(), "{}", said(&output));
    let new = std::fs::read_to_string(place("new.csv")).unwrap();
    assert!(new.contains(&id) && new.contains("normal") && !new.contains("Meier"), "{new}");
    let again = wsi(["pseudonymise", text(&place("labels.csv")), "--salt", text(&place("salt")), "--out", text(&place("new.csv"))]);
    assert!(again.status.code() == Some(1) && said(&again).contains("is there already"), "{}", said(&again));
}
