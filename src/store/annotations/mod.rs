//! What people drew on a slide: shapes in level-0 pixels of the full canvas, in named groups.

mod asap;

pub use asap::read;

use crate::ground::polygon::{Polygon, Region};

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
    /// The group that it belongs to, if any.
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
    /// The outlines of the groups `inside`, less those of the groups `cut`. Holes are cut last, whatever the file's order is.
    ///
    /// CAMELYON16: inside `_0` and `_1`, cut `_2`. CAMELYON17: inside `metastases`, cut `normal`.
    pub fn region(&self, inside: &[&str], cut: &[&str]) -> Region {
        let of = |groups: &[&str]| {
            let wanted = |shape: &&Shape| shape.group.as_deref().is_some_and(|group| groups.contains(&group));
            self.shapes.iter().filter(wanted).filter_map(|shape| shape.outline.clone()).collect()
        };
        Region { outlines: of(inside), holes: of(cut) }
    }
}
