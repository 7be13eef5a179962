//! Mean and max pooling of features; the mean of instance logits.

use wsi::aggregators::Aggregator;
use wsi::aggregators::max::{self, MaxSettings};
use wsi::aggregators::mean::{self, MeanSettings};

use super::super::case::Case;
use super::golden::{Golden, rows};

pub fn check(case: &Case) {
    if case.name.starts_with("pool_max") {
        let settings = MaxSettings { embed: false, ..Default::default() };
        compare(Golden::new(case, &max::RELEASED, |path, features| settings.build(path, features)));
    } else if case.name.starts_with("pool_mean") {
        let settings = MeanSettings { embed: false, ..Default::default() };
        compare(Golden::new(case, &mean::RELEASED[1], |path, features| settings.build(path, features)));
    } else if case.name.starts_with("meanmil") {
        let settings = MeanSettings { embed: true, width: rows(case, "head.0.weight") };
        let (golden, model) = Golden::new(case, &mean::RELEASED[0], |path, features| settings.build(path, features));
        for bag in golden.bags() {
            // Each tile as a bag of its own: the instance logits.
            let alone = model.pool(&bag.input.squeeze_dim(0).unsqueeze(1), &bag.mask.transpose(0, 1), false, None);
            bag.compare("instance_logits", &golden.head.forward(&alone.embedding));
        }
        compare((golden, model));
    } else {
        panic!("{}: no such pooling", case.name);
    }
}

fn compare<A: Aggregator>((golden, model): (Golden, A)) {
    for bag in golden.bags() {
        let pooled = model.pool(&bag.input, &bag.mask, false, None);
        let logits = bag.logits(&pooled);
        bag.compare("bag", &pooled.embedding);
        bag.finish(&logits, &bag.cross_entropy(&logits));
    }
}
