//! Charts of exhibits as inline SVG, in the colours of `charts`: lines over a number, points with both intervals, clouds on a plane.

use std::borrow::Cow;

use anyhow::Result;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::charts::{FONT, GRID, INK, SERIES, inline, plain};
use crate::ground::interval::Interval;

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Pixels of the plotting area with its axes; names beside it come on top.
const SIZE: (u32, u32) = (396, 280);
/// Points of a plane below which they are drawn larger.
const FEW: usize = 150;
/// Pixels of a letter of a name.
const LETTER: f64 = 7.0;

/// What the axes are.
#[derive(Debug, Clone)]
pub struct Axes<'a> {
    /// Above the chart; may be empty.
    pub title: &'a str,
    /// Below it.
    pub x: &'a str,
    /// Beside it.
    pub y: &'a str,
    /// Whether equal steps to the right double x.
    pub doubling: bool,
}

/// A named line.
#[derive(Debug)]
pub struct Line {
    /// Written where it ends.
    pub label: String,
    /// Thin lines: single runs.
    pub runs: Vec<Vec<(f64, f64)>>,
    /// The thick line; bounds are whiskers.
    pub mean: Vec<(f64, Interval)>,
    /// Colour, from 0.
    pub series: usize,
}

/// A named point.
#[derive(Debug)]
pub struct Point {
    /// Written beside it.
    pub label: String,
    /// Bounds are a line.
    pub x: Interval,
    /// As `x`.
    pub y: Interval,
}

/// Points of one class on a plane, the way of its middle, and where that ends.
#[derive(Debug)]
pub struct Cloud {
    /// In the legend.
    pub label: String,
    /// Its points.
    pub points: Vec<(f64, f64)>,
    /// The way.
    pub path: Vec<(f64, f64)>,
    /// The middle.
    pub cross: Option<(f64, f64)>,
}

/// Lines over x.
///
/// # Errors
/// None in practice.
pub fn lines(lines: &[Line], axes: &Axes, alt: &str) -> Result<String> {
    let place = |x: f64| if axes.doubling { x.log2() } else { x };
    let means = || lines.iter().flat_map(|line| line.mean.iter());
    let runs = || lines.iter().flat_map(|line| line.runs.iter().flatten());
    let xs = range(means().map(|point| place(point.0)).chain(runs().map(|point| place(point.0))), 0.02);
    let bounds = means().flat_map(|(_, y)| [y.value, y.low, y.high]);
    let ys = range(bounds.chain(runs().map(|point| point.1)), 0.06);
    let beside = lines.iter().map(|line| width_of(&line.label)).max().unwrap_or(0) + 12;
    drawn(beside, axes, xs.clone(), ys.clone(), alt, |area, chart| {
        let mut ends: Vec<(f64, usize)> = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            let colour = SERIES[line.series % SERIES.len()].0;
            for run in &line.runs {
                chart
                    .draw_series(LineSeries::new(run.iter().map(|point| (place(point.0), point.1)), colour.mix(0.28).stroke_width(1)))
                    .map_err(plain)?;
            }
            let mean = || line.mean.iter().map(|(x, y)| (place(*x), y.value));
            chart.draw_series(LineSeries::new(mean(), colour.stroke_width(3))).map_err(plain)?;
            if axes.doubling {
                chart.draw_series(mean().map(|point| Circle::new(point, 3, colour.filled()))).map_err(plain)?;
            }
            for (x, y) in line.mean.iter().filter(|(_, y)| y.is_bounded()) {
                let whisker = vec![(place(*x), y.low), (place(*x), y.high)];
                chart.draw_series([PathElement::new(whisker, colour.stroke_width(1))]).map_err(plain)?;
            }
            ends.extend(mean().next_back().map(|point| (point.1, index)));
        }
        // Names that would overlap are pushed apart, downwards, and back up from the bottom.
        ends.sort_by(|a, b| b.0.total_cmp(&a.0));
        let step = (ys.end - ys.start) * 0.075;
        let mut places: Vec<f64> = Vec::new();
        for (y, _) in &ends {
            places.push(places.last().map_or(*y, |above| y.min(above - step)));
        }
        let below = places.last().map_or(0.0, |lowest| (ys.start - lowest).max(0.0));
        for ((_, index), y) in ends.iter().zip(&places) {
            let at = chart.backend_coord(&(xs.end, y + below));
            name(area, &lines[*index].label, (at.0 + 6, at.1), SERIES[lines[*index].series % SERIES.len()].0)?;
        }
        Ok(())
    })
}

