//! Tiles beside each other under headings: what a model looks at most, and least.

use image::{Rgb, RgbImage};

use super::lettering::{self, Letters};

const WHITE: Rgb<u8> = Rgb([255; 3]);
const INK: Rgb<u8> = Rgb([17; 3]);
const MARGIN: u32 = 10;
/// Tiles in a row.
const COLUMNS: usize = 6;

/// Tiles under one heading, all of one size.
#[derive(Debug)]
pub struct Rows<'a> {
    /// In large letters.
    pub heading: &'a str,
    /// Pixels and a line below; a tile that cannot be read has no pixels.
    pub tiles: Vec<(Option<RgbImage>, String)>,
}

/// One picture of all rows; tiles are `side` pixels wide and high.
pub fn sheet(rows: &[Rows], side: u32) -> RgbImage {
    let (line, heading) = (Letters::Small.height() + 4, Letters::Large.height() + MARGIN);
    let high = |rows: &Rows| heading + rows.tiles.len().div_ceil(COLUMNS) as u32 * (side + line + MARGIN / 2);
    let width = MARGIN + COLUMNS as u32 * (side + MARGIN);
    let mut page = RgbImage::from_pixel(width, MARGIN + rows.iter().map(high).sum::<u32>(), WHITE);
    let mut top = MARGIN;
    for rows in rows {
        lettering::write(&mut page, &Letters::Large.fitted(rows.heading, width - 2 * MARGIN), (MARGIN, top), Letters::Large, INK);
        for (number, (pixels, words)) in rows.tiles.iter().enumerate() {
            let x = MARGIN + (number % COLUMNS) as u32 * (side + MARGIN);
            let y = top + heading + (number / COLUMNS) as u32 * (side + line + MARGIN / 2);
            match pixels {
                Some(pixels) => image::imageops::replace(&mut page, pixels, i64::from(x), i64::from(y)),
                None => lettering::write(&mut page, "cannot be read", (x, y + side / 2), Letters::Small, INK),
            }
            lettering::write(&mut page, &Letters::Small.fitted(words, side + MARGIN), (x, y + side + 2), Letters::Small, INK);
        }
        top += high(rows);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tile_has_its_place() {
        let tile = |value: u8| Some(RgbImage::from_pixel(20, 20, Rgb([value, 0, 0])));
        let tiles: Vec<_> = (0..8).map(|i| (if i == 3 { None } else { tile(100 + i) }, String::new())).collect();
        let page = sheet(&[Rows { heading: "most", tiles }, Rows { heading: "least", tiles: vec![(tile(50), "0.1".into())] }], 20);
        for value in [100, 101, 102, 104, 105, 106, 107, 50] {
            assert_eq!(page.pixels().filter(|pixel| pixel.0 == [value, 0, 0]).count(), 400, "{value}");
        }
    }
}
