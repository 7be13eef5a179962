//! `curves.svg` of a training run: accuracy, CMI, Γ and NCMI over epochs, one panel each. A file of its own, to look at.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::store::history::{Epoch, MeasuredOn};

const SIZE: (u32, u32) = (880, 560);
const LINE: RGBColor = RGBColor(0x00, 0x72, 0xB2);
const GRID: RGBColor = RGBColor(0xDD, 0xDD, 0xDD);
const FONT: &str = "sans-serif";

/// A column of the history as a panel.
struct Panel {
    title: &'static str,
    y_label: &'static str,
    field: fn(&Epoch) -> f64,
}

const PANELS: [Panel; 4] = [
    Panel { title: "Accuracy", y_label: "share", field: |e| e.accuracy },
    Panel { title: "CMI", y_label: "nats", field: |e| e.cmi },
    Panel { title: "Γ (centroid form)", y_label: "nats", field: |e| e.gamma },
    Panel { title: "NCMI = CMI / Γ", y_label: "ratio", field: |e| e.ncmi },
];

/// The chart, which says on which rows it was measured. `None` where no epoch was.
///
/// # Errors
/// None in practice.
pub fn training_curves(history: &[Epoch]) -> Result<Option<String>> {
    let measured_on = match history.iter().find_map(|epoch| epoch.measured_on) {
        None => return Ok(None),
        Some(MeasuredOn::Validation) => "the validation rows",
        Some(MeasuredOn::TrainingSample) => "a sample of the training rows",
        Some(MeasuredOn::Test) => "the test rows",
    };
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(plain)?;
        let title = format!("Output distributions over training, on {measured_on}");
        let area = area.titled(&title, (FONT, 18)).map_err(plain)?;
        for (panel, area) in PANELS.iter().zip(area.split_evenly((2, 2))) {
            let points: Vec<(f64, f64)> =
                history.iter().map(|e| (e.epoch as f64, (panel.field)(e))).filter(|point| point.1.is_finite()).collect();
            let (low, high) = points.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| (l.min(p.1), h.max(p.1)));
            let (low, high) = if low.is_finite() { (low, high) } else { (0.0, 1.0) };
            let room = ((high - low) * 0.08).max(high.abs() * 1e-3).max(1e-9);
            let mut chart = ChartBuilder::on(&area)
                .margin(8)
                .caption(panel.title, (FONT, 15))
                .set_label_area_size(LabelAreaPosition::Left, 74)
                .set_label_area_size(LabelAreaPosition::Bottom, 38)
                .build_cartesian_2d(1.0..(history.len() as f64).max(2.0), low - room..high + room)
                .map_err(plain)?;
            chart
                .configure_mesh()
                .disable_x_mesh()
                .light_line_style(TRANSPARENT)
                .bold_line_style(GRID)
                .x_labels(6)
                .y_labels(5)
                .x_label_formatter(&|x| format!("{x:.0}"))
                .y_label_formatter(&|y| if high.abs() < 0.01 { format!("{y:.1e}") } else { format!("{y:.3}") })
                .x_desc("epoch")
                .y_desc(panel.y_label)
                .label_style((FONT, 12))
                .draw()
                .map_err(plain)?;
            chart.draw_series(LineSeries::new(points.iter().copied(), LINE.stroke_width(2))).map_err(plain)?;
            chart.draw_series(points.last().map(|&last| Circle::new(last, 3, LINE.filled()))).map_err(plain)?;
        }
        area.present().map_err(plain)?;
    }
    let summary = format!("Accuracy, CMI, gamma and NCMI on {measured_on} over {} epochs; the numbers are in history.csv", history.len());
    Ok(Some(svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{summary}\" "), 1)))
}

fn plain(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("the curves cannot be drawn: {error}")
}
