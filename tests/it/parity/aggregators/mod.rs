//! Aggregators against their reference implementations: embeddings, attention, losses and gradients, for every bag size.

mod abmil;
mod aem;
mod golden;
mod plain;

use super::case::{Outcome, each};

#[test]
fn parity_aggregators() {
    each("parity::aggregators", "aggregators", |case| {
        let check = match case.name.split('_').next().unwrap() {
            "abmil" => abmil::check,
            "aem" => aem::check,
            "pool" | "meanmil" => plain::check,
            // Instance classifiers whose strongest logits are the bag's; CLAM's baseline.
            "maxmil" | "mil" => return Outcome::NotBuilt,
            "transmil" | "clam" | "dsmil" | "acmil" | "asmil" | "dtfd" => return Outcome::NotBuilt,
            family => panic!("{}: no aggregator is known as '{family}'", case.name),
        };
        check(case);
        Outcome::Compared
    });
}
