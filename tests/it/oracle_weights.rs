//! Weights as torchvision, timm, PyTorch and safetensors save them, against what `wsi weights import` makes of them.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tch::{Kind, Tensor};
use wsi::encoders::EncoderSpec;
use wsi::encoders::preprocess::{Preprocess, Target};
use wsi::store::{bag, tensors, weights};

use crate::data::test_data;
use crate::oracle::{packages, python};
use crate::program::said;

#[test]
fn every_way_of_saving_gives_the_same_tensors() {
    let Some(packages) = packages("oracle_weights") else { return };
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("saved");
    std::fs::create_dir(&saved).unwrap();
    let made: Value = serde_json::from_slice(&python(&packages, "weights.py", &["make", saved.to_str().unwrap()])).unwrap();
    let mut imported = 0;
    for (file, expected) in made.as_object().unwrap() {
        let (encoder, ours) = (expected["encoder"].as_str().unwrap(), folder.path().join(file));
        let output = Command::new(env!("CARGO_BIN_EXE_wsi"))
            .args(["weights", "import", saved.join(file).to_str().unwrap(), "--encoder", encoder])
            .env("WSI_WEIGHTS", &ours)
            .output()
            .unwrap();
        if said(&output).contains("no encoder is called") {
            eprintln!("oracle_weights: skipped: {file}: no encoder is called {encoder}");
            continue;
        }
        assert!(output.status.success(), "{file}: {}", said(&output));
        let weights = weights::load(&weights::path_in(&ours, encoder)).unwrap();
        let expected = expected["tensors"].as_object().unwrap();
        assert_eq!(weights.tensors.keys().collect::<Vec<_>>(), sorted(expected.keys()), "{file}");
        for (name, tensor) in &weights.tensors {
            assert_eq!(described(tensor), expected[name], "{file}: {name}");
        }
        std::fs::remove_dir_all(&ours).unwrap();
        imported += 1;
    }
    assert!(imported >= 15, "{imported} files of {}", made.as_object().unwrap().len());
}

fn sorted<'a>(names: impl Iterator<Item = &'a String>) -> Vec<&'a String> {
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// As the script describes a tensor.
fn described(tensor: &Tensor) -> Value {
    let dtype = match tensor.kind() {
        Kind::Float => "float32",
        Kind::Double => "float64",
        Kind::Half => "float16",
        Kind::BFloat16 => "bfloat16",
        Kind::Int64 => "int64",
        other => panic!("{other:?}"),
    };
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.contiguous().copy_data_u8(&mut bytes, tensor.numel());
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    serde_json::json!([dtype, tensor.size(), digest])
}

/// How far features lie from those expected: the smallest cosine of two rows, and the largest distance of two rows as a share of how far
/// the expected row lies from the mean of all, which tells tiles apart where a random network gives all of them nearly one direction.
fn compared(ours: &Tensor, expected: &Tensor) -> (f64, f64) {
    let length = |rows: &Tensor| rows.square().sum_dim_intlist(1i64, false, Kind::Double).sqrt();
    let (ours, expected) = (ours.to_kind(Kind::Double), expected.to_kind(Kind::Double));
    let cosine = (&ours * &expected).sum_dim_intlist(1i64, false, Kind::Double) / (length(&ours) * length(&expected));
    let spread = length(&(&expected - expected.mean_dim(0i64, true, Kind::Double)));
    (cosine.min().double_value(&[]), (length(&(&ours - &expected)) / spread).max().double_value(&[]))
}

#[test]
fn features_of_a_real_slide_are_those_of_python() {
    let test = "oracle_features";
    let (Some(packages), Some(data)) = (packages(test), test_data(test)) else { return };
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let slide = data.join("slides/CMU-1-Small-Region.svs");
    std::fs::create_dir(place("slides")).unwrap();
    std::fs::create_dir(place("weights")).unwrap();
    std::fs::copy(&slide, place("slides/real.svs")).unwrap();
    python(&packages, "weights.py", &["export", folder.path().to_str().unwrap()]);
    let slides = place("slides");
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_wsi")).args(arguments).env("WSI_WEIGHTS", place("weights")).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    };
    for encoder in ["resnet50-trunc", "lunit-vits16"] {
        run(&["weights", "import", &place(&format!("{encoder}.pth")), "--encoder", encoder]);
        let spec = EncoderSpec::built_in(encoder).unwrap();
        let Preprocess { resize: Some(resize), crop: Some(crop), mean, std } = &spec.input else { panic!("{encoder} resizes and crops") };
        let Target::Short(short) = resize.to else { panic!("{encoder} resizes the short side") };
        let input = serde_json::json!({"interpolation": resize.interpolation, "short": short, "crop": crop, "mean": mean, "std": std});
        // Tiles of the network's own side, and larger ones that Pillow's arithmetic shrinks; neither is shrunk while it is read.
        for px in ["224", "240"] {
            let (tiles, out) = (place(&format!("tiles-{px}")), place(&format!("{encoder}-{px}.safetensors")));
            run(&["tile", "--slides", &place("slides"), "--tile-px", px, "--out", &tiles]);
            let patches = format!("{tiles}/patches/real_patches.h5");
            let weights = place(&format!("{encoder}.pth"));
            python(
                &packages,
                "weights.py",
                &["features", encoder, &weights, &input.to_string(), &place("slides/real.svs"), &patches, &out],
            );
            let expected = tensors::read(Path::new(&out)).unwrap().0.remove("features").unwrap();
            for (word, kind) in [
                (encoder.to_owned(), "weights"),
                (place(&format!("{encoder}.pt")), "TorchScript"),
                (place(&format!("{encoder}.pt2")), "torch.export"),
            ] {
                let bags = place(&format!("{encoder}-{px}-{kind}"));
                let mut arguments = vec!["extract", "--slides", &slides, "--tiles", &tiles, "--out", &bags];
                let preprocessing = format!("extract.encoder.input={}", toml::Value::try_from(&spec.input).unwrap());
                arguments.extend([
                    "--encoder",
                    &word,
                    "--resize",
                    "--set",
                    "extract.dtype=f32",
                    "--set",
                    &preprocessing,
                    "--device",
                    "cpu",
                ]);
                run(&arguments);
                let values = bag::read_single(&Path::new(&bags).join("bags/real.h5")).unwrap().unwrap();
                let ours = Tensor::from_slice(&values).view([expected.size()[0], expected.size()[1]]);
                let (cosine, apart) = compared(&ours, &expected);
                eprintln!(
                    "{test}: {encoder} as {kind}, {px} px, {} tiles: smallest cosine {cosine:.9}, {apart:.1e} of the distance from the mean",
                    ours.size()[0]
                );
                assert!(cosine >= 0.99999 && apart < 1e-3, "{encoder} as {kind}, {px} px: {cosine} {apart}");
            }
        }
    }
}
