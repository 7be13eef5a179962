//! What pages are put together from: tables, charts with the numbers behind them, pictures, words.

use maud::{Markup, PreEscaped, html};

use super::Picture;
use crate::store::table::Cells;

/// Lines of a table behind a chart; all lines are in its CSV.
const LINES: usize = 12;

/// A section of a page.
#[derive(Debug)]
pub struct Section {
    /// Its anchor: one word.
    pub id: &'static str,
    /// Its heading.
    pub title: String,
    /// How to read it.
    pub lead: String,
    /// In the order in which they are shown.
    pub blocks: Vec<Block>,
}

/// A part of a page.
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
    /// Charts side by side, each with the numbers behind it.
    Figures(Vec<Figure>),
    /// Slides.
    Slides(Vec<Picture>),
    /// Slides in pictures that have letters.
    Maps(Vec<Picture>),
    /// Begins a part of a section.
    Title(String),
    /// A paragraph.
    Words(String),
    /// What is seen when it is opened.
    Folded(String, Vec<Block>),
    /// Charts that are beside the page only.
    Files(Vec<Figure>),
}

impl Block {
    /// A heading and how to read what follows.
    pub fn heading(title: &str, lead: &str) -> Self {
        Self::Heading { title: title.to_owned(), lead: lead.to_owned() }
    }

    /// The charts of this block and of those in it.
    pub fn figures(&self) -> Vec<&Figure> {
        match self {
            Self::Figures(figures) | Self::Files(figures) => figures.iter().collect(),
            Self::Folded(_, blocks) => blocks.iter().flat_map(Self::figures).collect(),
            _ => Vec::new(),
        }
    }
}

/// A chart, on the page and as two files beside it: the picture, and every number in it.
#[derive(Debug, Clone)]
pub struct Figure {
    /// Name of its files, without ending.
    pub name: String,
    /// Above it; may be empty.
    pub title: String,
    /// As [`super::charts`] and [`super::figures`] draw: inline SVG with a name for screen readers.
    pub svg: String,
    /// Columns of its CSV, all of one length.
    pub data: Vec<(String, Cells)>,
    /// Whether its numbers stand behind it on the page, too; not where a table beside it holds them.
    pub numbers: bool,
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

/// The section with its heading and anchor.
pub(super) fn section(section: &Section) -> Markup {
    html! { section aria-labelledby=(section.id) {
        h2 id=(section.id) { (section.title) }
        @if !section.lead.is_empty() { p.lead { (section.lead) } }
        @for one in &section.blocks { (block(one)) }
    } }
}

pub(super) fn block(block: &Block) -> Markup {
    match block {
        Block::Heading { title, lead } => html! { h2 { (title) } @if !lead.is_empty() { p.lead { (lead) } } },
        Block::Table(table) => match &table.folded {
            Some(summary) => html! { details { summary { (summary) } (table_of(table)) } },
            None => table_of(table),
        },
        Block::Pictures(pictures) => {
            html! { div.panel { div.pair { @for picture in pictures { figure { (PreEscaped(picture)) } } } } }
        }
        Block::Figures(figures) => html! {
            div.panel { div.pair { @for one in figures { (figure(one)) } } }
        },
        Block::Files(figures) => html! { p.lead { (super::names::count(figures.len(), "more chart")) " in figures/." } },
        Block::Slides(pictures) => slides(pictures, "slides"),
        Block::Maps(pictures) => slides(pictures, "slides maps"),
        Block::Title(title) => html! { h3 { (title) } },
        Block::Words(words) => html! { p.lead { (words) } },
        Block::Folded(summary, blocks) => html! { details { summary { (summary) } @for one in blocks { (self::block(one)) } } },
    }
}

/// A chart under its title, with its numbers behind it.
pub(super) fn figure(figure: &Figure) -> Markup {
    html! { figure {
        @if !figure.title.is_empty() { figcaption { (figure.title) } }
        (PreEscaped(&figure.svg))
        @if figure.numbers { (numbers(figure)) }
    } }
}

/// About a dozen of a chart's lines; `figures/` holds all.
fn numbers(figure: &Figure) -> Markup {
    let lines = figure.data.first().map_or(0, |(_, cells)| cells.len());
    let stride = lines.div_ceil(LINES).max(1);
    let kept: Vec<usize> = (0..lines).filter(|line| line.is_multiple_of(stride) || line + 1 == lines).collect();
    let cell = |cells: &Cells, line: usize| match cells {
        Cells::Text(cells) => cells[line].clone(),
        Cells::Whole(cells) => cells[line].to_string(),
        Cells::Real(cells) => super::figures::short(cells[line]),
    };
    let number = |cells: &Cells| (!matches!(cells, Cells::Text(_))).then_some("number");
    html! { details {
        summary { @if stride > 1 { "Some of the numbers; all are in figures/" (figure.name) ".csv" } @else { "Numbers" } }
        div.wide tabindex="0" role="region" aria-label={ "Numbers of " (if figure.title.is_empty() { &figure.name } else { &figure.title }) } { table.small {
            thead { tr { @for (name, cells) in &figure.data { th scope="col" class=[number(cells)] { (name.replace('_', " ")) } } } }
            tbody { @for line in kept { tr { @for (_, cells) in &figure.data { td class=[number(cells)] { (cell(cells, line)) } } } } }
        } }
    } }
}

fn slides(pictures: &[Picture], class: &str) -> Markup {
    html! { ul class=(class) { @for picture in pictures {
        @let wrong = picture.label != picture.predicted;
        li class=[wrong.then_some("wrong")] {
            img src={ "data:image/jpeg;base64," (picture.jpeg) } alt=(picture.alt);
            strong { (picture.slide_id) }
            @if wrong { span { (picture.label) ", taken for " em { (picture.predicted) } } } @else { span { (picture.label) ", right" } }
            @if !picture.remark.is_empty() { span { (picture.remark) } }
        }
    } } }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_chart_shows_some_of_its_numbers_and_says_where_all_are() {
        let data = vec![("epoch".to_owned(), Cells::Whole((1..=100).collect())), ("of_it".to_owned(), Cells::Real(vec![0.5; 100]))];
        let one = Figure { name: "course".into(), title: "Accuracy".into(), svg: "<svg></svg>".into(), data, numbers: true };
        let html = figure(&one).into_string();
        assert!(html.contains("all are in figures/course.csv") && html.contains(">of it<") && html.contains(">100<"), "{html}");
        assert!((12..=14).contains(&html.matches("<tr><td").count()), "{html}");
    }

    #[test]
    fn charts_in_folded_blocks_are_found() {
        let one = Figure { name: "a".into(), title: String::new(), svg: String::new(), data: Vec::new(), numbers: false };
        let block = Block::Folded("more".into(), vec![Block::Words("w".into()), Block::Figures(vec![one.clone(), one])]);
        assert_eq!(block.figures().len(), 2);
    }
}
