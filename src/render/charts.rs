//! Charts as inline SVG. Colours are tokens that the style sheet translates for light, dark and print.

use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::SegmentValue;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::Curves;
use crate::ground::interval::Interval;
use crate::store::history::Epoch;

/// Text and axes.
pub(super) const INK: RGBColor = RGBColor(0x11, 0x11, 0x11);
/// Grid lines.
pub(super) const GRID: RGBColor = RGBColor(0xDD, 0xDD, 0xDD);
/// Okabe & Ito's colours that stay apart for every common colour vision; light and dark shade of each.
pub(super) const SERIES: [(RGBColor, &str, &str); 5] = [
    (RGBColor(0x00, 0x72, 0xB2), "#0072b2", "#6cb9ec"),
    (RGBColor(0xD5, 0x5E, 0x00), "#c45500", "#ff9a52"),
    (RGBColor(0x00, 0x9E, 0x73), "#008a64", "#3fd0a4"),
    (RGBColor(0xCC, 0x79, 0xA7), "#b0548a", "#e9a3cb"),
    (RGBColor(0x77, 0x77, 0x77), "#666a70", "#a7adb5"),
];
pub(super) const FONT: &str = "system-ui, sans-serif";
/// Points of a curve that are drawn; more cannot be told apart at this width.
const POINTS: usize = 200;
/// Points of all runs of a recipe together: many runs are drawn coarser, so that a page of many recipes stays small.
const POINTS_OF_ALL: usize = 1600;

/// One line of a forest plot.
pub(super) struct Bar {
    pub label: String,
    pub interval: Interval,
    /// Colour, from 0.
    pub series: usize,
    /// Shape of the marker: 0 disc, 1 square, 2 triangle, 3 diamond.
    pub shape: usize,
}

/// Rules that give the tokens their colours, for light and for dark.
pub(super) fn style() -> String {
    let rule = |token: &RGBColor, colour: &str| {
        let token = format!("#{:02X}{:02X}{:02X}", token.0, token.1, token.2);
        format!(".chart [fill=\"{token}\"]{{fill:{colour}}}.chart [stroke=\"{token}\"]{{stroke:{colour}}}")
    };
    let light: String = SERIES.iter().map(|(token, light, _)| rule(token, light)).collect();
    let dark: String = SERIES.iter().map(|(token, _, dark)| rule(token, dark)).collect();
    format!("{}{}{light}@media screen and (prefers-color-scheme:dark){{{dark}}}", rule(&INK, "var(--ink-soft)"), rule(&GRID, "var(--line)"))
}

/// Values with their intervals, one under the other.
pub(super) fn forest(bars: &[Bar], alt: &str) -> Result<String> {
    let (width, height) = (560, 50 + 28 * bars.len() as u32);
    let lowest = bars.iter().flat_map(|bar| [bar.interval.value, bar.interval.low]).filter(|v| v.is_finite()).fold(1.0, f64::min);
    let from = ((lowest - 0.02) * 10.0).floor().clamp(0.0, 9.0) / 10.0;
    let count = bars.len() as i32;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin_right(14)
            .margin_top(6)
            .set_label_area_size(LabelAreaPosition::Left, 206)
            .set_label_area_size(LabelAreaPosition::Bottom, 40)
            .build_cartesian_2d(from..1.005, (0..count - 1).into_segmented())
            .map_err(plain)?;
        let label = |value: &SegmentValue<i32>| match value {
            SegmentValue::CenterOf(line) if (0..count).contains(line) => bars[(count - 1 - line) as usize].label.clone(),
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .x_labels(5)
            .x_label_formatter(&|x| format!("{x:.2}"))
            .y_labels(bars.len())
            .y_label_formatter(&label)
            .x_desc("macro-F1")
            .label_style((FONT, 14).with_color(INK))
            .axis_desc_style((FONT, 14).with_color(INK))
            .draw()
            .map_err(plain)?;
        for (index, bar) in bars.iter().enumerate().filter(|(_, bar)| bar.interval.value.is_finite()) {
            let y = || SegmentValue::CenterOf(count - 1 - index as i32);
            let colour = SERIES[bar.series % SERIES.len()].0;
            if bar.interval.is_bounded() {
                let ends = vec![(bar.interval.low, y()), (bar.interval.high, y())];
                chart.draw_series([PathElement::new(ends, colour.stroke_width(2))]).map_err(plain)?;
            }
            let at = EmptyElement::at((bar.interval.value, y()));
            let fill = colour.filled();
            match bar.shape {
                0 => chart.draw_series([at + Circle::new((0, 0), 5, fill)]).map(drop),
                1 => chart.draw_series([at + Rectangle::new([(-5, -5), (5, 5)], fill)]).map(drop),
                2 => chart.draw_series([at + Polygon::new(vec![(0, -6), (6, 5), (-6, 5)], fill)]).map(drop),
                _ => chart.draw_series([at + Polygon::new(vec![(0, -6), (6, 0), (0, 6), (-6, 0)], fill)]).map(drop),
            }
            .map_err(plain)?;
        }
        area.present().map_err(plain)?;
    }
    Ok(inline(&svg, alt))
}

/// Epoch and value, by ascending epoch.
pub(super) type Line = Vec<(f64, f64)>;