/// Points with their names.
///
/// # Errors
/// None in practice.
pub fn scatter(points: &[Point], axes: &Axes, alt: &str) -> Result<String> {
    let of = |interval: &Interval| [interval.value, interval.low, interval.high];
    let xs = range(points.iter().flat_map(|point| of(&point.x)), 0.08);
    let ys = range(points.iter().flat_map(|point| of(&point.y)), 0.08);
    let beside = points.iter().map(|point| width_of(&point.label)).max().unwrap_or(0) + 12;
    drawn(beside, axes, xs, ys, alt, |area, chart| {
        let colour = SERIES[0].0;
        let mut taken: Vec<(i32, i32)> = Vec::new();
        for point in points {
            let (x, y) = (point.x.value, point.y.value);
            let mut bars = Vec::new();
            if point.x.is_bounded() {
                bars.push(vec![(point.x.low, y), (point.x.high, y)]);
            }
            if point.y.is_bounded() {
                bars.push(vec![(x, point.y.low), (x, point.y.high)]);
            }
            chart.draw_series(bars.into_iter().map(|bar| PathElement::new(bar, colour.mix(0.5).stroke_width(1)))).map_err(plain)?;
            chart.draw_series([Circle::new((x, y), 4, colour.filled())]).map_err(plain)?;
            let mut at = chart.backend_coord(&(x, y));
            at = (at.0 + 8, at.1 - 9);
            // A name goes below one that is in its way.
            while taken.iter().any(|other| (other.0 - at.0).abs() < 60 && (other.1 - at.1).abs() < 13) {
                at.1 += 13;
            }
            taken.push(at);
            name(area, &point.label, at, INK)?;
        }
        Ok(())
    })
}

/// Clouds, ways and middles of classes, the same scale along both axes.
///
/// # Errors
/// None in practice.
pub fn plane(clouds: &[Cloud], axes: &Axes, alt: &str) -> Result<String> {
    let all = || clouds.iter().flat_map(|cloud| cloud.points.iter().chain(&cloud.path).chain(&cloud.cross));
    let (xs, ys) = (range(all().map(|point| point.0), 0.05), range(all().map(|point| point.1), 0.05));
    // Pixels of the plot itself.
    let (wide, high) = (f64::from(SIZE.0 - 70), f64::from(SIZE.1 - 74));
    let scale = ((xs.end - xs.start) / wide).max((ys.end - ys.start) / high);
    let around = |range: std::ops::Range<f64>, pixels: f64| {
        let middle = (range.start + range.end) / 2.0;
        middle - scale * pixels / 2.0..middle + scale * pixels / 2.0
    };
    let beside = clouds.iter().map(|cloud| width_of(&cloud.label)).max().unwrap_or(0) + 30;
    drawn(beside, axes, around(xs, wide), around(ys, high), alt, |area, chart| {
        let right = i32::try_from(SIZE.0).unwrap_or(0);
        let dot = if clouds.iter().map(|cloud| cloud.points.len()).sum::<usize>() < FEW { 4 } else { 2 };
        for (index, cloud) in clouds.iter().enumerate() {
            // Past two rounds of colours comes what is no class.
            let (colour, ring) = (SERIES[index % SERIES.len()].0, index / SERIES.len() == 1);
            let colour = if index >= 2 * SERIES.len() { INK } else { colour };
            let mark = |radius: i32, style: RGBAColor| if ring { (radius, style.stroke_width(1)) } else { (radius, style.filled()) };
            let (radius, style) = mark(dot, colour.mix(0.6));
            chart.draw_series(cloud.points.iter().map(|&point| Circle::new(point, radius, style))).map_err(plain)?;
            chart.draw_series(LineSeries::new(cloud.path.iter().copied(), colour.stroke_width(if ring { 1 } else { 2 }))).map_err(plain)?;
            if let Some(&first) = cloud.path.first() {
                chart.draw_series([Circle::new(first, 2, colour.filled())]).map_err(plain)?;
            }
            chart.draw_series(cloud.cross.iter().map(|&cross| Cross::new(cross, 6, INK.stroke_width(3)))).map_err(plain)?;
            chart.draw_series(cloud.cross.iter().map(|&cross| Cross::new(cross, 5, colour.stroke_width(2)))).map_err(plain)?;
            let y = 34 + 16 * i32::try_from(index).unwrap_or(0);
            let (radius, style) = mark(4, colour.to_rgba());
            area.draw(&Circle::new((right + 10, y), radius, style)).map_err(plain)?;
            name(area, &cloud.label, (right + 20, y), INK)?;
        }
        Ok(())
    })
}

/// Axes, then what `fill` draws; `beside` pixels are left free on the right.
fn drawn(
    beside: u32,
    axes: &Axes,
    xs: std::ops::Range<f64>,
    ys: std::ops::Range<f64>,
    alt: &str,
    fill: impl FnOnce(&Area, &mut Chart) -> Result<()>,
) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (SIZE.0 + beside, SIZE.1)).into_drawing_area();
        let mut builder = ChartBuilder::on(&area);
        builder.margin_left(6).margin_right(beside).margin_top(10).set_label_area_size(LabelAreaPosition::Left, 64);
        builder.set_label_area_size(LabelAreaPosition::Bottom, 42);
        if !axes.title.is_empty() {
            builder.caption(axes.title, (FONT, 15).with_color(INK));
        }
        let mut chart = builder.build_cartesian_2d(xs.clone(), ys.clone()).map_err(plain)?;
        let below = |x: &f64| match axes.doubling {
            true if (x - x.round()).abs() < 1e-6 => x.round().exp2().to_string(),
            true => String::new(),
            false => tick(*x, xs.end - xs.start),
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .x_labels(if axes.doubling { 9 } else { 6 })
            .y_labels(5)
            .x_label_formatter(&below)
            .y_label_formatter(&|y| tick(*y, ys.end - ys.start))
            .x_desc(axes.x)
            .y_desc(axes.y)
            .label_style((FONT, 13).with_color(INK))
            .axis_desc_style((FONT, 13).with_color(INK))
            .draw()
            .map_err(plain)?;
        fill(&area, &mut chart)?;
        area.present().map_err(plain)?;
    }
    Ok(inline(&svg, alt))
}

