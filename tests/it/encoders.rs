//! `wsi encoders`, and what `--encoder` may name: an encoder that comes with the program, a description, an exported network, a training run.

use std::path::Path;

use serde_json::Value;
use tch::{CModule, Device, Kind, Tensor};
use wsi::store::bag;

use crate::extract::{Cohort, refused, succeeded};
use crate::pipeline::images;
use crate::program::{said, wsi};

/// The one bag of a run.
fn only_bag(cohort: &Cohort, out: &str) -> bag::Bag {
    let (id, _) = cohort.bags(out).pop_first().unwrap();
    bag::read(&cohort.path(out).join(format!("bags/{id}.h5"))).unwrap()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn every_encoder_is_listed_with_its_licence_and_described_in_full() {
    let output = wsi(["encoders", "--json"]);
    assert!(output.status.success(), "{}", said(&output));
    let listed: Vec<Value> = String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named = |name: &str| listed.iter().find(|encoder| encoder["name"] == name).unwrap_or_else(|| panic!("{name} is not listed"));
    let widths =
        [("efficientnet-lite0", 1280), ("resnet50-trunc", 1024), ("uni", 1024), ("virchow2", 2560), ("gigapath", 1536), ("midnight", 3072)];
    for (name, width) in widths {
        assert_eq!((&named(name)["width"], &named(name)["px"]), (&width.into(), &224.into()), "{name}");
        assert!(!named(name)["licence"].as_str().unwrap().is_empty(), "{name}");
    }
    let output = wsi(["encoders", "virchow2"]);
    let described: toml::Table = String::from_utf8(output.stdout).unwrap().parse().unwrap();
    assert_eq!(described["architecture"]["register-tokens"].as_integer(), Some(4));
}

#[test]
fn a_description_of_ones_own_is_an_encoder() {
    let cohort = Cohort::new(1);
    let mine = cohort.path("mine.toml");
    std::fs::write(
        &mine,
        "[architecture]\nname = 'vit'\nembed-dim = 48\ndepth = 1\nheads = 3\npatch-px = 32\n\
         [input]\ncrop = 224\nmean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]\n",
    )
    .unwrap();
    succeeded(cohort.extract("out", &["--encoder", &text(&mine), "--random-weights"]));
    let bag = only_bag(&cohort, "out");
    assert_eq!((bag.header.unwrap().origin.encoder.as_str(), bag.features.width), ("mine", 48));
    std::fs::write(&mine, "[architecture]\nname = 'vit'\nheads = 5\n[input]\ncrop = 224\nmean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]\n")
        .unwrap();
    let said = refused(cohort.extract("wrong", &["--encoder", &text(&mine), "--random-weights"]));
    assert!(said.contains("5 heads cannot share"), "{said}");
    let said = refused(cohort.extract("unknown", &["--encoder", "unni"]));
    assert!(said.contains("did you mean 'uni'?"), "{said}");
    assert!(!cohort.path("wrong").exists() && !cohort.path("unknown").exists(), "nothing is written for what cannot be built");
}

/// A TorchScript module that gives the mean of each channel, `[B,3]`, of batches of any size or of one alone.
fn exported(path: &Path, any_batch: bool) {
    let mut forward = |images: &[Tensor]| {
        let flat = images[0].flatten(2, 3).mean_dim(2, false, Kind::Float);
        vec![if any_batch { flat } else { flat.view([1, 3]) }]
    };
    let example = Tensor::zeros([1, 3, 224, 224], (Kind::Float, Device::Cpu));
    CModule::create_by_tracing("Means", "forward", &[example], &mut forward).unwrap().save(path).unwrap();
}

#[test]
fn an_exported_network_is_an_encoder() {
    let cohort = Cohort::new(1);
    let module = cohort.path("means.pt");
    exported(&module, true);
    succeeded(cohort.extract("out", &["--encoder", &text(&module)]));
    let bag = only_bag(&cohort, "out");
    let origin = bag.header.unwrap().origin;
    assert_eq!((origin.encoder.as_str(), bag.features.width), ("means", 3));
    assert_eq!(origin.weights, wsi::store::digest::file(&module).unwrap());

    // The default network's mean and standard deviation: what comes out are normalised channel means of stained tissue.
    assert!(
        bag.features.values.iter().all(|value| value.to_f32().abs() < 3.0) && bag.features.values.iter().any(|value| value.to_f32() != 0.0)
    );

    exported(&module, false);
    let said = refused(cohort.extract("one", &["--encoder", &text(&module)]));
    assert!(said.contains("fails on images [2, 3, 224, 224]"), "{said}");
    std::fs::write(&module, b"not a module").unwrap();
    let said = refused(cohort.extract("broken", &["--encoder", &text(&module)]));
    assert!(said.contains("'means.pt' is no TorchScript module"), "{said}");
}

#[test]
fn an_image_model_that_was_trained_here_is_an_encoder() {
    let cohort = Cohort::new(1);
    images(&cohort.path("images"));
    let (data, run) = (text(&cohort.path("images")), text(&cohort.path("trained")));
    let split = "split={name='column',column='part',test=['test'],validation=0.25}";
    let settings = ["train.data=cifar100", split, "train.batch-size=6", "train.epochs=1"].map(|setting| ["--set", setting]).concat();
    let output = wsi([&["train", "--no-probe", "--data", &data, "--out", &run, "--device", "cpu"][..], &settings].concat());
    assert!(output.status.success(), "{}", said(&output));

    // What tiles go through is what the images went through, whatever the architecture: an ImageNet one here, trained on small images.
    let other = text(&cohort.path("other"));
    let output = wsi([
        &["train", "--no-probe", "--data", &data, "--out", &other, "--device", "cpu", "--set", "train.model.encoder.name=resnet18"][..],
        &settings,
    ]
    .concat());
    assert!(output.status.success(), "{}", said(&output));
    let spec = wsi::stages::encoders::choose(&other).unwrap().spec().unwrap();
    assert_eq!(
        (spec.architecture.name(), spec.px().unwrap(), spec.input.mean),
        ("resnet18", 32, wsi::encoders::Normalisation::CIFAR100.mean)
    );

    let said = refused(cohort.extract("as-it-is", &["--encoder", &run]));
    assert!(said.contains("its tiles are 224 px"), "{said}");
    succeeded(cohort.extract("out", &["--encoder", &run, "--resize"]));
    let bag = only_bag(&cohort, "out");
    assert_eq!((bag.header.unwrap().origin.encoder.as_str(), bag.features.width), ("trained", 512));
}
