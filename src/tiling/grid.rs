//! The grid in true micrometres: which level, which window of whole pixels, which squares. Pure: numbers in, numbers out.
//!
//! Nothing is snapped to a nominal magnification: a "20x" slide of 0.46 µm/px and one of 0.55 µm/px give tiles of the
//! same physical size. What whole pixels cannot reach is stored as the residual.

use anyhow::{Result, bail};

use super::TileSettings;
use crate::ground::plan::Window;
use crate::ground::units::{Coord, LevelGeometry, Mpp, Size};
use crate::tissue::Mask;

/// Largest relative difference of a slide's pixel width and height; more, and a square of pixels is no square of tissue.
const LARGEST_ANISOTROPY: f64 = 0.01;

/// How tiles of the requested size are read from a slide of pixel size `slide_mpp`.
///
/// METHOD: the coarsest level that still has at least a tile's pixels in a tile's footprint, so that pixels are only
/// ever shrunk. Where even level 0 is coarser, its pixels are taken as they are, if within the tolerance.
///
/// # Errors
/// Pixels that are not square, a slide coarser than the request, a residual above `mpp-tolerance`.
pub fn window(levels: &[LevelGeometry], slide_mpp: Mpp, settings: &TileSettings) -> Result<Window> {
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
    let whole_px = |level: &LevelGeometry| (f64::from(tile_px) * settings.mpp / (mpp * level.downsample)).round();
    let level = levels.iter().rposition(|level| whole_px(level) >= f64::from(tile_px)).unwrap_or(0);
    let level_downsample = levels[level].downsample;
    let read_px = whole_px(&levels[level]).max(f64::from(tile_px)) as u32;

    let mpp_true = f64::from(read_px) * mpp * level_downsample / f64::from(tile_px);
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
        read_px,
        tile_px,
        side_level0_px: level0_px(tile_px),
        step_level0_px: level0_px(step_px),
        mpp_requested: settings.mpp,
        mpp_true,
        residual,
    })
}

/// Every square of the grid with its share of tissue: one global grid from (0, 0) of the canvas, row by row, squares
/// wholly inside the canvas and inside the level that is read.
pub fn squares<'a>(canvas: Size, window: &Window, mask: &'a Mask) -> impl Iterator<Item = (Coord, f32)> + use<'a> {
    // The window of whole pixels may reach a little past the rounded footprint.
    let side = f64::from(window.side_level0_px).max((f64::from(window.read_px) * window.level_downsample).floor()) as u32;
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
    use crate::ground::seed;
    use rand::Rng;

    fn pyramid(downsamples: &[f64]) -> Vec<LevelGeometry> {
        let side = |d: f64| (40_000.0 / d) as u32;
        downsamples.iter().map(|&d| LevelGeometry { size: Size { width: side(d), height: side(d) }, downsample: d }).collect()
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
    fn pixels_that_are_not_square_are_refused() {
        assert!(window(&pyramid(&[1.0]), Mpp { x: 0.25, y: 0.26 }, &settings(0.5, 224)).is_err());
        assert!(window(&pyramid(&[1.0]), Mpp { x: 0.25, y: 0.2505 }, &settings(0.5, 224)).is_ok());
    }

    #[test]
    fn windows_hold_their_promises_for_any_slide() {
        let mut random = seed::stream(0, "grid-windows");
        let levels = pyramid(&[1.0, 2.0, 4.001, 16.01]);
        let mut accepted = 0;
        for _ in 0..2000 {
            let mpp = random.random_range(0.1..1.2);
            let wanted = settings(random.random_range(0.1..8.0), random.random_range(64..1024));
            let Ok(window) = window(&levels, Mpp::square(mpp), &wanted) else { continue };
            accepted += 1;
            assert!(window.read_px >= window.tile_px, "never enlarged");
            assert!(window.residual.abs() <= wanted.mpp_tolerance);
            assert!((window.mpp_true - wanted.mpp * (1.0 + window.residual)).abs() < 1e-9);
            let footprint = f64::from(window.tile_px) * wanted.mpp / mpp;
            assert!((f64::from(window.side_level0_px) - footprint).abs() <= 0.5);
            if let Some(coarser) = levels.get(window.level + 1) {
                assert!((footprint / coarser.downsample).round() < f64::from(window.tile_px), "no coarser level would do");
            }
        }
        assert!(accepted > 1000);
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
