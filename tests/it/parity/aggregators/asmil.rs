//! ASMIL: model, anchor, distillation as released and as meant, and the anchor's movement.

use tch::no_grad;
use wsi::aggregators::Aggregator;
use wsi::aggregators::asmil::{Anchor, AsmilSettings, Distillation, RELEASED, anchor_target, distil};

use super::super::case::Case;
use super::golden::{Golden, rows, whole};

pub fn check(case: &Case) {
    let classes = whole(case, "C");
    let settings = AsmilSettings {
        tokens: whole(case, "n_token"),
        dropped_tokens: 0,
        width: rows(case, "student.dimreduction.fc1.weight"),
        heads: whole(case, "heads"),
        anchor: Anchor::Moving,
        anchor_decay: case.hyper()["ema_decay"].as_f64().unwrap(),
        temperature: 1.0,
        distillation: Distillation::Mean,
        distillation_weight: 1.0,
        // The reference has the tokens' classifiers and leaves them out of its loss.
        branch_weight: 1.0,
    };
    let build = |settings: &AsmilSettings| Golden::new(case, &RELEASED, |path, features| settings.build(path, features, classes).unwrap());
    let (golden, model) = build(&settings);
    let (_moving_store, mut moving) = build(&settings);
    let (_frozen_store, mut frozen) = build(&AsmilSettings { anchor: Anchor::Frozen, ..settings.clone() });
    no_grad(|| moving.after_step());
    no_grad(|| frozen.after_step());
    for bag in golden.bags() {
        let pooled = model.pool(&bag.input, &bag.mask, false, Some(&bag.targets));
        let logits = bag.logits(&pooled);
        bag.compare("bag", &pooled.embedding);
        bag.compare("sub_logits", &model.branch_logits(&bag.input, &bag.mask).squeeze_dim(0));
        let anchor = model.anchor_scores(&bag.input);
        bag.compare("anchor_attention_raw", &anchor.squeeze_dim(0));
        let attention = pooled.attention.as_ref().unwrap();
        let temperatures: Vec<String> = case.names().filter_map(|name| name.strip_prefix(&bag.name("kd_T"))).map(str::to_owned).collect();
        assert!(!temperatures.is_empty(), "{}: no distillation is stored", case.name);
        for text in temperatures {
            let target = anchor_target(&anchor, &bag.mask, text.parse().unwrap());
            bag.compare(&format!("anchor_nsf_T{text}"), &target.squeeze_dim(0));
            bag.compare(&format!("kd_T{text}"), &distil(attention, &target, &bag.mask, Distillation::Mean));
            bag.compare(&format!("kd_sum_over_N_T{text}"), &distil(attention, &target, &bag.mask, Distillation::Sum));
        }
        bag.compare("anchor_after_ema_intended.q", &moving.anchor_queries().unsqueeze(0));
        bag.compare("anchor_after_ema_released.q", &frozen.anchor_queries().unsqueeze(0));
        let cross_entropy = bag.cross_entropy(&logits);
        bag.compare("loss_ce", &cross_entropy);
        let (name, distillation) = &pooled.terms[0];
        assert_eq!(*name, "distillation");
        bag.finish(&logits, &(cross_entropy + distillation));
    }
}
