//! The grid in true micrometres: which level, which window of whole pixels, which squares. Pure: numbers in, numbers out.
//!
//! Nothing is snapped to a nominal magnification: a "20x" slide of 0.46 µm/px and one of 0.55 µm/px give tiles of the
//! same physical size. What whole pixels cannot reach is stored as the residual.

use anyhow::{Result, bail};

use super::TileSettings;
use crate::ground::plan::Window;
use crate::ground::units::{Coord, Geometry, Mpp, Size};
use crate::tissue::Mask;

/// Largest relative difference of a slide's pixel width and height; more, and a square of pixels is no square of tissue.
const LARGEST_ANISOTROPY: f64 = 0.01;

/// How tiles of the requested size are read from a slide of pixel size `slide_mpp`.
///
/// METHOD: the coarsest level that still has at least a tile's pixels in a tile's footprint, so that pixels are only
/// ever shrunk. Where even level 0 is coarser, its pixels are taken as they are, if within the tolerance. A level may be
/// decoded at 1/2, 1/4 or 1/8 of its size where its reader offers that and it gives a tile's pixels exactly: decoding at
/// that size is then the whole shrink, and the two kinds of filter are never mixed. A stored level is preferred to it.
///
/// # Errors
/// Pixels that are not square, a slide coarser than the request, a residual above `mpp-tolerance`.
pub fn window(geometry: &Geometry, slide_mpp: Mpp, settings: &TileSettings) -> Result<Window> {
    if slide_mpp.anisotropy() > LARGEST_ANISOTROPY {
        bail!(
            "pixels are not square: {} by {} µm, {:.1} % apart; export the slide with square pixels",
            slide_mpp.x,
            slide_mpp.y,
            100.0 * slide_mpp.anisotropy()
        );
    }
    let mpp = slide_mpp.mean();
    let tile_px = settings.tile_px;
    let levels = &geometry.levels;
    let whole_px = |downsample: f64| (f64::from(tile_px) * settings.mpp / (mpp * downsample)).round();
    let mut level = levels.iter().rposition(|level| whole_px(level.downsample) >= f64::from(tile_px)).unwrap_or(0);
    let mut decode_scale = 1;
    if whole_px(levels[level].downsample) > f64::from(tile_px) {
        let gives_a_tile = |level: usize, scale: u32| whole_px(levels[level].downsample * f64::from(scale)) == f64::from(tile_px);
        let offered = (0..levels.len()).rev().flat_map(|level| geometry.decode_scales.iter().map(move |&scale| (level, scale)));
        (level, decode_scale) = offered.into_iter().find(|&(level, scale)| gives_a_tile(level, scale)).unwrap_or((level, 1));
    }
    let level_downsample = levels[level].downsample;
    let downsample = level_downsample * f64::from(decode_scale);
    let read_px = whole_px(downsample).max(f64::from(tile_px)) as u32;

    let mpp_true = f64::from(read_px) * mpp * downsample / f64::from(tile_px);
    let residual = mpp_true / settings.mpp - 1.0;
    if residual.abs() > settings.mpp_tolerance {
        if read_px == tile_px && residual > 0.0 {
            bail!(
                "the slide's finest level has {mpp:.4} µm/px, coarser than the {} asked for; ask for --mpp {mpp:.4} or coarser, pixels are never invented",
                settings.mpp
            );
        }
        bail!(
            "tiles of {tile_px} px would have {mpp_true:.4} µm/px instead of {}, {:+.2} %; choose another tile size or raise tile.mpp-tolerance ({})",
            settings.mpp,
            100.0 * residual,
            settings.mpp_tolerance
        );
    }
    let level0_px = |px: u32| ((f64::from(px) * settings.mpp / mpp).round() as u32).max(1);
    let step_px = if settings.step_px == 0 { tile_px } else { settings.step_px };
    Ok(Window {
        level,
        level_downsample,
        decode_scale,
        read_px,
        tile_px,
        side_level0_px: level0_px(tile_px),
        step_level0_px: level0_px(step_px),
        mpp_requested: settings.mpp,
        mpp_true,
        residual,
        reader: geometry.reader,
    })
}

