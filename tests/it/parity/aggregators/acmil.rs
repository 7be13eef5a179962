//! ACMIL with gated and with multi-head attention.

use wsi::aggregators::Aggregator;
use wsi::aggregators::acmil::{AcmilAttention, AcmilSettings, RELEASED};

use super::super::case::Case;
use super::golden::{Golden, has, rows, whole};

pub fn check(case: &Case) {
    let classes = whole(case, "C");
    let base = AcmilSettings {
        branches: whole(case, "n_token"),
        width: rows(case, "dimreduction.fc1.weight"),
        diversity_weight: 1.0,
        branch_weight: 1.0,
        ..Default::default()
    };
    let (settings, names) = if has(case, "q") {
        (AcmilSettings { attention: AcmilAttention::MultiHead, ..base }, &RELEASED[1])
    } else {
        let attention_width = rows(case, "attention.attention_V.0.weight");
        (AcmilSettings { attention: AcmilAttention::Gated, attention_width, ..base }, &RELEASED[0])
    };
    let (golden, model) = Golden::new(case, names, |path, features| settings.build(path, features, classes).unwrap());
    for bag in golden.bags() {
        let pooled = model.pool(&bag.input, &bag.mask, false, Some(&bag.targets));
        let logits = bag.logits(&pooled);
        bag.compare("bag", &pooled.embedding);
        bag.compare("sub_logits", &model.branch_logits(&bag.input, &bag.mask).squeeze_dim(0));
        bag.compare("diff_loss", &bag.term(&pooled, "diversity"));
        bag.compare("loss_sub", &bag.term(&pooled, "branches"));
        let of_slide = bag.cross_entropy(&logits);
        bag.compare("loss_slide", &of_slide);
        let loss = pooled.terms.iter().fold(of_slide, |sum, (_, term)| sum + term);
        bag.finish(&logits, &loss);
    }
}
