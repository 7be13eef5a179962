//! ROC and precision–recall of the linear probe, one class against the rest, with pointwise bands.

use anyhow::Result;

use super::sides::{Judged, LINES, Side};
use crate::ground::interval::Interval;
use crate::metrics::bootstrap::{Bootstrap, Bounds};
use crate::metrics::ranking::{false_positive_rates, recalls};
use crate::render::blocks::{Block, Cell, Column, Figure, Section, Table};
use crate::render::figures::Axes;
use crate::render::{Banded, Chance, bands, names};
use crate::store::table::Cells;

/// Classes up to which each has charts and lines of its own.
const CLASSES: usize = 8;
/// Settings whose charts of single classes are on the page; those of all are beside it.
const SETTINGS: usize = 3;
/// Steps of all resamples of a recipe, rows times classes; bands of more are made of fewer resamples.
const WORK: usize = 4_000_000_000;
/// Resamples below which a band says nothing.
const FEWEST: usize = 200;

/// Curves of one class, or of their mean.
pub(super) struct Curves {
    pub roc: Vec<Interval>,
    pub precision: Vec<Interval>,
    pub auc: Interval,
    pub average_precision: Interval,
}

/// Curves of every recipe of a setting: those of single classes first, where there are few, then their mean.
struct Ranked<'a> {
    side: &'a Side<'a>,
    /// `[recipes][classes + 1]`, or `[recipes][1]`.
    curves: Vec<Vec<Curves>>,
}

/// The section; `None` where nothing is scored.
pub(super) fn section(sides: &[Side], bootstrap: &Bootstrap) -> Result<Option<Section>> {
    let (mut blocks, mut used) = (Vec::new(), Vec::new());
    for (index, side) in sides.iter().enumerate() {
        let ranked = Ranked::new(side, bootstrap, &mut used);
        let classes = side.classes();
        if sides.len() > 1 {
            blocks.push(Block::Title(side.title.clone()));
        }
        let what = if classes.len() == 2 { "mean of both classes".to_owned() } else { format!("mean of {} classes", classes.len()) };
        let mean = ranked.mean();
        blocks.push(Block::Figures(ranked.charts(mean, &what)?));
        blocks.push(Block::Table(ranked.table(&[mean])));
        if mean > 1 {
            let each = (0..mean).map(|class| ranked.charts(class, &classes[class])).collect::<Result<Vec<_>>>()?.concat();
            let single = Block::Table(ranked.table(&(0..mean).collect::<Vec<_>>()));
            // Beyond a few settings the page would be longer, and tell no more.
            let charts = if index < SETTINGS { Block::Figures(each) } else { Block::Files(each) };
            blocks.push(Block::Folded("Each class against the rest".to_owned(), vec![single, charts]));
        }
    }
    let bands = match used.iter().filter(|resamples| **resamples > 0).min() {
        None => String::new(),
        Some(least) => {
            format!(" Bands are pointwise 95 % percentile intervals, whole patients drawn as for the scores, {least} resamples.")
        }
    };
    let lead = format!(
        "One class against the rest under the linear probe; curves are averaged at equal false-positive rate or recall over classes and seeds, \
         folds pooled.{bands} Dashed: guessing. At most {LINES} recipes are drawn; the table has all."
    );
    Ok((!blocks.is_empty()).then(|| Section { id: "ranking", title: "ROC and precision–recall".to_owned(), lead, blocks }))
}

impl<'a> Ranked<'a> {
    /// `used` learns how many resamples each recipe's bands have.
    fn new(side: &'a Side<'a>, bootstrap: &Bootstrap, used: &mut Vec<usize>) -> Self {
        let single = side.classes().len() <= CLASSES;
        let mut curves = Vec::new();
        for recipe in &side.recipes {
            let affordable = WORK / (recipe.pool.rows() * side.classes().len()).max(1);
            let banded = recipe.group.key.is_strict() && affordable >= FEWEST;
            let resamples = if banded { bootstrap.resamples.min(affordable) } else { 0 };
            used.push(resamples);
            curves.push(recipe.pool.ranked(single, &Bootstrap { bounds: Bounds::Percentile, resamples, ..*bootstrap }));
        }
        Self { side, curves }
    }

