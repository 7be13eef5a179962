//! AEM on ABMIL and on its multi-head query.

use wsi::aggregators::aem::{AemAttention, AemSettings, RELEASED};
use wsi::aggregators::{Aggregator, abmil};

use super::super::case::Case;
use super::golden::{Golden, has, rows, whole};

pub fn check(case: &Case) {
    let weight = case.hyper()["lamda"].as_f64().unwrap();
    let base = AemSettings { width: rows(case, "dimreduction.fc1.weight"), entropy_weight: weight, ..Default::default() };
    let (settings, names) = if has(case, "q") {
        (AemSettings { attention: AemAttention::MultiHead, heads: whole(case, "heads"), ..base }, &RELEASED)
    } else {
        let attention_width = rows(case, "attention.attention_V.0.weight");
        (AemSettings { attention: AemAttention::Gated, attention_width, ..base }, &abmil::RELEASED[0])
    };
    let (golden, model) = Golden::new(case, names, |path, features| settings.build(path, features).unwrap());
    for bag in golden.bags() {
        let pooled = model.pool(&bag.input, &bag.mask, false, Some(&bag.targets));
        let logits = bag.logits(&pooled);
        bag.compare("bag", &pooled.embedding);
        let term = bag.term(&pooled, "negative-entropy") / weight;
        bag.compare("entropy_term_train", &term);
        bag.compare("entropy_term_eval", &term);
        let cross_entropy = bag.cross_entropy(&logits);
        bag.compare("loss_ce", &cross_entropy);
        let loss = pooled.terms.iter().fold(cross_entropy, |sum, (_, term)| sum + term);
        bag.finish(&logits, &loss);
    }
}
