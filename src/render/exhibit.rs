//! The page of one table or figure: what it says, the thing itself, how it was made, where it comes from.

use maud::html;

use super::blocks::{self, Block};
use super::page::{document, notes};
use super::{Origin, names, tables};

/// All that the page shows.
#[derive(Debug)]
pub struct Sheet<'a> {
    /// What it is.
    pub title: &'a str,
    /// What follows from it.
    pub verdict: &'a str,
    /// Name and value.
    pub facts: &'a [(String, String)],
    /// Why the paper's values are of another experiment; empty where they are not.
    pub apart: &'a [String],
    /// What must be read first.
    pub notes: &'a [String],
    /// In the order in which they are shown.
    pub blocks: &'a [Block],
    /// What the experiment is about.
    pub remarks: &'a [String],
    /// How the numbers were made, a paragraph each.
    pub methods: &'a [String],
    /// Where each number comes from.
    pub origins: &'a [Origin],
    /// Of this program.
    pub version: &'a str,
}

/// The whole page as HTML; refers to nothing outside itself.
pub fn page(sheet: &Sheet) -> String {
    document(
        sheet.title,
        &html! {
            header {
                p.brand { "wsi report" }
                h1 { (sheet.title) }
                p.verdict { (sheet.verdict) }
                dl.facts { @for (name, value) in sheet.facts { div { dt { (name) } dd { (value) } } } }
                @if !sheet.apart.is_empty() { aside.notes aria-label="Not the paper's experiment" {
                    strong { "Not the paper's experiment: its values stand beside ours for orientation and are no reference for them" }
                    ul { @for reason in sheet.apart { li { (reason) } } }
                } }
                @if !sheet.notes.is_empty() { (notes(sheet.notes)) }
            }
            main {
                @for block in sheet.blocks { (blocks::block(block)) }
                section aria-labelledby="methods" {
                    h2 #methods { "Methods" }
                    @for text in sheet.remarks.iter().chain(sheet.methods) { p.prose { (text) } }
                }
                section aria-labelledby="provenance" {
                    h2 #provenance { "Provenance" }
                    p.lead { "table.csv beside this page holds the numbers; every one of them follows from the files in these folders." }
                    details { summary { (names::count(sheet.origins.len(), "run")) } (tables::origins(sheet.origins)) }
                }
            }
            footer { p { "wsi " (sheet.version) } }
        },
    )
}
