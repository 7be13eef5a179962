//! `wsi weights` as a user calls it: what fits is taken, everything else is refused with what to do, and nothing is left behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tch::nn::VarStore;
use tch::{Device, Tensor};
use wsi::encoders::EncoderSettings;
use wsi::store::{digest, tensors, weights};

use crate::program::said;

/// A folder of weight files, and a published file of ResNet-18 beside it.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn weights(&self) -> PathBuf {
        self.folder.path().join("weights")
    }

    fn wsi(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_wsi")).arg("weights").args(arguments).env("WSI_WEIGHTS", self.weights()).output().unwrap()
    }

    /// Saves what `change` makes of random weights of `encoder`.
    fn published(&self, encoder: &str, change: impl FnOnce(&mut BTreeMap<String, Tensor>)) -> PathBuf {
        let store = VarStore::new(Device::Cpu);
        let _network = EncoderSettings::named(encoder).unwrap().build(&store.root());
        let mut state = store.variables().into_iter().collect();
        change(&mut state);
        let path = self.folder.path().join("published.safetensors");
        tensors::write(&path, &state, &Value::Null).unwrap();
        path
    }

    /// Imports for ResNet-18; the complaint must hold each of `words`, and nothing is there afterwards.
    fn refused(&self, file: &Path, more: &[&str], words: &[&str]) {
        let output = self.wsi(&[&["import", file.to_str().unwrap(), "--encoder", "resnet18"], more].concat());
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(words.iter().all(|word| said.contains(word)) && !said.contains("panicked"), "{words:?} are not all in: {said}");
        assert!(!weights::path_in(&self.weights(), "resnet18").exists());
    }
}

#[test]
fn a_file_is_imported_listed_and_verified_and_damage_is_found() {
    let place = Place::new();
    let file = place.published("resnet18", |state| {
        *state = std::mem::take(state).into_iter().map(|(name, tensor)| (format!("module.backbone.{name}"), tensor)).collect();
        state.insert("module.head.weight".to_owned(), Tensor::from_slice(&[1f32]));
    });
    let sha256 = digest::file(&file).unwrap();
    let import = || place.wsi(&["import", file.to_str().unwrap(), "--encoder", "resnet18", "--licence", "MIT", "--sha256", &sha256[..12]]);
    let output = import();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("left out, not under 'module.backbone.': module.head.weight"), "{}", said(&output));
    let path = weights::path_in(&place.weights(), "resnet18");
    let imported = std::fs::read(&path).unwrap();
    assert!(import().status.success());
    assert!(std::fs::read(&path).unwrap() == imported, "the same file gives the same bytes");
    let metadata = weights::load(&path).unwrap().metadata;
    assert_eq!((metadata.source.as_str(), metadata.licence.as_str()), ("published.safetensors", "MIT"));
    assert_eq!((metadata.source_sha256, metadata.names.as_str()), (sha256.clone(), "without 'module.backbone.'"));

    for verb in ["list", "verify"] {
        let output = place.wsi(&[verb]);
        let table = String::from_utf8(output.stdout.clone()).unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let line = table.lines().nth(1).unwrap();
        assert_eq!(line, format!("resnet18\tresnet18\tMIT\t{}\tpublished.safetensors", digest::bytes(&imported)));
    }
    let other = place.wsi(&["import", file.to_str().unwrap(), "--encoder", "resnet18", "--licence", "GPL"]);
    assert!(other.status.code() == Some(1) && said(&other).contains("remove it first"), "{}", said(&other));

    let mut damaged = imported;
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let output = place.wsi(&["verify", "resnet18"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("import it again") && said(&output).contains("1 of 1 weight files"), "{}", said(&output));
    std::fs::write(&path, &damaged[..damaged.len() / 2]).unwrap();
    for verb in ["list", "verify"] {
        assert_eq!(place.wsi(&[verb]).status.code(), Some(1));
    }
    let output = place.wsi(&["verify", "uni"]);
    assert!(output.status.code() == Some(1) && said(&output).contains("wsi weights list"), "{}", said(&output));
}

#[test]
fn what_does_not_fit_is_refused_in_full() {
    let place = Place::new();
    let file = place.published("resnet18", |state| {
        state.remove("layer1.0.conv1.weight");
        state.remove("layer2.0.bn1.bias");
        state.insert("layer9.weight".to_owned(), Tensor::from_slice(&[1f32]));
        state.insert("conv1.weight".to_owned(), Tensor::from_slice(&[1f32]));
    });
    place.refused(
        &file,
        &[],
        &[
            "missing: layer1.0.conv1.weight [64, 64, 3, 3]",
            "missing: layer2.0.bn1.bias [128]",
            "unexpected: layer9.weight",
            "wrong shape: conv1.weight [1] instead of [64, 3, 7, 7]",
        ],
    );
    place.refused(&file, &["--sha256", "00ff"], &["instead of 00ff", "another file"]);
    let file = place.published("resnet34", |_| {});
    place.refused(&file, &[], &["not a checkpoint of resnet18; it fits resnet34"]);
    let file = place.published("resnet18", |state| {
        let broken = state["bn1.bias"].zeros_like() / 0.0;
        state.insert("bn1.bias".to_owned(), broken);
    });
    place.refused(&file, &[], &["'bn1.bias'", "not finite"]);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    place.refused(&file, &[], &["published.safetensors", "cut short"]);
}
