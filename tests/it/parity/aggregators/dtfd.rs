//! DTFD-MIL in the reference's order of tiles, every distillation.

use tch::no_grad;
use wsi::aggregators::dtfd::{Distilled, DtfdSettings, RELEASED};

use super::super::case::Case;
use super::golden::{Golden, rows, whole};

pub fn check(case: &Case) {
    let classes = whole(case, "C");
    let settings = DtfdSettings {
        width: rows(case, "dim_reduction.fc1.weight"),
        attention_width: rows(case, "attention.attention_V.0.weight"),
        groups: whole(case, "numGroup"),
        distillation: Distilled::Afs,
        instances: whole(case, "total_instance"),
        first_tier_weight: 1.0,
        separate_tiers: false,
    };
    for (text, distillation) in [("AFS", Distilled::Afs), ("MaxS", Distilled::MaxS), ("MaxMinS", Distilled::MaxMinS)] {
        let settings = DtfdSettings { distillation, ..settings.clone() };
        let (golden, model) = Golden::new(case, &RELEASED, |path, features| settings.build(path, features, classes).unwrap());
        for bag in golden.bags() {
            let tiers = model.tiers(&bag.input.squeeze_dim(0), &case.stored(&bag.name("perm")));
            let logits = golden.head().forward(&tiers.embedding.unsqueeze(0));
            let second = bag.cross_entropy(&logits);
            bag.compare(&format!("tier2_in_{text}"), &tiers.distilled);
            bag.compare(&format!("logits_{text}"), &logits);
            bag.compare(&format!("loss_tier2_{text}"), &second);
            let sum = no_grad(|| tiers.attention.sum(None::<tch::Kind>)).double_value(&[]);
            assert!((sum - 1.0).abs() < 1e-5, "{}: attention sums to {sum}", case.name);
            if distillation == Distilled::Afs {
                let target = bag.targets.expand([tiers.logits.size()[0]], false);
                let first = tiers.logits.cross_entropy_for_logits(&target);
                bag.compare("tier1_logits", &tiers.logits);
                bag.compare("loss_tier1", &first);
                bag.compare("attention_raw", &tiers.scores.unsqueeze(0));
                bag.compare("logits", &logits);
                bag.finish(&logits, &(first + second));
            }
        }
    }
}
