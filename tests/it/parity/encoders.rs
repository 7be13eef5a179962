//! Encoders against the reference networks: every tensor of the state dict by name, then maps, embeddings and logits.

use std::collections::BTreeMap;

use tch::nn::VarStore;
use tch::{Device, Tensor};
use wsi::encoders::EncoderSettings;
use wsi::encoders::efficientnet_lite::EfficientNetLite0;
use wsi::encoders::resnet::{RESNET50_TRUNC, ResNet};
use wsi::store::weights;

use super::case::{Case, Limit, Outcome, each};
use super::train_step::train_step;
use super::vit;

#[test]
fn encoders_match_their_references() {
    each("parity::encoders", "encoders", |case| {
        if vit::recognised(case) {
            return vit::compare(case);
        }
        let Some(name) = encoder(case) else {
            case.problem("no encoder of this program is meant by the case".to_owned());
            return Outcome::Compared;
        };
        let settings = EncoderSettings::named(name).unwrap();
        if case.has("logits_train_mode") {
            train_step(case, &settings);
            return Outcome::Compared;
        }
        let state = match case.spec.get("weights") {
            None => case.state().into_iter().collect(),
            Some(checkpoint) => match real_weights(name, checkpoint["sha256"].as_str().unwrap()) {
                Ok(state) => state,
                Err(reason) => return Outcome::Absent(reason),
            },
        };
        let input = case.input("input");
        // Frozen last: what `extract` runs must meet the same limits as what `train` runs.
        for frozen in [false, true] {
            let store = VarStore::new(Device::Cpu);
            let mut encoder = settings.build(&store.root()).unwrap();
            if let Err(error) = weights::load_into(&store, &state, settings.unused()) {
                case.problem(format!("{error:#}"));
                return Outcome::Compared;
            }
            if frozen {
                encoder.freeze();
            }
            let embedding = tch::no_grad(|| encoder.embed(&input, false));
            compare(case, "pooled", &embedding);
            compare(case, "features", &embedding);
            if case.has("logits") {
                compare(case, "logits", &classify(&state, &embedding));
            }
        }
        if case.has("map_corner") {
            let corner = corner(case, name, &state, settings.unused(), &input);
            compare(case, "map_corner", &corner);
        }
        Outcome::Compared
    });
}

/// The program's name for the network of a case, told by what the case says of itself.
fn encoder(case: &Case) -> Option<&'static str> {
    let hyper = case.hyper();
    if hyper["features_only"] == true && hyper["out_indices"][0] == 3 {
        return Some("resnet50-trunc");
    }
    let source = case.spec["source"].as_str().unwrap();
    let called = hyper["architecture"].as_str().or_else(|| source.split_whitespace().last())?;
    let name = if source.contains("Cifar100") { format!("cifar-{called}") } else { called.to_owned() };
    EncoderSettings::NAMES.iter().copied().find(|known| *known == name)
}

/// Compares where the case stores it, by every limit the case names.
fn compare(case: &Case, tensor: &str, ours: &Tensor) {
    if case.has(tensor) {
        case.compare(tensor, ours, Limit::RelativeMax(case.tolerance("/rel_max").unwrap()));
        case.compare(tensor, ours, Limit::Cosine(case.tolerance("/cosine_min").unwrap()));
    }
}

/// The reference's last layer; it is no part of an encoder.
fn classify(state: &BTreeMap<String, Tensor>, embedding: &Tensor) -> Tensor {
    let find = |suffix: &str| state.iter().find(|(name, _)| name.trim_start_matches('_') == suffix).unwrap().1.shallow_clone();
    embedding.linear(&find("fc.weight"), Some(find("fc.bias")))
}

/// The stored corner of the last map: the first channels and the top-left pixels, as many as the stored shape has.
fn corner(case: &Case, name: &str, state: &BTreeMap<String, Tensor>, unused: &[&str], input: &Tensor) -> Tensor {
    let store = VarStore::new(Device::Cpu);
    let network: Box<dyn Fn(&Tensor) -> Tensor> = match name {
        "resnet50-trunc" => {
            let network = ResNet::new(&store.root(), RESNET50_TRUNC);
            Box::new(move |images| network.map(images, false))
        }
        "efficientnet-lite0" => {
            let network = EfficientNetLite0::new(&store.root());
            Box::new(move |images| network.map(images, false))
        }
        _ => panic!("{name}: stores a corner of its map, and the test does not know how to ask for it"),
    };
    weights::load_into(&store, state, unused).unwrap();
    let map = tch::no_grad(|| network(input));
    let shape = case.stored("map_corner").size();
    let corner = map.narrow(1, 0, shape[1]);
    match shape[..] {
        [_, _, height, width] => corner.narrow(2, 0, height).narrow(3, 0, width),
        _ => corner.select(3, 0).select(2, 0),
    }
}

/// The imported weight file, if it was made from the checkpoint of the case.
fn real_weights(encoder: &str, checkpoint_sha256: &str) -> Result<BTreeMap<String, Tensor>, String> {
    let path = weights::folder().join(format!("{encoder}.safetensors"));
    if !path.is_file() {
        return Err(format!("no weight file for {encoder}; set WSI_WEIGHTS, or import one with `wsi weights import`"));
    }
    let file = weights::load(&path).map_err(|error| format!("{error:#}"))?;
    if file.metadata.source_sha256 != checkpoint_sha256 {
        return Err(format!("the weight file for {encoder} was made from another checkpoint"));
    }
    Ok(file.tensors)
}
