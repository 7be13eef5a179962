//! Reliability diagram: how often decisions of a confidence are right, and how many there are.

use anyhow::Result;
use plotters::prelude::*;

use super::charts::{FONT, GRID, INK, SERIES, inline, plain};

const SIZE: (u32, u32) = (440, 340);
/// Pixels of the strip that shows the counts.
const STRIP: u32 = 84;

/// A bin of confidence: its bounds, the mean confidence in it, the share that is right, and how many there are.
pub type Bar = ((f64, f64), f64, f64, usize);

/// Bins of one recipe, those without samples left out.
///
/// # Errors
/// None in practice.
pub fn reliability(bins: &[Bar], title: &str, series: usize, alt: &str) -> Result<String> {
    let colour = SERIES[series % SERIES.len()].0;
    let total: usize = bins.iter().map(|bin| bin.3).sum();
    let mut svg = String::new();
    {
        let whole = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let (above, below) = whole.split_vertically(SIZE.1 - STRIP);
        let mut chart = ChartBuilder::on(&above)
            .margin_left(4)
            .margin_right(14)
            .margin_top(8)
            .caption(title, (FONT, 15).with_color(INK))
            .set_label_area_size(LabelAreaPosition::Left, 54)
            .set_label_area_size(LabelAreaPosition::Bottom, 8)
            .build_cartesian_2d(0.0..1.0, 0.0..1.01)
            .map_err(plain)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GRID)
            .x_labels(0)
            .y_labels(6)
            .y_label_formatter(&|y| format!("{y:.1}"))
            .y_desc("share right")
            .label_style((FONT, 13).with_color(INK))
            .axis_desc_style((FONT, 13).with_color(INK))
            .draw()
            .map_err(plain)?;
        chart.draw_series(DashedLineSeries::new([(0.0, 0.0), (1.0, 1.0)], 3, 4, INK.mix(0.5).stroke_width(1))).map_err(plain)?;
        // What is missing to the diagonal, or too much.
        let gaps = bins.iter().map(|bin| PathElement::new(vec![(bin.1, bin.1), (bin.1, bin.2)], colour.mix(0.5).stroke_width(5)));
        chart.draw_series(gaps).map_err(plain)?;
        chart.draw_series(LineSeries::new(bins.iter().map(|bin| (bin.1, bin.2)), colour.stroke_width(2))).map_err(plain)?;
        chart.draw_series(bins.iter().map(|bin| Circle::new((bin.1, bin.2), 4, colour.filled()))).map_err(plain)?;

        let most = bins.iter().map(|bin| bin.3).max().unwrap_or(1) as f64 / total.max(1) as f64;
        let mut chart = ChartBuilder::on(&below)
            .margin_left(4)
            .margin_right(14)
            .set_label_area_size(LabelAreaPosition::Left, 54)
            .set_label_area_size(LabelAreaPosition::Bottom, 40)
            .build_cartesian_2d(0.0..1.0, 0.0..most * 1.05)
            .map_err(plain)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_y_mesh()
            .axis_style(GRID)
            .x_labels(6)
            .y_labels(2)
            .x_label_formatter(&|x| format!("{x:.1}"))
            .y_label_formatter(&|y| format!("{:.0} %", 100.0 * y))
            .x_desc("confidence")
            .label_style((FONT, 13).with_color(INK))
            .axis_desc_style((FONT, 13).with_color(INK))
            .draw()
            .map_err(plain)?;
        let bars = bins.iter().map(|((from, to), .., count)| {
            Rectangle::new([(*from, 0.0), (*to, *count as f64 / total.max(1) as f64)], colour.mix(0.5).filled())
        });
        chart.draw_series(bars).map_err(plain)?;
        whole.present().map_err(plain)?;
    }
    Ok(inline(&svg, alt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bin_is_a_point_and_a_bar() {
        let bins = [((0.4, 0.5), 0.45, 0.4, 3), ((0.9, 1.0), 0.97, 1.0, 9)];
        let svg = reliability(&bins, "CE+LP", 1, "how sure").unwrap();
        assert!(svg.matches("<circle").count() == 2 && svg.contains("CE+LP") && svg.contains("aria-label=\"how sure\""), "{svg}");
        assert!(reliability(&[], "none", 0, "nothing").is_ok());
    }
}
