//! CLAM with one branch and with one a class, every instance loss.

use wsi::aggregators::Aggregator;
use wsi::aggregators::branches::Branches;
use wsi::aggregators::clam::{ClamSettings, InstanceLoss, RELEASED};

use super::super::case::Case;
use super::golden::{Golden, has, rows, whole};

pub fn check(case: &Case) {
    let hyper = case.hyper();
    let gated = hyper["gate"].as_bool().unwrap();
    let hidden = if gated { "attention_net.3.attention_a.0.weight" } else { "attention_net.3.module.0.weight" };
    let bag_weight = hyper["bag_weight"].as_f64().unwrap();
    let (k, classes) = (whole(case, "k_sample"), whole(case, "C"));
    let settings = ClamSettings {
        width: rows(case, "attention_net.0.weight"),
        attention_width: rows(case, hidden),
        gated,
        instances: k,
        subtyping: hyper["subtyping"].as_bool().unwrap(),
        instance_loss: match hyper.get("inst_loss").and_then(|loss| loss.as_str()) {
            None | Some("cross entropy") => InstanceLoss::CrossEntropy,
            Some("SmoothTop1SVM tau=1 alpha=1") => InstanceLoss::SmoothSvm,
            Some(other) => panic!("{}: instance loss '{other}'", case.name),
        },
        instance_weight: 1.0 - bag_weight,
        branches: Branches::Flatten,
        ..Default::default()
    };
    let (golden, model) = Golden::new(case, &RELEASED, |path, features| {
        if has(case, "classifiers.weight") {
            settings.build_single(path, features, classes)
        } else {
            settings.build_multi(path, features, classes)
        }
        .unwrap()
    });
    for bag in golden.bags() {
        // The reference computes no instance loss for a bag smaller than k.
        let targets = (bag.tiles >= k).then_some(&bag.targets);
        let pooled = model.pool(&bag.input, &bag.mask, false, targets);
        let logits = bag.logits(&pooled);
        bag.compare("bag", &pooled.embedding.view([-1, settings.width]));
        let of_bag = bag.cross_entropy(&logits);
        bag.compare("loss_bag", &of_bag);
        let loss = if targets.is_some() {
            let instances = model.instances_of(&bag.input.squeeze_dim(0), bag.label as usize);
            bag.compare("instance_loss", &instances.loss);
            bag.compare("inst_labels", &instances.labels);
            bag.compare("inst_preds", &instances.predictions);
            let (top, bottom) = model.extremes(&pooled.scores.unwrap().squeeze_dim(0));
            bag.compare("top_ids", &top);
            bag.compare("bottom_ids", &bottom);
            of_bag * model.objective_weight() + &pooled.terms[0].1
        } else {
            of_bag
        };
        bag.finish(&logits, &loss);
    }
}
