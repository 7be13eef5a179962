//! The page of one table or figure: what it says, the thing itself, how it was made, where it comes from.

use maud::{Markup, PreEscaped, html};

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

/// A part of the page.
#[derive(Debug)]
pub enum Block {
    /// Begins a section.
    Heading {
        /// Its title.
        title: String,
        /// How to read it.
        lead: String,
    },
    /// Numbers.
    Table(Table),
    /// Pictures side by side, inline SVG.
    Pictures(Vec<String>),
}

impl Block {
    /// A heading and how to read what follows.
    pub fn heading(title: &str, lead: &str) -> Self {
        Self::Heading { title: title.to_owned(), lead: lead.to_owned() }
    }
}

/// Rows of cells under named columns.
#[derive(Debug)]
pub struct Table {
    /// For those who do not see it.
    pub name: String,
    /// Left to right.
    pub columns: Vec<Column>,
    /// As many cells each as there are columns; the first names the row.
    pub rows: Vec<Vec<Cell>>,
    /// Shown behind these words, where it is the numbers of a picture.
    pub folded: Option<String>,
}

/// Head of a column.
#[derive(Debug)]
pub struct Column {
    /// Its name.
    pub title: String,
    /// Unit or remark; may be empty.
    pub unit: String,
    /// Set to the right.
    pub number: bool,
}

impl Column {
    /// Of words.
    pub fn text(title: &str) -> Self {
        Self { title: title.to_owned(), unit: String::new(), number: false }
    }

    /// Of numbers.
    pub fn number(title: &str, unit: &str) -> Self {
        Self { title: title.to_owned(), unit: unit.to_owned(), number: true }
    }
}

/// One cell.
#[derive(Debug, Clone)]
pub struct Cell {
    /// What it says.
    pub text: String,
    /// In small print below; may be empty.
    pub under: String,
    /// Stands out.
    pub strong: bool,
}

impl Cell {
    /// Plain words or a plain number.
    pub fn text(text: &str) -> Self {
        Self { text: text.to_owned(), under: String::new(), strong: false }
    }
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
                @for block in sheet.blocks { (block_of(block)) }
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

fn block_of(block: &Block) -> Markup {
    match block {
        Block::Heading { title, lead } => html! { h2 { (title) } @if !lead.is_empty() { p.lead { (lead) } } },
        Block::Table(table) => match &table.folded {
            Some(summary) => html! { details { summary { (summary) } (table_of(table)) } },
            None => table_of(table),
        },
        Block::Pictures(pictures) => {
            html! { div.panel { div.pair { @for picture in pictures { figure { (PreEscaped(picture)) } } } } }
        }
    }
}

fn table_of(table: &Table) -> Markup {
    let class = |number: bool, strong: bool| match (number, strong) {
        (true, true) => "number strong",
        (true, false) => "number",
        (false, true) => "strong",
        (false, false) => "",
    };
    html! { div.wide tabindex="0" role="region" aria-label=(table.name) { table {
        thead { tr { @for column in &table.columns {
            th scope="col" class=[column.number.then_some("number")] { (column.title) @if !column.unit.is_empty() { " " span.unit { (column.unit) } } }
        } } }
        tbody { @for row in &table.rows { tr { @for (index, (cell, column)) in row.iter().zip(&table.columns).enumerate() {
            @let content = html! { (cell.text) @if !cell.under.is_empty() { span.under { (cell.under) } } };
            @if index == 0 { th scope="row" { (content) } } @else { td class=(class(column.number, cell.strong)) { (content) } }
        } } } }
    } } }
}
