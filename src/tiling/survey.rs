//! One look at a slide: its small picture, the tissue in it, and the plan of tiles that follows.

use std::borrow::Cow;

use anyhow::{Result, bail};
use image::RgbImage;

use super::roi::{Origin, Placed, Roi};
use super::shrink::{scaled, shrink};
use super::{TileSettings, grid};
use crate::ground::plan::{Plan, Window};
use crate::ground::share;
use crate::ground::units::{Coord, Geometry, Mpp};
use crate::slides::{Overview, Slide, SlideFile, overview};
use crate::tissue::Mask;

/// METHOD: tissue is looked for at 8 µm/px: a tile of 112 µm is 14 pixels wide there, nuclei blur into their tissue, and
/// thresholds mean the same on every slide.
const MASK_MPP: f64 = 8.0;

/// METHOD: no mask has more pixels; a scan of more than 32 × 32 mm is looked at in pixels a little coarser than 8 µm. With about 40 bytes
/// of working memory a pixel, and an overview of at most four times as many, this bounds a survey at 840 MB, whatever the slide.
const LARGEST_MASK_PX: f64 = 16e6;

/// The overview has at least this many pixels along its longer side where the slide has them; thumbnails are cut from it.
const OVERVIEW_PX: f64 = 1024.0;

/// What was seen of a slide.
pub struct Survey {
    /// The tiles to read; `coords` is empty where no square has enough tissue. The fingerprint is taken of the thumbnail, later.
    pub plan: Plan,
    /// Squares of the grid before tissue was asked for.
    pub squares: usize,
    /// The whole canvas, shrunk.
    pub overview: RgbImage,
    /// Tissue on the whole canvas, at its own resolution.
    pub mask: Mask,
    /// What people drew, and how many squares with enough tissue it left out; `None` where no annotations are given.
    pub roi: Option<(Placed, usize)>,
}

/// Surveys an open slide. `digest` is the slide file's, for the record; of what is drawn on it, only `roi` is tiled.
///
/// # Errors
/// No pixel size, one that does not fit the request (see [`grid::window`]), a slide that cannot be read, a drawing of another slide.
pub fn survey(slide: &dyn Slide, file: &SlideFile, digest: &str, settings: &TileSettings, roi: Option<Roi>) -> Result<Survey> {
    let geometry = slide.geometry();
    if let (true, Origin::Canvas, Some((at, _))) = (roi.is_some(), settings.roi.origin, geometry.bounds)
        && (at.x, at.y) != (0, 0)
    {
        tracing::warn!(
            "{}: the scanned area begins at x={}, y={}; QuPath counts from there: if this was drawn in QuPath, set tile.roi.origin=bounds",
            file.id,
            at.x,
            at.y
        );
    }
    let roi = roi.map(|roi| roi.placed(geometry.canvas(), geometry.bounds)).transpose()?;
    let Request { mpp, mpp_source, window } = request(geometry, file, settings)?;
    let canvas = geometry.canvas();

    let longest = f64::from(canvas.width.max(canvas.height));
    let least_downsample = (f64::from(canvas.width) * f64::from(canvas.height) / LARGEST_MASK_PX).sqrt();
    let mask_mpp = MASK_MPP.max(least_downsample * mpp.mean());
    let picture = overview(slide, (mask_mpp / mpp.mean()).min(longest / OVERVIEW_PX).max(1.0))?;
    let factor = (picture.downsample * mpp.mean() / mask_mpp).min(1.0);
    let small = shrink(Cow::Borrowed(&picture.image), scaled(picture.image.dimensions(), factor))?;
    let mut mask = settings.tissue.mask(&small, picture.downsample * mpp.mean() / factor);
    for &rectangle in &picture.unreadable {
        // What could not be seen may be tissue: its tiles are planned, and counted where they are read.
        mask = mask.filled(rectangle.map(|edge| f64::from(edge) * factor));
    }

    let mut squares = 0;
    let (mut coords, mut tissue): (Vec<Coord>, Vec<f32>) = grid::squares(canvas, &window, &mask)
        .inspect(|_| squares += 1)
        .filter(|(_, share)| f64::from(*share) >= settings.min_tissue)
        .unzip();
    let roi = roi.map(|roi| {
        let keeps = roi.keeps(&coords, window.side_level0_px);
        let left_out = keeps.iter().filter(|&&keep| !keep).count();
        (coords, tissue) = coords.iter().zip(&tissue).zip(&keeps).filter(|(_, keep)| **keep).map(|((at, share), _)| (*at, *share)).unzip();
        (roi, left_out)
    });
    within_budget(&picture, &coords, window.side_level0_px, settings.max_bad_tiles)?;
    let plan = Plan {
        slide_id: file.id.clone(),
        slide_file: file.file.clone(),
        slide_digest: digest.to_owned(),
        canvas,
        bounds: geometry.bounds,
        mpp,
        mpp_source: mpp_source.to_owned(),
        window,
        fingerprint: None,
        coords,
        tissue,
    };
    Ok(Survey { plan, squares, overview: picture.image, mask, roi })
}

