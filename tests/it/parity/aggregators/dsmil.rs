//! DSMIL, the original and ACMIL's version.

use tch::Kind;
use wsi::aggregators::Aggregator;
use wsi::aggregators::branches::Branches;
use wsi::aggregators::dsmil::{DsmilSettings, Likelihood, RELEASED};

use super::super::case::Case;
use super::golden::{Golden, rows, whole};

pub fn check(case: &Case) {
    let hyper = case.hyper();
    let nonlinear = hyper["nonlinear"].as_bool().unwrap();
    let weight = hyper.get("lamda").map_or(0.0, |weight| weight.as_f64().unwrap());
    let settings = DsmilSettings {
        query_width: rows(case, if nonlinear { "b_classifier.q.0.weight" } else { "b_classifier.q.weight" }),
        nonlinear,
        likelihood: if case.name.contains("acmil") { Likelihood::CrossEntropy } else { Likelihood::Binary },
        instance_weight: 0.5,
        entropy_weight: weight,
        branches: Branches::Flatten,
    };
    let classes = whole(case, "C");
    let (golden, model) = Golden::new(case, &RELEASED, |path, features| settings.build(path, features, classes).unwrap());
    for bag in golden.bags() {
        let pooled = model.pool(&bag.input, &bag.mask, false, Some(&bag.targets));
        let logits = bag.logits(&pooled);
        bag.compare("bag", &pooled.embedding.view([classes, -1]));
        let selection = model.select(&bag.input, &bag.mask);
        bag.compare("instance_logits", &selection.logits.squeeze_dim(0));
        bag.compare("max_logits", &selection.highest);
        bag.compare("critical", &selection.critical.squeeze_dim(0));
        let softmax = |logits: &tch::Tensor| logits.softmax(-1, None::<Kind>);
        bag.compare("prob_eval", &((softmax(&logits) + softmax(&selection.highest)) / 2.0));
        let of_bag = settings.likelihood.of(&logits, &bag.targets);
        bag.compare("loss_bag", &of_bag);
        bag.compare("loss_max", &(bag.term(&pooled, "critical-instance") / settings.instance_weight));
        if weight > 0.0 {
            bag.compare("entropy_term_train", &(bag.term(&pooled, "negative-entropy") / weight));
        }
        let loss = pooled.terms.iter().fold(of_bag * model.objective_weight(), |sum, (_, term)| sum + term);
        bag.finish(&logits, &loss);
    }
}
