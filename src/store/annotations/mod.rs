//! What people drew on a slide: shapes in level-0 pixels, in named groups; or a picture of what they painted.

mod asap;
pub mod contours;
mod geojson;
pub mod picture;
pub mod qupath;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::ground::polygon::{Polygon, Region};

/// Larger files hold cells rather than regions; reading them as JSON takes up to sixteen times their size in memory.
const LARGEST_FILE: u64 = 64 << 20;

/// Reads the annotations of one slide: GeoJSON as QuPath writes it and plain, or ASAP's XML; which of them, the content tells.
///
/// # Errors
/// Names the file, and what in it is wrong; see [`parse`].
pub fn read(path: &Path) -> Result<Annotations> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let context = || format!("cannot read the annotations '{name}'");
    let size = path.metadata().with_context(context)?.len();
    ensure!(
        size <= LARGEST_FILE,
        "the annotations '{name}' are {} MiB; at most {} are read: export regions only, without cells or tiles",
        size >> 20,
        LARGEST_FILE >> 20
    );
    parse(&std::fs::read(path).with_context(context)?).with_context(context)
}

/// The annotations in a file's bytes. Any bytes give annotations or an error; nothing is nested deeper than 128 times.
///
/// # Errors
/// Bytes that are neither GeoJSON nor ASAP's XML, a shape of unknown type, a coordinate that is no number of pixels, an outline that
/// encloses nothing; names the annotation.
pub fn parse(bytes: &[u8]) -> Result<Annotations> {
    let text = std::str::from_utf8(bytes).context("it is no text in UTF-8")?.trim_start_matches('\u{feff}').trim_start();
    match text.chars().next() {
        Some('<') => asap::parse(text),
        Some('{' | '[') => geojson::parse(text),
        _ => bail!("it is neither GeoJSON nor ASAP's XML"),
    }
}

/// Whether a coordinate can lie on a slide: a number, and none beyond any canvas.
fn is_place(value: f64) -> bool {
    value.abs() <= 1e9
}

/// What was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One point.
    Dot,
    /// Points that belong together.
    PointSet,
    /// A length between points.
    Measurement,
    /// An outline of straight edges.
    Polygon,
    /// An outline that was drawn as a curve through its points.
    Spline,
    /// An outline of four corners.
    Rectangle,
}

impl Kind {
    fn encloses(self) -> bool {
        matches!(self, Self::Polygon | Self::Spline | Self::Rectangle)
    }
}

/// One annotation.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// As the annotator called it; need not be unique.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The group that it belongs to, if any; QuPath's class.
    pub group: Option<String>,
    /// `[K][2]`: x and y, in the order of drawing.
    pub points: Vec<[f64; 2]>,
    /// The closed outline; `None` for points and lengths.
    pub outline: Option<Polygon>,
}

/// A group of annotations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Unique within a file.
    pub name: String,
    /// The group above it, if any.
    pub parent: Option<String>,
    /// `#rrggbb`; empty where the file has none.
    pub colour: String,
}

/// One slide's annotations.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Annotations {
    /// In the file's order.
    pub shapes: Vec<Shape>,
    /// In the file's order.
    pub groups: Vec<Group>,
}

impl Annotations {
    /// The outlines of the groups `inside`, of all where it is empty, less those of the groups `cut`. Holes are cut last, whatever the
    /// file's order is.
    ///
    /// CAMELYON16: inside `_0` and `_1`, cut `_2`. CAMELYON17: inside `metastases`, cut `normal`.
    pub fn region<S: AsRef<str>>(&self, inside: &[S], cut: &[S]) -> Region {
        let of = |groups: &[S], wanted_without: bool| {
            let named = |group: &str| groups.iter().any(|wanted| wanted.as_ref() == group);
            let wanted = |shape: &&Shape| wanted_without || shape.group.as_deref().is_some_and(named);
            self.shapes.iter().filter(wanted).filter_map(|shape| shape.outline.clone()).collect()
        };
        Region { outlines: of(inside, inside.is_empty()), holes: of(cut, false) }
    }

    /// How many outlines each group has; those of no group are counted under an empty name.
    pub fn outlines_by_group(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for shape in self.shapes.iter().filter(|shape| shape.outline.is_some()) {
            *counts.entry(shape.group.as_deref().unwrap_or_default()).or_default() += 1;
        }
        counts
    }
}
