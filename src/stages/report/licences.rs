//! Whose weights the numbers rest on, and under which licence they came.

use super::groups::Group;
use super::methods::short;
use crate::encoders::EncoderSpec;
use crate::render::blocks::{Block, Cell, Column, Section, Table};
use crate::render::names;

/// A frozen network.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Used {
    pub name: String,
    /// sha256 of its weights; empty where the extract run is not there.
    pub weights: String,
    /// As its description says; `None` for a network that did not come with the program.
    pub licence: Option<String>,
    /// Where they were had from.
    source: String,
}

/// Every frozen network behind the bags.
pub(super) fn used(groups: &[Group]) -> Vec<Used> {
    let mut all: Vec<Used> = Vec::new();
    for probe in groups.iter().filter(|group| !names::of_images(&group.key.aggregator)).flat_map(Group::probes) {
        let (name, weights) = (&probe.scores.encoder, &probe.weights);
        let same = |known: &&mut Used| known.name == *name && (known.weights == *weights || known.weights.is_empty() || weights.is_empty());
        match all.iter_mut().find(same) {
            Some(known) if known.weights.is_empty() => known.weights.clone_from(weights),
            Some(_) => {}
            None => {
                let published = EncoderSpec::built_in(name).ok().map(|spec| spec.weights);
                let licence = published.as_ref().map(|weights| weights.licence.clone()).filter(|licence| !licence.is_empty());
                let source = published.map(|weights| weights.source).unwrap_or_default();
                all.push(Used { name: name.clone(), weights: weights.clone(), licence, source });
            }
        }
    }
    all
}

/// The section; `None` for images, whose networks were trained here.
pub(super) fn section(groups: &[Group]) -> Option<Section> {
    let columns =
        vec![Column::text("Encoder"), Column::text("Licence of its weights"), Column::text("Source"), Column::text("sha256 used")];
    let line = |one: &Used| {
        let known = |text: &str, otherwise: &str| Cell::text(if text.is_empty() { otherwise } else { text });
        vec![
            Cell::text(&one.name),
            known(one.licence.as_deref().unwrap_or_default(), "not known to this program: ask whoever gave you the weights"),
            known(&one.source, "–"),
            known(&short(&one.weights), "not known: the extract run is not there"),
        ]
    };
    let rows: Vec<Vec<Cell>> = used(groups).iter().map(line).collect();
    let lead =
        "A licence may forbid commercial use, or ask for a citation; it covers what is made with the weights only as far as it says so.";
    (!rows.is_empty()).then(|| Section {
        id: "licences",
        title: "Licences of weights".to_owned(),
        lead: lead.to_owned(),
        blocks: vec![Block::Table(Table { name: "Encoders and their licences".to_owned(), columns, rows, folded: None })],
    })
}
