//! The encoder's weights: there, whole, and under which licence.

use super::{Finding, Patient, error, ok, warning};
use crate::encoders::EncoderSettings;
use crate::stages::{frozen, one_line};
use crate::store::{digest, weights};

const CHECK: &str = "weights";

pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let spec = &patient.asked.config.extract.encoder;
    if patient.asked.config.extract.random_weights {
        return vec![ok(CHECK, format!("random ones of {}, as asked", spec.name))];
    }
    let path = match frozen::weight_file(spec, patient.asked.weights.as_deref()) {
        Ok(path) if path.is_file() => path,
        _ if !patient.asked.encoder => {
            return vec![ok(CHECK, format!("none of {}, the default encoder; name yours with --encoder", spec.name))];
        }
        Ok(_) => return vec![error(CHECK, "the weight file is not there", "check its name")],
        Err(_) => {
            let advice = format!("get them from {}, then `wsi weights import FILE --encoder {}`", spec.weights.source, spec.name);
            return vec![error(CHECK, format!("none of {}; licence: {}", spec.name, spec.weights.licence), advice)];
        }
    };
    if matches!(spec.architecture, EncoderSettings::Exported(_)) {
        return vec![match digest::file(&path) {
            Ok(sha256) => ok(CHECK, format!("{}, an exported network, sha256 {sha256}", spec.name)),
            Err(wrong) => error(CHECK, one_line(&wrong), "check its permissions"),
        }];
    }
    // Reads every tensor, since a digest of less would not see what is damaged.
    let (metadata, sha256) = match weights::load(&path) {
        Ok(read) => (read.metadata, read.sha256),
        Err(wrong) => return vec![error(CHECK, without_folder(&one_line(&wrong)), "import them again")],
    };
    let licence = [&metadata.licence, &spec.weights.licence].into_iter().find(|text| !text.is_empty()).cloned().unwrap_or_default();
    let seen = format!("{}, sha256 {sha256}; licence: {licence}", spec.name);
    let published = spec.weights.sha256.to_ascii_lowercase();
    let of_file = metadata.source == spec.weights.file && !published.is_empty();
    // A checkpoint of `wsi train` on images is used as it is.
    vec![if metadata.tensors_sha256.is_empty() && patient.asked.weights.is_none() {
        warning(CHECK, format!("{seen}; no digest of its tensors was recorded"), "import them with `wsi weights import`")
    } else if of_file && !metadata.source_sha256.starts_with(&published) {
        warning(CHECK, format!("{seen}; made from another {} than the published one", metadata.source), "import the published file")
    } else {
        ok(CHECK, seen)
    }]
}

/// Outputs hold no path of the machine.
fn without_folder(text: &str) -> String {
    text.replace(&format!("{}/", weights::folder().display()), "")
}
