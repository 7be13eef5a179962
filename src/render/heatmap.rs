//! Numbers of tiles over a slide's thumbnail, with a scale bar in µm or mm and a legend.

use image::{Rgb, RgbImage};
use plotters::style::colors::colormaps::{ColorMap, ViridisRGB};

use super::lettering::{self, Letters};

const WHITE: Rgb<u8> = Rgb([255; 3]);
const INK: Rgb<u8> = Rgb([17; 3]);
/// Least and most of the map's colour that lies on the tissue: low values let it show through.
const OPACITY: [f64; 2] = [0.25, 0.7];
/// Pixels around everything below the picture.
const MARGIN: u32 = 10;
/// Pixels of the legend's bar.
const BAR: (u32, u32) = (200, 14);
/// Narrower thumbnails stand on a wider page, so that the legend has room.
const NARROWEST: u32 = 480;

/// What is drawn.
#[derive(Debug)]
pub struct Heatmap<'a> {
    /// The slide's whole canvas.
    pub thumbnail: &'a RgbImage,
    /// Width of the canvas that it shows, µm.
    pub width_um: f64,
    /// Left, top, right, bottom of each tile, in pixels of the thumbnail.
    pub tiles: &'a [[f64; 4]],
    /// Of each tile, 0 to 1.
    pub values: &'a [f64],
    /// In large letters.
    pub title: &'a str,
    /// What the colours are.
    pub what: &'a str,
    /// The numbers at the ends of the legend.
    pub ends: [&'a str; 2],
}

/// The picture. Where tiles overlap, a pixel has the mean of those that cover it.
pub fn heatmap(of: &Heatmap) -> RgbImage {
    let painted = paint(of);
    let (width, height) = (painted.width().max(NARROWEST), painted.height());
    let below = 2 * MARGIN + Letters::Large.height() + MARGIN / 2 + Letters::Small.height() * 2 + BAR.1;
    let mut page = RgbImage::from_pixel(width, height + below, WHITE);
    image::imageops::replace(&mut page, &painted, i64::from((width - painted.width()) / 2), 0);
    let mut y = height + MARGIN;
    let title = Letters::Large.fitted(of.title, width - 2 * MARGIN);
    lettering::write(&mut page, &title, (MARGIN, y), Letters::Large, INK);
    y += Letters::Large.height() + MARGIN / 2;
    let (length, words) = scale_bar(of.width_um, painted.width());
    let right = width - MARGIN;
    let what = Letters::Small.fitted(of.what, width.saturating_sub(3 * MARGIN + length.max(Letters::Small.width(&words))));
    lettering::write(&mut page, &what, (MARGIN, y), Letters::Small, INK);
    lettering::write(&mut page, &words, (right - length.max(Letters::Small.width(&words)), y), Letters::Small, INK);
    y += Letters::Small.height();
    for x in 0..BAR.0 {
        lettering::fill(&mut page, [MARGIN + x, y, MARGIN + x + 1, y + BAR.1], colour(f64::from(x) / f64::from(BAR.0 - 1)));
    }
    lettering::fill(&mut page, [right - length, y + 4, right, y + 9], INK);
    y += BAR.1;
    lettering::write(&mut page, of.ends[0], (MARGIN, y), Letters::Small, INK);
    lettering::write(&mut page, of.ends[1], (MARGIN + BAR.0 - Letters::Small.width(of.ends[1]).min(BAR.0), y), Letters::Small, INK);
    page
}

/// A colour of a value from 0 to 1: Viridis, which every common colour vision orders alike and which prints in grey.
pub fn colour(value: f64) -> Rgb<u8> {
    let colour = ViridisRGB.get_color_normalized(value, 0.0, 1.0);
    Rgb([colour.0, colour.1, colour.2])
}

fn paint(of: &Heatmap) -> RgbImage {
    let (width, height) = of.thumbnail.dimensions();
    let mut sums = vec![(0.0_f64, 0_u32); width as usize * height as usize];
    for ([left, top, right, bottom], value) in of.tiles.iter().zip(of.values) {
        // Whole pixels whose middle the tile covers, but at least one: neighbours share none.
        let span = |from: f64, to: f64, length: u32| {
            let first = (from.round().max(0.0) as u32).min(length.saturating_sub(1));
            first..(to.round() as u32).clamp(first + 1, length.max(first + 1))
        };
        for y in span(*top, *bottom, height) {
            for x in span(*left, *right, width) {
                let sum = &mut sums[(y * width + x) as usize];
                *sum = (sum.0 + value, sum.1 + 1);
            }
        }
    }
    let mut image = of.thumbnail.clone();
    for (pixel, (sum, count)) in image.pixels_mut().zip(sums).filter(|(_, (_, count))| *count > 0) {
        let value = (sum / f64::from(count)).clamp(0.0, 1.0);
        let share = OPACITY[0] + (OPACITY[1] - OPACITY[0]) * value;
        for (below, above) in pixel.0.iter_mut().zip(colour(value).0) {
            *below = (f64::from(*below) * (1.0 - share) + f64::from(above) * share).round() as u8;
        }
    }
    image
}

/// Pixels and words of a bar of 1, 2 or 5 times a power of ten micrometres, at most a quarter of the picture wide.
fn scale_bar(width_um: f64, width_px: u32) -> (u32, String) {
    let most = width_um / 4.0;
    let power = 10_f64.powf(most.log10().floor());
    let length = [5.0, 2.0, 1.0].into_iter().map(|step| step * power).find(|length| *length <= most).unwrap_or(power);
    let words = if length >= 1000.0 { format!("{:.0} mm", length / 1000.0) } else { format!("{length:.0} µm") };
    (((length / width_um * f64::from(width_px)).round() as u32).max(1), words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_have_round_lengths() {
        assert_eq!(scale_bar(10_000.0, 1000), (200, "2 mm".into()));
        assert_eq!(scale_bar(2_000.0, 1000), (250, "500 µm".into()));
        assert_eq!(scale_bar(900.0, 900), (200, "200 µm".into()));
    }

    #[test]
    fn overlapping_tiles_are_averaged_and_bare_tissue_stays() {
        let thumbnail = RgbImage::from_pixel(600, 100, Rgb([200, 100, 150]));
        let tiles = [[0.0, 0.0, 100.0, 100.0], [50.0, 0.0, 150.0, 100.0], [599.7, 99.9, 601.0, 101.0]];
        let draw = |values: &[f64]| {
            let what = "attention, percentile";
            heatmap(&Heatmap { thumbnail: &thumbnail, width_um: 6000.0, tiles: &tiles, values, title: "s", what, ends: ["0", "100"] })
        };
        let (picture, low, high) = (draw(&[0.0, 1.0, 0.5]), draw(&[0.5; 3]), draw(&[1.0; 3]));
        assert!(picture.width() == 600 && picture.height() > 100);
        assert_eq!(picture.get_pixel(75, 50), low.get_pixel(10, 50), "the mean of 0 and 1");
        assert_eq!(picture.get_pixel(120, 50), high.get_pixel(120, 50));
        assert_eq!(picture.get_pixel(300, 50), thumbnail.get_pixel(300, 50));
        assert_ne!(picture.get_pixel(599, 99), thumbnail.get_pixel(599, 99), "a tile at the edge has a pixel");
    }
}