    /// Place of the mean; as many classes stand before it.
    fn mean(&self) -> usize {
        self.curves.first().map_or(0, |curves| curves.len() - 1)
    }

    /// The two charts of a class, or of the mean.
    fn charts(&self, class: usize, what: &str) -> Result<Vec<Figure>> {
        let axes = |x, y| Axes { title: "", x, y, doubling: false };
        // Without classes before it, the mean has the first place.
        let whose = if class == self.mean() { usize::MAX } else { class };
        let chance = Chance::Level(self.side.recipes.first().map_or(0.0, |recipe| recipe.pool.prevalence(whose)));
        let (roc, steps) = (axes("false-positive rate", "true-positive rate"), axes("recall", "precision"));
        Ok(vec![
            self.chart("ROC", what, &roc, Chance::Diagonal, &false_positive_rates(), |recipe| &self.curves[recipe][class].roc)?,
            self.chart("Precision–recall", what, &steps, chance, &recalls(), |recipe| &self.curves[recipe][class].precision)?,
        ])
    }

    /// `of` gives a recipe's values at the places `at`.
    fn chart<'b>(
        &'b self,
        title: &str,
        what: &str,
        axes: &Axes,
        chance: Chance,
        at: &[f64],
        of: impl Fn(usize) -> &'b Vec<Interval>,
    ) -> Result<Figure> {
        let points = |place: usize| at.iter().copied().zip(of(place).iter().copied());
        let line = |(place, recipe): (usize, &Judged)| Banded {
            label: recipe.name.clone(),
            points: points(place).collect(),
            series: recipe.series,
        };
        let lines: Vec<Banded> = self.side.drawn().iter().enumerate().map(line).collect();
        let alt = format!("{title} of {what} for {}; a table beside it holds the areas.", names::count(lines.len(), "recipe"));
        let recipes = self.side.recipes.iter().enumerate();
        let every: Vec<(&str, f64, Interval)> =
            recipes.flat_map(|(place, recipe)| points(place).map(|(x, y)| (recipe.name.as_str(), x, y))).collect();
        let real = |cell: fn(&(&str, f64, Interval)) -> f64| Cells::Real(every.iter().map(cell).collect());
        Ok(Figure {
            name: names::slug(&format!("{title} {what} {}", self.side.title)),
            title: format!("{title}, {what}"),
            svg: bands(&lines, axes, chance, &alt)?,
            data: vec![
                ("recipe".to_owned(), Cells::Text(every.iter().map(|line| line.0.to_owned()).collect())),
                (axes.x.replace([' ', '-'], "_"), real(|line| line.1)),
                (axes.y.replace([' ', '-'], "_"), real(|line| line.2.value)),
                ("low".to_owned(), real(|line| line.2.low)),
                ("high".to_owned(), real(|line| line.2.high)),
            ],
            numbers: false,
        })
    }

    /// Areas of every recipe.
    fn table(&self, classes: &[usize]) -> Table {
        let cell = |area: &Interval| {
            let under = if area.is_bounded() { format!("{}–{}", names::score(area.low), names::score(area.high)) } else { String::new() };
            Cell { text: names::score(area.value), under, strong: false }
        };
        let mut columns = vec![Column::text("Recipe")];
        for &class in classes {
            let what = if class == self.mean() { "mean of classes" } else { &self.side.classes()[class] };
            columns.extend([Column::number("AUC", what), Column::number("Average precision", what)]);
        }
        let areas = |curves: &Vec<Curves>| {
            classes.iter().flat_map(|&class| [cell(&curves[class].auc), cell(&curves[class].average_precision)]).collect()
        };
        let line = |(recipe, curves): (&Judged, &Vec<Curves>)| [vec![Cell::text(&recipe.name)], areas(curves)].concat();
        let name = format!("Areas under the curves{}, {}", if classes == [self.mean()] { "" } else { " of each class" }, self.side.title);
        Table { name, columns, rows: self.side.recipes.iter().zip(&self.curves).map(line).collect(), folded: None }
    }
}
