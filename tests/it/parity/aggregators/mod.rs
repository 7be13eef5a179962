//! Aggregators against their reference implementations: embeddings, attention, losses and gradients, for every bag size.

mod abmil;
mod acmil;
mod aem;
mod asmil;
mod clam;
mod dsmil;
mod dtfd;
mod golden;
mod plain;
mod transmil;

use super::case::{Outcome, each};

#[test]
fn parity_aggregators() {
    each("parity::aggregators", "aggregators", |case| {
        let check = match case.name.split('_').next().unwrap() {
            "abmil" => abmil::check,
            "acmil" => acmil::check,
            "aem" => aem::check,
            "asmil" => asmil::check,
            "clam" => clam::check,
            "dsmil" => dsmil::check,
            "dtfd" => dtfd::check,
            "pool" | "meanmil" | "maxmil" | "mil" => plain::check,
            "transmil" => transmil::check,
            family => panic!("{}: no aggregator is known as '{family}'", case.name),
        };
        check(case);
        Outcome::Compared
    });
}
