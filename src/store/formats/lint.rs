//! What is wrong with a bag, or will be, each under a name that can be looked up in `docs/formats.md`.

use std::collections::HashSet;
use std::path::Path;

use anyhow::Result;
use hdf5::{Group, Location};
use serde::Serialize;

use super::{Exchange, Format, Given, hdf};
use crate::store::bag::Fault;
use crate::store::coords::nominal_magnification;

/// Whether a rule is broken or only bent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The bag must not be used.
    Error,
    /// It can be used; something is slow, unknown or unusual.
    Warning,
}

/// One rule that a bag breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Slide id.
    pub bag: String,
    /// The rule's name.
    pub rule: &'static str,
    /// Whether it is broken or bent.
    pub severity: Severity,
    /// What was seen.
    pub seen: String,
}

/// Every rule that the bag breaks, worst first.
///
/// # Errors
/// Nothing of the bag's own: a bag that cannot be read breaks the rule `unreadable`.
pub fn lint(format: &dyn Format, root: &Path, id: &str, given: &Given) -> Result<Vec<Violation>> {
    let mut found = Vec::new();
    let mut broken = |rule, severity, seen: String| found.push(Violation { bag: id.to_owned(), rule, severity, seen });
    match format.read(root, id, given) {
        Err(error) => {
            let rule = match error.downcast_ref::<Fault>() {
                Some(Fault::RowsDiffer { .. }) => "rows-differ",
                Some(Fault::Changed) => "changed",
                Some(Fault::NotFinite) => "not-finite",
                None => "unreadable",
            };
            broken(rule, Severity::Error, format!("{error:#}"));
        }
        Ok(bag) => content(&bag, &mut broken),
    }
    for place in format.places(root, id, given) {
        layout(&place, &mut broken);
    }
    found.sort_by_key(|violation| (violation.severity == Severity::Warning, violation.rule));
    Ok(found)
}

fn content(bag: &Exchange, broken: &mut impl FnMut(&'static str, Severity, String)) {
    use Severity::{Error, Warning};
    if bag.tiles() == 0 {
        broken("empty", Warning, "it has no tiles".into());
    }
    let single = bag.values.to_single();
    let odd = single.iter().filter(|value| !value.is_finite()).count();
    if odd > 0 {
        broken("not-finite", Error, format!("{odd} of its features are NaN or infinite"));
    }
    let rows: Vec<&[f32]> = single.chunks_exact(bag.width.max(1)).collect();
    let zero = rows.iter().filter(|row| row.iter().all(|&value| value == 0.0)).count();
    if zero > 0 {
        broken("zero-rows", Warning, format!("{zero} of its feature vectors are all zero"));
    }
    if let Some(at) = bag.coords.iter().find(|at| at.x < 0 || at.y < 0) {
        broken("coords-negative", Error, format!("a tile begins at ({}, {})", at.x, at.y));
    }
    if let Some((canvas, side)) = bag.canvas.zip(bag.side_level0_px) {
        let outside = |length: u32, at: i64| at.saturating_add(i64::from(side)) > i64::from(length) + i64::from(side / 2);
        let beyond = bag.coords.iter().filter(|at| outside(canvas.width, at.x) || outside(canvas.height, at.y)).count();
        if beyond > 0 {
            broken("coords-off-canvas", Error, format!("{beyond} tiles lie beyond the canvas of {}x{} px", canvas.width, canvas.height));
        }
    }
    let distinct: HashSet<_> = bag.coords.iter().collect();
    if distinct.len() < bag.tiles() {
        broken("coords-repeated", Error, format!("{} tiles stand at a place of another", bag.tiles() - distinct.len()));
    }
    if !bag.coords.is_sorted_by_key(|at| (at.y, at.x)) && !bag.coords.is_sorted_by_key(|at| (at.x, at.y)) {
        broken("coords-unsorted", Warning, "its tiles follow neither rows nor columns; their order may differ between runs".into());
    }
    if bag.encoder.is_none() {
        broken("unknown-encoder", Warning, "it does not say what made its features".into());
    }
    match (bag.mpp, bag.side_level0_px, bag.tile_px) {
        (None, ..) => broken("no-pixel-size", Warning, "it does not say how large a pixel is".into()),
        (Some(mpp), Some(side), Some(tile_px)) => {
            let tile_mpp = f64::from(side) * mpp.mean() / f64::from(tile_px);
            let nominal = 10.0 / nominal_magnification(tile_mpp) as f64;
            if (tile_mpp / nominal - 1.0).abs() > 0.05 {
                let seen = format!("its tiles have {tile_mpp:.3} µm/px, which readers of magnifications take for {nominal:.3}");
                broken("not-nominal", Warning, seen);
            }
        }
        _ => broken("no-footprint", Warning, "it does not say how large its tiles are".into()),
    }
}

/// What the file itself tells: paths of the machine that wrote it, and pieces so small that reading is slow.
fn layout(place: &Group, broken: &mut impl FnMut(&'static str, Severity, String)) {
    let own = place.name();
    paths_in(place, if own == "/" { "the file" } else { &own }, broken);
    for dataset in place.datasets().unwrap_or_default() {
        let name = dataset.name().rsplit('/').next().unwrap_or_default().to_owned();
        paths_in(&dataset, &format!("'{name}'"), broken);
        if dataset.chunk().is_some_and(|chunk| chunk.first() == Some(&1)) && dataset.shape().first().is_some_and(|&rows| rows > 1) {
            let seen = format!("'{name}' is stored row by row, which reads ten times slower than in one piece");
            broken("chunk-a-row", Severity::Warning, seen);
        }
    }
}

/// Attributes that hold a path of a machine; the path itself is not repeated.
fn paths_in(place: &Location, name: &str, broken: &mut impl FnMut(&'static str, Severity, String)) {
    for attribute in place.attr_names().unwrap_or_default() {
        let is_path = |text: String| Path::new(&text).is_absolute() || text.contains(":\\") || text.starts_with("\\\\");
        if hdf::text(place, &attribute).is_some_and(is_path) {
            broken("absolute-path", Severity::Error, format!("the attribute '{attribute}' of {name} holds a path of a machine"));
        }
    }
}