/// What the settings ask of a slide.
pub struct Request {
    /// Pixel size of level 0.
    pub mpp: Mpp,
    /// Who says so: `slide`, `table` or `argument`.
    pub mpp_source: &'static str,
    /// How tiles are read.
    pub window: Window,
}

/// How a slide is to be read, from its header alone.
///
/// # Errors
/// No pixel size, one that does not fit the request (see [`grid::window`]).
pub fn request(geometry: &Geometry, file: &SlideFile, settings: &TileSettings) -> Result<Request> {
    let (mpp, mpp_source) = pixel_size(geometry, file, settings)?;
    Ok(Request { mpp, mpp_source, window: grid::window(geometry, mpp, settings)? })
}

/// # Errors
/// More of the tiles than the share that is allowed lie where the overview could not be read.
fn within_budget(picture: &Overview, coords: &[Coord], side: u32, share: f64) -> Result<()> {
    let Some(reason) = &picture.reason else { return Ok(()) };
    let edge = |pixel: u32| f64::from(pixel) * picture.downsample;
    let unreadable: Vec<[f64; 4]> = picture.unreadable.iter().map(|rectangle| rectangle.map(edge)).collect();
    let touched = |at: &&Coord| {
        let (x, y, side) = (at.x as f64, at.y as f64, f64::from(side));
        unreadable.iter().any(|&[left, top, right, bottom]| x < right && x + side > left && y < bottom && y + side > top)
    };
    let bad = coords.iter().filter(touched).count();
    let allowed = share::allowed(share, coords.len());
    if bad > allowed {
        bail!(
            "{bad} of {} tiles lie where the slide cannot be read, {allowed} are allowed (--max-bad-tiles {}); the first place: {reason}",
            coords.len(),
            share::percent(share)
        );
    }
    Ok(())
}

/// The slide's own statement, else the table's, else the setting's; and which of them it was.
fn pixel_size(geometry: &Geometry, file: &SlideFile, settings: &TileSettings) -> Result<(Mpp, &'static str)> {
    if let Some(stated) = geometry.mpp {
        if let Some(table) = file.mpp.filter(|table| (stated.mean() / table - 1.0).abs() > settings.mpp_tolerance) {
            tracing::warn!("{}: the slide states {:.4} µm/px, the table {table}; the slide's is used", file.id, stated.mean());
        }
        return Ok((stated, "slide"));
    }
    if let Some(table) = file.mpp {
        return Ok((Mpp::square(table), "table"));
    }
    if settings.slide_mpp > 0.0 {
        return Ok((Mpp::square(settings.slide_mpp), "argument"));
    }
    bail!(
        "the slide does not state its pixel size; give it with --slide-mpp (µm per level-0 pixel), or per slide in a table's column 'mpp'"
    )
}