/// What a curve chart shows of an epoch.
pub(super) struct Trace {
    pub field: fn(&Epoch) -> f64,
    pub series: usize,
    pub label: &'static str,
}

/// Each run as a thin line and their mean as a thick one, over epochs. `None` where no run has a finite value.
pub(super) fn curves(curves: &Curves, traces: &[Trace], y_label: &str, unit: bool, alt: &str) -> Result<Option<String>> {
    let lines: Vec<(usize, Vec<Line>)> = traces.iter().enumerate().map(|(index, trace)| (index, of_runs(curves, trace.field))).collect();
    let all = || lines.iter().flat_map(|(_, runs)| runs).flatten();
    let last = all().map(|point| point.0).fold(1.0, f64::max);
    let (low, high) = all().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), point| (low.min(point.1), high.max(point.1)));
    if !low.is_finite() {
        return Ok(None);
    }
    let room = ((high - low) * 0.06).max(1e-6);
    let (bottom, top) = if unit { ((low - room).max(0.0), 1.005) } else { (low - room, high + room) };
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (440, 260)).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin_right(70)
            .margin_top(10)
            .set_label_area_size(LabelAreaPosition::Left, 58)
            .set_label_area_size(LabelAreaPosition::Bottom, 40)
            .build_cartesian_2d(1.0..last.max(2.0), bottom..top)
            .map_err(plain)?;
        let decimals = if top - bottom < 0.05 { 3 } else { 2 };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .x_labels(6)
            .y_labels(5)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{y:.decimals$}"))
            .x_desc("epoch")
            .y_desc(y_label)
            .label_style((FONT, 13).with_color(INK))
            .axis_desc_style((FONT, 13).with_color(INK))
            .draw()
            .map_err(plain)?;
        let mut ends: Vec<(f64, usize)> = Vec::new();
        for (index, runs) in &lines {
            let colour = SERIES[traces[*index].series % SERIES.len()].0;
            for run in runs {
                chart.draw_series(LineSeries::new(run.iter().copied(), colour.mix(0.28).stroke_width(1))).map_err(plain)?;
            }
            let mean = mean(runs);
            ends.extend(mean.last().map(|point| (point.1, *index)));
            chart.draw_series(LineSeries::new(mean, colour.stroke_width(3))).map_err(plain)?;
        }
        // Lines are named where they end; names that would overlap are pushed apart.
        ends.sort_by(|a, b| b.0.total_cmp(&a.0));
        let step = (top - bottom) * 0.085;
        let mut above = f64::INFINITY;
        for (y, index) in ends {
            let y = y.min(above - step);
            above = y;
            let colour = SERIES[traces[index].series % SERIES.len()].0;
            let style = (FONT, 13).with_color(colour).into_text_style(&area).pos(Pos::new(HPos::Left, VPos::Center));
            let (x, y) = chart.backend_coord(&(last.max(2.0), y));
            area.draw(&Text::new(traces[index].label, (x + 6, y), style)).map_err(plain)?;
        }
        area.present().map_err(plain)?;
    }
    Ok(Some(inline(&svg, alt)))
}

/// Mean over runs at each epoch that every run reached with a finite value.
pub(super) fn mean(runs: &[Line]) -> Line {
    let Some(first) = runs.iter().filter(|run| !run.is_empty()).min_by_key(|run| run.len()) else { return Vec::new() };
    let filled: Vec<&Line> = runs.iter().filter(|run| !run.is_empty()).collect();
    let at = |epoch: f64| {
        filled.iter().map(move |run| run.iter().find(|point| point.0 == epoch).map(|point| point.1)).collect::<Option<Vec<_>>>()
    };
    first.iter().filter_map(|(epoch, _)| at(*epoch).map(|values| (*epoch, values.iter().sum::<f64>() / values.len() as f64))).collect()
}

/// The points of each run.
pub(super) fn of_runs(curves: &Curves, field: fn(&Epoch) -> f64) -> Vec<Line> {
    let most = (POINTS_OF_ALL / curves.runs.len().max(1)).clamp(20, POINTS);
    curves.runs.iter().map(|run| points(run, field, most)).collect()
}

/// Finite points of a run, about `most` of them, first and last included.
fn points(run: &[Epoch], field: fn(&Epoch) -> f64, most: usize) -> Line {
    let finite: Line = run.iter().map(|epoch| (epoch.epoch as f64, field(epoch))).filter(|point| point.1.is_finite()).collect();
    let stride = finite.len().div_ceil(most).max(1);
    let kept = |index: &usize| index.is_multiple_of(stride) || index + 1 == finite.len();
    (0..finite.len()).filter(kept).map(|index| finite[index]).collect()
}

/// Replaces the file's head by one for a page: no namespace, no fixed size, a name for screen readers.
pub(super) fn inline(svg: &str, alt: &str) -> String {
    let attribute = |name: &str| svg.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split('"').next()).unwrap_or_default();
    let body = svg.split_once('>').map_or("", |(_, body)| body);
    let alt = maud::html! { (alt) }.into_string();
    format!(
        "<svg class=\"chart\" viewBox=\"{}\" width=\"{}\" role=\"img\" aria-label=\"{alt}\">{body}",
        attribute("viewBox"),
        attribute("width")
    )
}

pub(super) fn plain(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("a chart cannot be drawn: {error}")
}