fn name(area: &Area, text: &str, at: (i32, i32), colour: RGBColor) -> Result<()> {
    let style = (FONT, 13).with_color(colour).into_text_style(area).pos(Pos::new(HPos::Left, VPos::Center));
    area.draw(&Text::new(Cow::from(text.to_owned()), at, style)).map_err(plain)
}

/// Pixels of a name, about.
pub(super) fn width_of(text: &str) -> u32 {
    (LETTER * text.chars().count() as f64) as u32
}

/// From the smallest finite value to the largest, with room around.
fn range(values: impl Iterator<Item = f64>, room: f64) -> std::ops::Range<f64> {
    let (low, high) = values.filter(|v| v.is_finite()).fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if !low.is_finite() {
        return 0.0..1.0;
    }
    let room = ((high - low) * room).max(high.abs() * 1e-3).max(1e-9);
    low - room..high + room
}

/// A number at an axis whose ends lie `span` apart.
fn tick(value: f64, span: f64) -> String {
    if span < 1e-3 {
        return format!("{value:.1e}").replace('-', "−");
    }
    let decimals = (1.0 - span.max(1e-9).log10().floor()).clamp(0.0, 6.0) as usize;
    let text = format!("{value:.decimals$}");
    // No sign before a zero.
    if text.trim_start_matches('-').chars().all(|c| c == '0' || c == '.') {
        text.trim_start_matches('-').to_owned()
    } else {
        text.replace('-', "−")
    }
}

/// Four digits that count.
pub fn short(value: f64) -> String {
    match value.abs() {
        v if !v.is_finite() => "–".to_owned(),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.2}"),
        v if v >= 0.01 || v == 0.0 => format!("{value:.4}"),
        _ => format!("{value:.2e}"),
    }
    .replace('-', "−")
}

/// Inline charts as one file of its own, `columns` beside each other, on white.
pub fn standalone(charts: &[String], columns: usize) -> String {
    let size = |chart: &String| {
        let view = chart.split_once("viewBox=\"0 0 ").and_then(|(_, rest)| rest.split('"').next()).unwrap_or_default();
        let mut numbers = view.split(' ').map(|number| number.parse::<u32>().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    };
    let (wide, high) = charts.iter().map(size).fold((0, 0), |all, one| (all.0.max(one.0), all.1.max(one.1)));
    let rows = charts.len().div_ceil(columns) as u32;
    let (width, height) = (wide * columns.min(charts.len()) as u32, high * rows);
    let place = |(index, chart): (usize, &String)| {
        let (x, y) = (wide * (index % columns) as u32, high * (index / columns) as u32);
        chart.replacen("<svg class=\"chart\"", &format!("<svg x=\"{x}\" y=\"{y}\" height=\"{}\"", size(chart).1), 1)
    };
    let inside: String = charts.iter().enumerate().map(place).collect();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>{inside}</svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_have_the_digits_that_their_axis_needs() {
        assert_eq!(
            (tick(75.0, 12.0), tick(0.25, 0.4), tick(-0.001, 0.4), tick(-3.0, 100.0)),
            ("75".into(), "0.25".into(), "0.00".into(), "−3".into())
        );
        assert_eq!((short(0.123_456), short(-250.4), short(0.000_123)), ("0.1235".into(), "−250".into(), "1.23e−4".into()));
    }

    #[test]
    fn charts_stand_beside_each_other_in_a_file_of_their_own() {
        let axes = Axes { title: "A", x: "batch size", y: "%", doubling: true };
        let mean = vec![(16.0, Interval { low: 1.0, high: 3.0, ..Interval::point(2.0) }), (32.0, Interval::point(4.0))];
        let chart = lines(&[Line { label: "CE".into(), runs: Vec::new(), mean, series: 0 }], &axes, "a < b").unwrap();
        assert!(chart.contains("aria-label=\"a &lt; b\"") && chart.contains("\n32\n") && chart.contains("CE"), "{chart}");
        let file = standalone(&[chart.clone(), chart], 2);
        assert!(
            file.starts_with("<svg xmlns=") && file.matches("<svg x=").count() == 2 && file.contains("x=\"0\" y=\"0\" height=\"280\""),
            "{file}"
        );
    }
}
