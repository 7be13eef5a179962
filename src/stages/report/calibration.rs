//! Whether the linear probe's probabilities mean what they say: reliability diagrams and the expected calibration error.

use anyhow::Result;

use super::sides::Side;
use crate::metrics::bootstrap::Bootstrap;
use crate::metrics::panel::BINS;
use crate::render::blocks::{Block, Cell, Column, Figure, Section, Table};
use crate::render::{Bar, names, reliability};
use crate::store::table::Cells;

/// The section; `None` where nothing is scored.
pub(super) fn section(sides: &[Side], bootstrap: &Bootstrap) -> Result<Option<Section>> {
    let mut blocks = Vec::new();
    for side in sides {
        if sides.len() > 1 {
            blocks.push(Block::Title(side.title.clone()));
        }
        let (mut charts, mut rows) = (Vec::new(), Vec::new());
        for (place, recipe) in side.recipes.iter().enumerate() {
            let ece = recipe.pool.calibration_error(BINS, bootstrap, recipe.group.key.is_strict());
            let bins = recipe.pool.reliability(BINS);
            let mut under = String::new();
            if ece.is_bounded() {
                under = format!("{}–{}", names::score(ece.low), names::score(ece.high));
            }
            rows.push(vec![
                Cell::text(&recipe.name),
                Cell { text: names::score(ece.value), under, strong: true },
                Cell::text(&names::score(recipe.pool.confidence())),
                Cell::text(&names::score(recipe.pool.accuracy())),
            ]);
            if place < side.drawn().len() {
                charts.push(chart(side, &recipe.name, recipe.series, &bins)?);
            }
        }
        blocks.push(Block::Figures(charts));
        let columns = vec![
            Column::text("Recipe"),
            Column::number("ECE", &format!("{BINS} bins, 95 % interval")),
            Column::number("Mean confidence", ""),
            Column::number("Share right", ""),
        ];
        blocks.push(Block::Table(Table { name: format!("Calibration, {}", side.title), columns, rows, folded: None }));
    }
    let lead = format!(
        "Decisions of the linear probe by their confidence (the largest probability), in {BINS} bins of equal width: the share that is right \
         against the mean confidence, and below how many there are; all seeds together. On the dashed line a model is as often right as it is \
         sure. ECE: mean distance to the line, per seed, then the mean; with few slides it is too large even for a perfect model."
    );
    Ok((!blocks.is_empty()).then(|| Section { id: "calibration", title: "Calibration".to_owned(), lead, blocks }))
}

fn chart(side: &Side, recipe: &str, series: usize, bins: &[Bar]) -> Result<Figure> {
    let filled: Vec<Bar> = bins.iter().filter(|bin| bin.3 > 0).copied().collect();
    let real = |cell: fn(&Bar) -> f64| Cells::Real(filled.iter().map(cell).collect());
    let alt = format!("Reliability of {recipe}: share of right decisions over confidence; the numbers follow.");
    Ok(Figure {
        name: names::slug(&format!("reliability {recipe} {}", side.title)),
        title: String::new(),
        svg: reliability(&filled, recipe, series, &alt)?,
        data: vec![
            ("from".to_owned(), real(|bin| bin.0.0)),
            ("to".to_owned(), real(|bin| bin.0.1)),
            ("confidence".to_owned(), real(|bin| bin.1)),
            ("right".to_owned(), real(|bin| bin.2)),
            ("decisions".to_owned(), Cells::Whole(filled.iter().map(|bin| bin.3 as i64).collect())),
        ],
        numbers: true,
    })
}
