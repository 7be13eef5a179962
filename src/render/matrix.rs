//! A confusion matrix as a picture of its own, for slides and papers; the page has it as a table.

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::blocks::Figure;
use super::charts::{FONT, INK, SERIES, inline, plain};
use super::figures::width_of;
use super::{names, tables};
use crate::store::pooled::Row;
use crate::store::table::Cells;

/// Pixels of a cell.
const CELL: (i32, i32) = (84, 44);

/// Counts with the share of the row as shade. For many classes, of which no matrix can be read, nothing.
pub(super) fn figure(row: &Row) -> Result<Option<Figure>> {
    if !tables::fits_a_matrix(row) {
        return Ok(None);
    }
    let classes = row.classes.len();
    let cells = || (0..classes).flat_map(|label| (0..classes).map(move |predicted| (label, predicted)));
    let data = vec![
        ("label".to_owned(), Cells::Text(cells().map(|cell| row.classes[cell.0].clone()).collect())),
        ("predicted".to_owned(), Cells::Text(cells().map(|cell| row.classes[cell.1].clone()).collect())),
        ("count".to_owned(), Cells::Whole(cells().map(|cell| row.confusion[cell.0][cell.1] as i64).collect())),
    ];
    let name = names::slug(&format!("confusion {} {}", names::row(row), names::setting(&row.split, &row.aggregator, "")));
    Ok(Some(Figure { name, title: names::row(row), svg: draw(row)?, data, numbers: false }))
}

fn draw(row: &Row) -> Result<String> {
    let classes = row.classes.len() as i32;
    let beside = row.classes.iter().map(|class| width_of(class)).max().unwrap_or(0) as i32 + 30;
    let above = 58;
    let size = ((beside + CELL.0 * classes + 10) as u32, (above + CELL.1 * classes + 10) as u32);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let write = |text: &str, at: (i32, i32), horizontally: HPos, letters: i32| {
            let style = (FONT, letters).with_color(INK).into_text_style(&area).pos(Pos::new(horizontally, VPos::Center));
            area.draw(&Text::new(text.to_owned(), at, style)).map_err(plain)
        };
        write(&format!("{} · rows are true classes, columns predictions", names::row(row)), (8, 14), HPos::Left, 13)?;
        for (index, class) in (0..).zip(&row.classes) {
            // A long name would run into its neighbour's.
            let short: String = if class.chars().count() > 11 { class.chars().take(10).chain(['…']).collect() } else { class.clone() };
            write(&short, (beside + CELL.0 * index + CELL.0 / 2, above - 14), HPos::Center, 12)?;
            write(class, (beside - 10, above + CELL.1 * index + CELL.1 / 2), HPos::Right, 12)?;
            let counts = &row.confusion[index as usize];
            let total: u64 = counts.iter().sum();
            for (place, count) in (0..).zip(counts) {
                let share = *count as f64 / total.max(1) as f64;
                let (x, y) = (beside + CELL.0 * place, above + CELL.1 * index);
                let colour = SERIES[usize::from(place != index)].0;
                let corners = [(x + 1, y + 1), (x + CELL.0 - 1, y + CELL.1 - 1)];
                area.draw(&Rectangle::new(corners, colour.mix(0.05 + 0.45 * share).filled())).map_err(plain)?;
                write(&count.to_string(), (x + CELL.0 / 2, y + 16), HPos::Center, 14)?;
                write(&format!("{:.0} %", 100.0 * share), (x + CELL.0 / 2, y + 32), HPos::Center, 11)?;
            }
        }
        area.present().map_err(plain)?;
    }
    let alt = format!("Confusion matrix of {}; rows are true classes.", names::row(row));
    Ok(inline(&svg, &alt))
}
