//! Mean and max pooling of features; the mean and the maximum of instance logits; the instance of the largest probability.

use tch::Kind;
use wsi::aggregators::Aggregator;
use wsi::aggregators::max::{self, INSTANCE_WEIGHT, MaxSettings, Of};
use wsi::aggregators::mean::{self, MeanSettings};

use super::super::case::Case;
use super::golden::{Bag, Golden, rows, whole};

pub fn check(case: &Case) {
    if case.name.starts_with("pool_max") {
        let settings = MaxSettings { embed: false, ..Default::default() };
        compare(Golden::new(case, &max::RELEASED[0], |path, features| settings.build(path, features, whole(case, "C"))));
    } else if case.name.starts_with("pool_mean") {
        let settings = MeanSettings { embed: false, ..Default::default() };
        compare(Golden::new(case, &mean::RELEASED[1], |path, features| settings.build(path, features)));
    } else if case.name.starts_with("meanmil") {
        let settings = MeanSettings { embed: true, width: rows(case, "head.0.weight") };
        let (golden, model) = Golden::new(case, &mean::RELEASED[0], |path, features| settings.build(path, features));
        for bag in golden.bags() {
            bag.compare("instance_logits", &golden.head().forward(&alone(&model, &bag)));
        }
        compare((golden, model));
    } else if case.name.starts_with("maxmil") {
        maximum_of_logits(case);
    } else if case.name.starts_with("mil_fc") {
        strongest_instance(case);
    } else {
        panic!("{}: no such pooling", case.name);
    }
}

/// Embeddings `[N,E]` of each tile as a bag of its own.
fn alone(model: &impl Aggregator, bag: &Bag) -> tch::Tensor {
    model.pool(&bag.input.squeeze_dim(0).unsqueeze(1), &bag.mask.transpose(0, 1), false, None).embedding
}

fn compare<A: Aggregator>((golden, model): (Golden, A)) {
    for bag in golden.bags() {
        let pooled = model.pool(&bag.input, &bag.mask, false, None);
        let logits = bag.logits(&pooled);
        bag.compare("bag", &pooled.embedding);
        bag.finish(&logits, &bag.cross_entropy(&logits));
    }
}

/// The embedding is the bag's logits.
fn maximum_of_logits(case: &Case) {
    let settings = MaxSettings { width: rows(case, "head.0.weight"), of: Of::Logits, ..Default::default() };
    let (golden, model) =
        Golden::headless(case, &max::RELEASED[1], |path, features| settings.build(path, features, rows(case, "head.3.weight")));
    for bag in golden.bags() {
        bag.compare("instance_logits", &alone(&model, &bag));
        let logits = model.pool(&bag.input, &bag.mask, false, None).embedding;
        bag.compare_logits(&logits);
        bag.finish(&logits, &bag.cross_entropy(&logits));
    }
}

/// The classifier that chooses the instance gives the bag's logits; its cross-entropy is the method's own term.
fn strongest_instance(case: &Case) {
    let settings = MaxSettings { width: rows(case, "fc.0.weight"), of: Of::Instance, ..Default::default() };
    let (golden, model) = Golden::headless(case, &max::RELEASED[2], |path, features| settings.build(path, features, whole(case, "C")));
    for bag in golden.bags() {
        bag.compare("instance_probs", &model.classify(&alone(&model, &bag)).softmax(-1, None::<Kind>));
        let pooled = model.pool(&bag.input, &bag.mask, false, Some(&bag.targets));
        bag.compare("bag", &pooled.embedding);
        let logits = model.classify(&pooled.embedding);
        bag.compare_logits(&logits);
        bag.compare("y_hat", &logits.argmax(-1, false));
        bag.finish(&logits, &(&pooled.terms[0].1 / INSTANCE_WEIGHT));
    }
}