/// Every square of the grid with its share of tissue: one global grid from (0, 0) of the canvas, row by row, squares
/// wholly inside the canvas and inside the level that is read.
pub fn squares<'a>(canvas: Size, window: &Window, mask: &'a Mask) -> impl Iterator<Item = (Coord, f32)> + use<'a> {
    // The window of whole pixels may reach a little past the rounded footprint.
    let side = f64::from(window.side_level0_px).max((f64::from(window.read_px) * window.downsample()).floor()) as u32;
    let step = window.step_level0_px;
    let corners = move |length: u32| (0..=length.saturating_sub(side)).step_by(step as usize).filter(move |_| length >= side);
    let scale_x = f64::from(mask.size().width) / f64::from(canvas.width);
    let scale_y = f64::from(mask.size().height) / f64::from(canvas.height);
    let footprint = window.side_level0_px;
    corners(canvas.height).flat_map(move |y| {
        corners(canvas.width).map(move |x| {
            let share = mask.share(
                f64::from(x) * scale_x,
                f64::from(y) * scale_y,
                f64::from(x + footprint) * scale_x,
                f64::from(y + footprint) * scale_y,
            );
            (Coord { x: x.into(), y: y.into() }, share)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::reader::Reader;
    use crate::ground::seed;
    use crate::ground::units::LevelGeometry;
    use rand::Rng;

    fn pyramid(downsamples: &[f64]) -> Geometry {
        let side = |d: f64| (40_000.0 / d) as u32;
        let level = |&d: &f64| LevelGeometry { size: Size { width: side(d), height: side(d) }, downsample: d };
        let levels = downsamples.iter().map(level).collect();
        Geometry { levels, mpp: None, bounds: None, vendor: "pyramid".into(), reader: Reader::OpenSlide, decode_scales: vec![1] }
    }

    fn scaling(downsamples: &[f64]) -> Geometry {
        Geometry { reader: Reader::JpegTiles, decode_scales: vec![1, 2, 4, 8], ..pyramid(downsamples) }
    }

    fn settings(mpp: f64, tile_px: u32) -> TileSettings {
        TileSettings { mpp, tile_px, ..TileSettings::default() }
    }

    #[test]
    fn levels_are_chosen_to_shrink_only() {
        let levels = pyramid(&[1.0, 4.0, 16.0]);
        let at = |slide, mpp| window(&levels, Mpp::square(slide), &settings(mpp, 224)).map(|w| (w.level, w.read_px));
        assert_eq!(at(0.25, 0.5).unwrap(), (0, 448));
        assert_eq!(at(0.25, 1.0).unwrap(), (1, 224));
        assert_eq!(at(0.25, 2.0).unwrap(), (1, 448));
        assert_eq!(at(0.4, 0.5).unwrap(), (0, 280));
        assert_eq!(at(0.499, 0.5).unwrap(), (0, 224));
        assert_eq!(at(0.5004, 0.5).unwrap(), (0, 224));
        let coarser = at(1.0, 0.5).unwrap_err().to_string();
        assert!(coarser.contains("--mpp 1.0000"), "{coarser}");
        let level = window(&pyramid(&[1.0, 2.0004]), Mpp::square(0.25), &settings(0.5, 224)).unwrap();
        assert_eq!((level.level, level.read_px), (1, 224), "a level that is off by an odd pixel is that level");
    }

    #[test]
    fn levels_are_decoded_smaller_where_that_is_the_whole_shrink() {
        let at = |geometry: &Geometry, slide, mpp| {
            window(geometry, Mpp::square(slide), &settings(mpp, 224)).map(|w| (w.level, w.decode_scale, w.read_px)).unwrap()
        };
        let levels = scaling(&[1.0, 4.0, 16.0]);
        assert_eq!(at(&levels, 0.25, 0.5), (0, 2, 224));
        assert_eq!(at(&levels, 0.25, 1.0), (1, 1, 224), "a stored level comes first");
        assert_eq!(at(&levels, 0.25, 2.0), (1, 2, 224));
        assert_eq!(at(&levels, 0.25, 32.0), (2, 8, 224));
        assert_eq!(at(&levels, 0.25, 64.0), (2, 1, 3584), "no 1/16");
        assert_eq!(at(&levels, 0.2495, 0.5), (0, 2, 224), "off by less than half a pixel a tile");
        assert_eq!(at(&levels, 0.24, 0.5), (0, 1, 467), "no power of two");
        let read = window(&levels, Mpp::square(0.25), &settings(0.5, 224)).unwrap();
        assert_eq!((read.reader, read.downsample(), read.mpp_true), (Reader::JpegTiles, 2.0, 0.5));
    }

    #[test]
    fn pixels_that_are_not_square_are_refused() {
        assert!(window(&pyramid(&[1.0]), Mpp { x: 0.25, y: 0.26 }, &settings(0.5, 224)).is_err());
        assert!(window(&pyramid(&[1.0]), Mpp { x: 0.25, y: 0.2505 }, &settings(0.5, 224)).is_ok());
    }

    #[test]
    fn windows_hold_their_promises_for_any_slide() {
        let mut random = seed::stream(0, "grid-windows");
        let mut accepted = 0;
        for round in 0..4000 {
            let downsamples = [1.0, 2.0, 4.001, 16.01];
            let levels = if round % 2 == 0 { pyramid(&downsamples) } else { scaling(&downsamples) };
            let mpp = random.random_range(0.1..1.2);
            let wanted = settings(random.random_range(0.1..8.0), random.random_range(64..1024));
            let Ok(window) = window(&levels, Mpp::square(mpp), &wanted) else { continue };
            accepted += 1;
            assert!(window.read_px >= window.tile_px, "never enlarged");
            assert!(window.residual.abs() <= wanted.mpp_tolerance);
            assert!((window.mpp_true - wanted.mpp * (1.0 + window.residual)).abs() < 1e-9);
            let footprint = f64::from(window.tile_px) * wanted.mpp / mpp;
            assert!((f64::from(window.side_level0_px) - footprint).abs() <= 0.5);
            assert!(window.decode_scale == 1 || window.read_px == window.tile_px, "filters are not mixed");
            if let Some(coarser) = levels.levels.get(window.level + 1).filter(|_| window.decode_scale == 1) {
                assert!((footprint / coarser.downsample).round() < f64::from(window.tile_px), "no coarser level would do");
            }
        }
        assert!(accepted > 2000);
    }

    #[test]
    fn tiles_cover_the_tissue_and_half_the_step_keeps_them_all() {
        let mut random = seed::stream(0, "grid-tissue");
        for _ in 0..100 {
            // A mask of one cell a pixel, so that a covered cell is a covered pixel.
            let canvas = Size { width: random.random_range(40..160), height: random.random_range(40..160) };
            let cells: Vec<bool> = (0..canvas.width * canvas.height).map(|_| random.random_bool(0.02)).collect();
            let mask = Mask::new(canvas, cells);
            let side = 2 * random.random_range(4..20_u32);
            let least = random.random_range(0.0..0.05);
            let kept = |step: u32, least: f64| -> Vec<Coord> {
                let wanted = TileSettings { step_px: step, ..settings(0.5, side) };
                let window = window(&pyramid(&[1.0]), Mpp::square(0.5), &wanted).unwrap();
                squares(canvas, &window, &mask).filter(|(_, share)| f64::from(*share) > least).map(|(at, _)| at).collect()
            };
            let (whole, half) = (kept(side, least), kept(side / 2, least));
            assert!(whole.iter().all(|at| half.contains(at)), "overlap only adds tiles");

            // Every pixel of tissue lies in a tile, but for the rest at the right and lower edge that no whole tile fits into.
            let touched = kept(side, 0.0);
            let reached = |length: u32| length / side * side;
            for (x, y) in (0..reached(canvas.height)).flat_map(|y| (0..reached(canvas.width)).map(move |x| (x, y))) {
                let corner = Coord { x: (x / side * side).into(), y: (y / side * side).into() };
                assert!(!mask.at(x, y) || touched.contains(&corner), "tissue at ({x}, {y}) is in no tile");
            }
        }
    }

    #[test]
    fn squares_cover_the_canvas_and_stay_inside() {
        let mut random = seed::stream(0, "grid-squares");
        for _ in 0..200 {
            let canvas = Size { width: random.random_range(100..3000), height: random.random_range(100..3000) };
            let mask_size = Size { width: canvas.width.div_ceil(16), height: canvas.height.div_ceil(16) };
            let mask = Mask::new(mask_size, (0..mask_size.width * mask_size.height).map(|_| random.random()).collect());
            let wanted = TileSettings { step_px: random.random_range(20..300), ..settings(0.5, random.random_range(50..300)) };
            let window = window(&pyramid(&[1.0]), Mpp::square(0.5), &wanted).unwrap();
            let found: Vec<_> = squares(canvas, &window, &mask).collect();
            let count = |length: u32| if length < window.read_px { 0 } else { (length - window.read_px) / window.step_level0_px + 1 };
            assert_eq!(found.len() as u32, count(canvas.width) * count(canvas.height));
            assert!(found.is_sorted_by_key(|(coord, _)| (coord.y, coord.x)), "row by row");
            for (coord, share) in found {
                assert!(coord.x + i64::from(window.read_px) <= canvas.width.into());
                assert!(coord.y + i64::from(window.read_px) <= canvas.height.into());
                assert!((0.0..=1.0).contains(&share));
            }
        }
    }
}
