//! ABMIL in three implementations.

use tch::Kind;
use wsi::aggregators::Aggregator;
use wsi::aggregators::abmil::{AbmilSettings, Activation, RELEASED};

use super::super::case::Case;
use super::golden::{Golden, has, rows};

/// Settings and names, told by the case's own parameter names and hyper-parameters.
pub fn check(case: &Case) {
    let base = AbmilSettings { embed: false, gated: false, ..Default::default() };
    let (settings, names) = if has(case, "dimreduction.fc1.weight") {
        let (width, attention_width) = (rows(case, "dimreduction.fc1.weight"), rows(case, "attention.attention_V.0.weight"));
        (AbmilSettings { embed: true, gated: true, width, attention_width, ..base }, &RELEASED[0])
    } else if has(case, "feature.0.weight") {
        let activation = match case.hyper()["act"].as_str() {
            Some("relu") => Activation::Relu,
            Some("gelu") => Activation::Gelu,
            Some("tanh") => Activation::Tanh,
            other => panic!("{}: activation {other:?}", case.name),
        };
        let (width, attention_width) = (rows(case, "feature.0.weight"), rows(case, "attention.0.weight"));
        (AbmilSettings { embed: true, embed_bias: true, activation, width, attention_width, ..base }, &RELEASED[1])
    } else if has(case, "attention_V.0.weight") {
        (AbmilSettings { gated: true, attention_width: rows(case, "attention_V.0.weight"), ..base }, &RELEASED[2])
    } else {
        (AbmilSettings { attention_width: rows(case, "attention.0.weight"), ..base }, &RELEASED[3])
    };
    let (golden, model) = Golden::new(case, names, |path, features| settings.build(path, features));
    for bag in golden.bags() {
        let pooled = model.pool(&bag.input, &bag.mask, false, None);
        let logits = bag.logits(&pooled);
        bag.compare("bag", &pooled.embedding);
        let attention = pooled.attention.unwrap();
        let entropy = (&attention * attention.log()).sum(None::<Kind>);
        bag.compare("entropy_term_train", &entropy);
        bag.compare("entropy_term_eval", &entropy);
        let loss = if logits.size()[1] == 1 {
            // The original's Bernoulli likelihood.
            let p = logits.sigmoid();
            bag.compare("prob", &p);
            let p = p.clamp(1e-5, 1.0 - 1e-5);
            (if bag.label == 1 { p.log() } else { (-p).log1p() }).neg().sum(None::<Kind>)
        } else {
            bag.cross_entropy(&logits)
        };
        bag.compare("loss_ce", &loss);
        bag.finish(&logits, &loss);
    }
}
