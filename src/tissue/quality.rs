//! What a tile is worth, told from its pixels: out of focus, written on, empty or black. Stored beside the tile, so that a filter
//! can be chosen later without reading the slide again.

use super::colour::Hsv;
use super::ink::is_pen;

/// What was seen of one tile; every value lies in 0–1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// How little is lost when the tile is blurred once more: near 0 for sharp edges, towards 1 for a tile out of focus, 1 for one
    /// without any contrast.
    pub blur: f32,
    /// Share of the area in the colour of a green, blue or red pen.
    pub pen: f32,
    /// Share of pixels that are bright and nearly grey: glass, fat, lumina.
    pub whiteness: f32,
    /// Share of pixels that are black or nearly so: dirt, folds, the edge of the slide.
    pub darkness: f32,
}

/// METHOD: samples for `blur` are half a micrometre apart, or one pixel where pixels are coarser, and the second blur is a mean of
/// nine of them, 4.5 µm: smaller than a nucleus, wider than its edge.
const SAMPLE_UM: f64 = 0.5;
const TAPS: usize = 9;

/// METHOD: pen is told by the mean colour of squares of 8 µm, the pixel size that tissue is looked for at: the bounds of `is_pen`
/// were found there, and single pixels of a nucleus or of a colour fringe would cross them.
const PEN_UM: f64 = 8.0;

/// METHOD: every channel at least this bright, and none brighter than another by more than that: pale eosin is more colourful, and
/// the glass of the scanners seen is not.
const WHITE: u8 = 200;
const WHITE_SPREAD: u8 = 14;

/// METHOD: no channel reaches a fifth of white. Dense nuclei stay above it; the mask's own bound of black, for means of 8 µm, is higher.
const DARK: u8 = 51;

impl Quality {
    /// Of a square tile: `pixels` is RGB `[side, side, 3]`, row by row, `mpp` its pixel size in µm/px.
    ///
    /// Sums are whole numbers, so that every machine gives the same bits. Memory: one byte a pixel.
    ///
    /// METHOD: `blur` is the measure of Crété-Roffet, Dolmiere, Ladret and Nicolas, The blur effect, SPIE 6492, 2007: with F the
    /// grey values and B their mean along a line, Σ min(|ΔF|, |ΔB|) / Σ |ΔF|, the larger of the two directions. Unlike the variance of
    /// a Laplacian it does not fall with a pale stain. It compares tiles of one pixel size.
    ///
    /// # Panics
    /// If the length is not `3 · side²`, or there are no pixels.
    pub fn of(pixels: &[u8], side: usize, mpp: f64) -> Self {
        assert!(side > 0 && pixels.len() == 3 * side * side, "a tile is [side, side, 3]");
        let mut grey = Vec::with_capacity(side * side);
        let (mut white, mut dark) = (0_u32, 0_u32);
        for &[red, green, blue] in pixels.as_chunks::<3>().0 {
            let (high, low) = (red.max(green).max(blue), red.min(green).min(blue));
            white += u32::from(low >= WHITE && high - low <= WHITE_SPREAD);
            dark += u32::from(high < DARK);
            grey.push(((77 * u32::from(red) + 150 * u32::from(green) + 29 * u32::from(blue)) >> 8) as u8);
        }
        let share = |count: u32| count as f32 / (side * side) as f32;
        Self {
            blur: blur(&grey, side, spacing(SAMPLE_UM, mpp)),
            pen: pen(pixels, side, spacing(PEN_UM, mpp)),
            whiteness: share(white),
            darkness: share(dark),
        }
    }
}

/// Pixels in `um` micrometres, at least one.
fn spacing(um: f64, mpp: f64) -> usize {
    ((um / mpp).round() as usize).max(1)
}

/// See [`Quality::of`]. 1 too where the tile is too small to compare.
fn blur(grey: &[u8], side: usize, spacing: usize) -> f32 {
    let (before, after) = (TAPS.div_ceil(2) * spacing, TAPS / 2 * spacing);
    let Some(places) = side.checked_sub(before + after).filter(|&places| places > 0) else { return 1.0 };
    // ΔB of a mean of nine samples is a ninth of the difference of the sample that enters and the one that leaves.
    let line = |start: usize, step: usize, length: usize| {
        let from = |offset: usize| &grey[start + offset * step..][..length];
        changes(from(before), from(before - spacing), from(before + after), from(0))
    };
    let add = |(kept, all): (u64, u64), (more_kept, more): (u64, u64)| (kept + more_kept, all + more);
    let across = (0..side).map(|row| line(row * side, 1, places)).fold((0, 0), add);
    let down = (0..places).map(|row| line(row * side, side, side)).fold((0, 0), add);
    let share = |(kept, all): (u64, u64)| if all == 0 { 1.0 } else { (kept as f64 / all as f64) as f32 };
    share(across).max(share(down))
}

