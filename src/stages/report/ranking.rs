//! ROC and precision–recall of the linear probe, one class against the rest, with pointwise bands.

use anyhow::Result;

use super::sides::{LINES, Side};
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

/// The section; `None` where nothing is scored.
pub(super) fn section(sides: &[Side], bootstrap: &Bootstrap) -> Result<Option<Section>> {
    let mut blocks = Vec::new();
    let mut fewest = bootstrap.resamples;
    for (index, side) in sides.iter().enumerate() {
        let single = side.classes().len() <= CLASSES;
        let found: Vec<(usize, Vec<Curves>)> = side
            .recipes
            .iter()
            .enumerate()
            .map(|(place, recipe)| {
                let wanted = recipe.group.key.is_strict().then_some(bootstrap.resamples).unwrap_or(0);
                let affordable = WORK / (recipe.pool.rows() * side.classes().len()).max(1);
                let resamples = if affordable < FEWEST { 0 } else { wanted.min(affordable) };
                fewest = fewest.min(if wanted == 0 { fewest } else { resamples });
                let bootstrap = Bootstrap { bounds: Bounds::Percentile, resamples, ..*bootstrap };
                (place, recipe.pool.ranked(single, &bootstrap))
            })
            .collect();
        let mean = found.first().map_or(0, |(_, curves)| curves.len() - 1);
        if sides.len() > 1 {
            blocks.push(Block::Words(side.title.clone()));
        }
        let what =
            if side.classes().len() == 2 { "mean of both classes".to_owned() } else { format!("mean of {} classes", side.classes().len()) };
        blocks.push(Block::Figures(charts(side, &found, mean, &what)?));
        blocks.push(Block::Table(table(side, &found, single)));
        if single && side.classes().len() > 1 {
            let each = (0..mean).map(|class| charts(side, &found, class, &side.classes()[class])).collect::<Result<Vec<_>>>()?.concat();
            // Beyond a few settings the page would be long, not more telling.
            let hidden = index >= SETTINGS;
            blocks.push(if hidden {
                Block::Files(each)
            } else {
                Block::Folded("Each class against the rest".to_owned(), vec![Block::Figures(each)])
            });
        }
    }
    let bands = match fewest {
        0 => String::new(),
        resamples => {
            format!(" Bands are pointwise 95 % percentile intervals, whole patients drawn as for the scores, {resamples} resamples.")
        }
    };
    let lead = format!(
        "One class against the rest under the linear probe; curves are averaged at equal false-positive rate or recall over classes and seeds, \
         folds pooled.{bands} Dashed: guessing. At most {LINES} recipes are drawn; the table has all."
    );
    Ok((!blocks.is_empty()).then(|| Section { id: "ranking", title: "ROC and precision–recall".to_owned(), lead, blocks }))
}

/// The two charts of a class, or of the mean.
fn charts(side: &Side, found: &[(usize, Vec<Curves>)], class: usize, what: &str) -> Result<Vec<Figure>> {
    let prevalence = side.recipes.first().map_or(0.0, |recipe| recipe.pool.prevalence(class));
    let kinds: [(&str, &str, Axes, Chance, Vec<f64>, fn(&Curves) -> &[Interval]); 2] = [
        (
            "roc",
            "ROC",
            Axes { title: "", x: "false-positive rate", y: "true-positive rate", doubling: false },
            Chance::Diagonal,
            false_positive_rates(),
            |curves| &curves.roc,
        ),
        (
            "precision-recall",
            "Precision–recall",
            Axes { title: "", x: "recall", y: "precision", doubling: false },
            Chance::Level(prevalence),
            recalls(),
            |curves| &curves.precision,
        ),
    ];
    let chart = |(file, title, axes, chance, at, of): (&str, &str, Axes, Chance, Vec<f64>, fn(&Curves) -> &[Interval])| {
        let points =
            |place: usize| -> Vec<(f64, Interval)> { at.iter().copied().zip(of(&found[place].1[class]).iter().copied()).collect() };
        let lines: Vec<Banded> = side
            .drawn()
            .iter()
            .enumerate()
            .map(|(place, recipe)| Banded { label: recipe.name.clone(), points: points(place), series: recipe.series })
            .collect();
        let alt = format!("{title} of {what} for {}; the table that follows holds the areas.", names::count(lines.len(), "recipe"));
        let every: Vec<(&str, f64, Interval)> = side
            .recipes
            .iter()
            .enumerate()
            .flat_map(|(place, recipe)| points(place).into_iter().map(|(x, y)| (recipe.name.as_str(), x, y)))
            .collect();
        let real = |cell: fn(&(&str, f64, Interval)) -> f64| Cells::Real(every.iter().map(cell).collect());
        Ok(Figure {
            name: names::slug(&format!("{file} {what} {}", side.title)),
            title: format!("{title}, {what}"),
            svg: bands(&lines, &axes, chance, &alt)?,
            data: vec![
                ("recipe".to_owned(), Cells::Text(every.iter().map(|line| line.0.to_owned()).collect())),
                (axes.x.replace([' ', '-'], "_"), real(|line| line.1)),
                (axes.y.replace([' ', '-'], "_"), real(|line| line.2.value)),
                ("low".to_owned(), real(|line| line.2.low)),
                ("high".to_owned(), real(|line| line.2.high)),
            ],
            numbers: false,
        })
    };
    kinds.into_iter().map(chart).collect()
}

/// Areas of every recipe: of the mean, and of each class.
fn table(side: &Side, found: &[(usize, Vec<Curves>)], single: bool) -> Table {
    let cell = |area: &Interval| {
        let under = if area.is_bounded() { format!("{}–{}", names::score(area.low), names::score(area.high)) } else { String::new() };
        Cell { text: names::score(area.value), under, strong: false }
    };
    let mut columns =
        vec![Column::text("Recipe"), Column::number("AUC", "mean of classes"), Column::number("Average precision", "mean of classes")];
    if single {
        for class in side.classes() {
            columns.extend([Column::number("AUC", class), Column::number("AP", class)]);
        }
    }
    let line = |(place, curves): &(usize, Vec<Curves>)| {
        let mean = &curves[curves.len() - 1];
        let classes = if single { &curves[..curves.len() - 1] } else { &[] };
        let areas = std::iter::once(mean).chain(classes).flat_map(|of| [cell(&of.auc), cell(&of.average_precision)]);
        std::iter::once(Cell::text(&side.recipes[*place].name)).chain(areas).collect()
    };
    Table { name: format!("Areas under the curves, {}", side.title), columns, rows: found.iter().map(line).collect(), folded: None }
}
