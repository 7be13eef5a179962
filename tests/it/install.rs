//! What an administrator puts beside the program: manual pages, completions, another libtorch.

use std::process::Command;

use crate::program::{said, wsi};

/// The verbs that `wsi --help` lists.
fn verbs() -> Vec<String> {
    let help = String::from_utf8(wsi(["--help"]).stdout).unwrap();
    let listed = help.split("<COMMAND>\n").nth(1).unwrap().split("\nOptions:\n").next().unwrap();
    // In groups: a heading, then a line a verb.
    let lines = listed.lines().filter(|line| line.starts_with("  "));
    let verbs: Vec<String> = lines.map(|line| line.split_whitespace().next().unwrap().to_owned()).filter(|verb| verb != "help").collect();
    assert!(verbs.len() > 20 && verbs[0] == "tile", "{help}");
    verbs
}

#[test]
fn every_verb_has_a_manual_page_and_hidden_ones_have_none() {
    let folder = tempfile::tempdir().unwrap();
    let output = wsi(["man", "--out", folder.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    let page = |name: &str| std::fs::read_to_string(folder.path().join(name));
    for verb in verbs() {
        assert!(page("wsi.1").unwrap().contains(&format!("wsi\\-{verb}(1)")), "wsi.1 does not name {verb}");
        assert!(page(&format!("wsi-{verb}.1")).unwrap().contains(".SH SYNOPSIS"), "{verb}");
    }
    assert!(page("wsi-weights-import.1").unwrap().contains("\\-\\-licence"));
    assert!(page("wsi-gpu-check.1").is_err());
}

#[test]
fn completions_know_every_verb_and_its_flags() {
    for shell in ["bash", "zsh", "fish"] {
        let output = wsi(["completions", shell]);
        assert!(output.status.success(), "{}", said(&output));
        let script = String::from_utf8(output.stdout).unwrap();
        for word in verbs().iter().map(String::as_str).chain(["slide-mpp"]) {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn a_libtorch_that_is_none_or_another_release_is_refused_by_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let call = || Command::new(env!("CARGO_BIN_EXE_wsi")).arg("encoders").env("WSI_LIBTORCH", folder.path()).output().unwrap();
    let output = call();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains(folder.path().to_str().unwrap()) && said(&output).contains("2.11.0"), "{}", said(&output));

    std::fs::create_dir(folder.path().join("lib")).unwrap();
    for library in ["libc10.so", "libtorch_cpu.so"] {
        std::fs::write(folder.path().join("lib").join(library), "").unwrap();
    }
    std::fs::write(folder.path().join("build-version"), "2.10.0+cu128\n").unwrap();
    let output = call();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("2.10.0+cu128") && said(&output).contains("2.11.0"), "{}", said(&output));

    // The right release, but files that are no libraries: the loader says so, and the call ends instead of going on without them.
    std::fs::write(folder.path().join("build-version"), "2.11.0+cu128\n").unwrap();
    let output = call();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("could not be loaded"), "{}", said(&output));
}