/// Sums of `min(9 |ΔF|, 9 |ΔB|)` and of `9 |ΔF|` along four lines of samples.
fn changes(here: &[u8], last: &[u8], entering: &[u8], leaving: &[u8]) -> (u64, u64) {
    let (mut kept, mut all) = (0_u32, 0_u32);
    for (((here, last), entering), leaving) in here.iter().zip(last).zip(entering).zip(leaving) {
        let sharp = u32::from(here.abs_diff(*last)) * TAPS as u32;
        kept += sharp.min(u32::from(entering.abs_diff(*leaving)));
        all += sharp;
    }
    (kept.into(), all.into())
}

/// Share of squares of `square` pixels, the last of a row or column smaller, whose mean has the colour of a pen; by area.
fn pen(pixels: &[u8], side: usize, square: usize) -> f32 {
    let mut area = 0;
    let mut sums = vec![[0_u32; 3]; side.div_ceil(square)];
    for (index, rows) in pixels.chunks(3 * side * square).enumerate() {
        sums.fill([0; 3]);
        for row in rows.chunks(3 * side) {
            for (sum, square) in sums.iter_mut().zip(row.chunks(3 * square)) {
                for pixel in square.as_chunks::<3>().0 {
                    sum.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += u32::from(value));
                }
            }
        }
        let height = square.min(side - index * square);
        for (column, sum) in sums.iter().enumerate() {
            let count = (height * square.min(side - column * square)) as u32;
            if is_pen(Hsv::of(sum.map(|sum| ((sum + count / 2) / count) as u8))) {
                area += count;
            }
        }
    }
    area as f32 / (side * side) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::imageops::{FilterType, blur as gaussian, resize};
    use image::{Rgb, RgbImage};

    const SIDE: u32 = 96;

    fn quality(image: &RgbImage, mpp: f64) -> Quality {
        Quality::of(image.as_raw(), image.width() as usize, mpp)
    }

    /// Dark discs on pink, as nuclei are, with hard edges.
    fn nuclei() -> RgbImage {
        RgbImage::from_fn(SIDE, SIDE, |x, y| {
            let (u, v) = (x % 24, y % 24);
            if u.abs_diff(12).pow(2) + v.abs_diff(12).pow(2) < 40 { Rgb([90, 60, 140]) } else { Rgb([230, 170, 200]) }
        })
    }

    #[test]
    fn blur_grows_with_the_blur_and_not_with_a_paler_stain() {
        let sharp = nuclei();
        let blurs: Vec<f32> = [0.6, 1.0, 2.0, 4.0].map(|sigma| quality(&gaussian(&sharp, sigma), 0.5).blur).to_vec();
        assert!(quality(&sharp, 0.5).blur < blurs[0] && blurs.is_sorted() && blurs[3] > 0.7, "{blurs:?}");
        let mut pale = sharp.clone();
        pale.iter_mut().for_each(|value| *value = 191 + *value / 4);
        assert!((quality(&pale, 0.5).blur - quality(&sharp, 0.5).blur).abs() < 0.03);
        assert_eq!(quality(&RgbImage::from_pixel(SIDE, SIDE, Rgb([240; 3])), 0.5).blur, 1.0, "nothing to see");
        assert_eq!(quality(&RgbImage::new(9, 9), 0.5).blur, 1.0, "nothing to compare");
    }

    #[test]
    fn the_larger_direction_counts() {
        let stripes = RgbImage::from_fn(SIDE, SIDE, |x, _| Rgb([if x % 12 < 6 { 60 } else { 220 }; 3]));
        assert_eq!(quality(&stripes, 0.5).blur, 1.0, "smeared along y");
    }

    #[test]
    fn finer_pixels_of_the_same_tissue_are_judged_alike() {
        let tissue = gaussian(&nuclei(), 1.5);
        let finer = resize(&tissue, 2 * SIDE, 2 * SIDE, FilterType::CatmullRom);
        let (coarse, fine) = (quality(&tissue, 0.5), quality(&finer, 0.25));
        assert!((coarse.blur - fine.blur).abs() < 0.05, "{coarse:?} {fine:?}");
    }

    #[test]
    fn shares_are_those_of_the_area() {
        let half = |colour: [u8; 3]| RgbImage::from_fn(SIDE, SIDE, |x, _| Rgb(if x < SIDE / 2 { colour } else { [200, 140, 190] }));
        let glass = quality(&half([243, 240, 244]), 0.5);
        assert_eq!((glass.whiteness, glass.pen, glass.darkness), (0.5, 0.0, 0.0));
        let black = quality(&half([20, 22, 19]), 0.5);
        assert_eq!((black.whiteness, black.pen, black.darkness), (0.0, 0.0, 0.5));
        for ink in [[20, 130, 60], [30, 90, 200], [220, 20, 30]] {
            let pen = quality(&half(ink), 0.5);
            assert_eq!((pen.whiteness, pen.pen), (0.0, 0.5), "{ink:?}");
        }
        let odd = RgbImage::from_fn(50, 50, |x, _| Rgb(if x >= 48 { [20, 130, 60] } else { [200, 140, 190] }));
        assert_eq!(quality(&odd, 0.5).pen, 0.04, "the last, narrower squares count by their area");
    }
}
