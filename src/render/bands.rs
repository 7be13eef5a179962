//! ROC and precision–recall charts: lines in the unit square, each in its band.

use std::borrow::Cow;

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::charts::{FONT, GRID, INK, SERIES, inline, plain};
use super::figures::{Axes, width_of};
use crate::ground::interval::Interval;

/// Pixels of the plot with its axes; names beside it come on top.
const SIZE: (u32, u32) = (330, 300);
/// How much of the ground a band covers.
const BAND: f64 = 0.13;

/// A line in its band.
#[derive(Debug)]
pub struct Banded {
    /// In the legend.
    pub label: String,
    /// By ascending x; bounds are the band.
    pub points: Vec<(f64, Interval)>,
    /// Colour, from 0: a recipe has one on the whole page.
    pub series: usize,
}

/// What guessing would give.
#[derive(Debug, Clone, Copy)]
pub enum Chance {
    /// y = x.
    Diagonal,
    /// y is this.
    Level(f64),
}

/// Lines over the unit square.
///
/// # Errors
/// None in practice.
pub fn bands(lines: &[Banded], axes: &Axes, chance: Chance, alt: &str) -> Result<String> {
    let beside = lines.iter().map(|line| width_of(&line.label)).max().unwrap_or(0) + 40;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (SIZE.0 + beside, SIZE.1)).into_drawing_area();
        let mut builder = ChartBuilder::on(&area);
        builder.margin_left(4).margin_right(beside).margin_top(10).set_label_area_size(LabelAreaPosition::Left, 54);
        builder.set_label_area_size(LabelAreaPosition::Bottom, 40);
        if !axes.title.is_empty() {
            builder.caption(axes.title, (FONT, 15).with_color(INK));
        }
        // A little room, so that a line at 1 is seen whole.
        let mut chart = builder.build_cartesian_2d(0.0..1.0, 0.0..1.01).map_err(plain)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .x_labels(6)
            .y_labels(6)
            .x_label_formatter(&|x| format!("{x:.1}"))
            .y_label_formatter(&|y| format!("{y:.1}"))
            .x_desc(axes.x)
            .y_desc(axes.y)
            .label_style((FONT, 13).with_color(INK))
            .axis_desc_style((FONT, 13).with_color(INK))
            .draw()
            .map_err(plain)?;
        let guess = match chance {
            Chance::Diagonal => [(0.0, 0.0), (1.0, 1.0)],
            Chance::Level(level) => [(0.0, level), (1.0, level)],
        };
        chart.draw_series(DashedLineSeries::new(guess, 3, 4, INK.mix(0.5).stroke_width(1))).map_err(plain)?;
        for line in lines {
            let colour = SERIES[line.series % SERIES.len()].0;
            let bounded: Vec<_> = line.points.iter().filter(|(_, y)| y.is_bounded()).collect();
            let edge = bounded.iter().map(|(x, y)| (*x, y.low)).chain(bounded.iter().rev().map(|(x, y)| (*x, y.high)));
            let edge: Vec<(f64, f64)> = edge.collect();
            if !edge.is_empty() {
                chart.draw_series([Polygon::new(edge, colour.mix(BAND).filled())]).map_err(plain)?;
            }
        }
        let right = i32::try_from(SIZE.0).unwrap_or(0);
        for (index, line) in lines.iter().enumerate() {
            let colour = SERIES[line.series % SERIES.len()].0;
            let finite = line.points.iter().filter(|(_, y)| y.value.is_finite()).map(|(x, y)| (*x, y.value));
            chart.draw_series(LineSeries::new(finite, colour.stroke_width(2))).map_err(plain)?;
            let y = 24 + 18 * i32::try_from(index).unwrap_or(0);
            area.draw(&PathElement::new(vec![(right + 8, y), (right + 26, y)], colour.stroke_width(3))).map_err(plain)?;
            let style = (FONT, 13).with_color(INK).into_text_style(&area).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(Cow::from(line.label.clone()), (right + 32, y), style)).map_err(plain)?;
        }
        area.present().map_err(plain)?;
    }
    Ok(inline(&svg, alt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_bounds_has_no_band() {
        let axes = Axes { title: "", x: "x", y: "y", doubling: false };
        let line = |bounded: bool| {
            let of = |y: f64| if bounded { Interval { low: y - 0.1, high: y, ..Interval::point(y) } } else { Interval::point(y) };
            Banded { label: "CE+LP".into(), points: vec![(0.0, of(0.4)), (1.0, of(0.9))], series: 0 }
        };
        let [with, without] = [true, false].map(|bounded| bands(&[line(bounded)], &axes, Chance::Diagonal, "curves").unwrap());
        assert!(with.contains("<polygon") && !without.contains("<polygon") && without.contains("CE+LP"), "{without}");
    }
}
