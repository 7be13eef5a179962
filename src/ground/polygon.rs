//! Outlines on a slide, level-0 pixels: closed rings, their area, and what lies inside.

/// A closed ring of at least three corners, less the rings cut out of it; the last point of each repeats the first.
#[derive(Debug, Clone, PartialEq)]
pub struct Polygon {
    ring: Vec<[f64; 2]>,
    holes: Vec<Polygon>,
}

impl Polygon {
    /// Closes `points` (x, y) if their last is not their first. `None` for fewer than three corners: they enclose nothing.
    pub fn closed(mut points: Vec<[f64; 2]>) -> Option<Self> {
        if points.first() != points.last() {
            points.extend(points.first().copied());
        }
        (points.len() > 3).then_some(Self { ring: points, holes: Vec::new() })
    }

    /// The same outline with `holes` cut out of it.
    pub fn with_holes(self, holes: Vec<Polygon>) -> Self {
        Self { holes, ..self }
    }

    /// `[K + 1][2]`, x and y in level-0 pixels; the last point is the first.
    pub fn ring(&self) -> &[[f64; 2]] {
        &self.ring
    }

    /// What is cut out.
    pub fn holes(&self) -> &[Polygon] {
        &self.holes
    }

    /// Enclosed area in square level-0 pixels, whichever way the rings turn; a ring that crosses itself counts loops of opposite turn
    /// against each other, and holes are taken to lie inside, apart from each other.
    pub fn area(&self) -> f64 {
        let ring = self.edges().map(|([x0, y0], [x1, y1])| x0 * y1 - x1 * y0).sum::<f64>().abs() / 2.0;
        ring - self.holes.iter().map(Self::area).sum::<f64>()
    }

    /// Whether a point is inside by the even-odd rule and in no hole. Of two polygons with a common edge, a point on it is inside one
    /// at most.
    pub fn contains(&self, point: [f64; 2]) -> bool {
        let [x, y] = point;
        let right_of = self.edges().filter_map(|edge| crossing(edge, y)).filter(|&at| x < at);
        right_of.count() % 2 == 1 && !self.holes.iter().any(|hole| hole.contains(point))
    }

    /// The polygon moved by `(x, y)`.
    pub fn moved(mut self, by: [f64; 2]) -> Self {
        self.ring.iter_mut().for_each(|[x, y]| (*x, *y) = (*x + by[0], *y + by[1]));
        self.holes = self.holes.into_iter().map(|hole| hole.moved(by)).collect();
        self
    }

    /// Edges of the outer ring, from corner to corner.
    pub(super) fn edges(&self) -> impl Iterator<Item = Edge> {
        self.ring.windows(2).map(|pair| (pair[0], pair[1]))
    }
}

/// From one corner to the next.
pub(super) type Edge = ([f64; 2], [f64; 2]);

/// Where an edge crosses the height `y`. An edge has its upper end and not its lower one, so that a line through a corner crosses once.
pub(super) fn crossing(([x0, y0], [x1, y1]): Edge, y: f64) -> Option<f64> {
    ((y0 > y) != (y1 > y)).then(|| (x1 - x0) * (y - y0) / (y1 - y0) + x0)
}

/// Outlines less holes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Region {
    /// What belongs to it.
    pub outlines: Vec<Polygon>,
    /// What does not, wherever it lies: holes are cut last.
    pub holes: Vec<Polygon>,
}

impl Region {
    /// Whether a point is in an outline and in no hole.
    pub fn contains(&self, point: [f64; 2]) -> bool {
        let inside = |polygons: &[Polygon]| polygons.iter().any(|polygon| polygon.contains(point));
        inside(&self.outlines) && !inside(&self.holes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(from: f64, to: f64) -> Polygon {
        Polygon::closed(vec![[from, from], [to, from], [to, to], [from, to]]).unwrap()
    }

    #[test]
    fn rings_close_and_enclose() {
        let polygon = square(0.0, 10.0);
        assert_eq!((polygon.ring().len(), polygon.area()), (5, 100.0));
        assert_eq!(Polygon::closed(polygon.ring().to_vec()), Some(polygon.clone()), "a closed ring stays");
        let backwards = Polygon::closed(polygon.ring().iter().rev().copied().collect()).unwrap();
        assert_eq!(backwards.area(), 100.0);
        for (point, inside) in [([5.0, 5.0], true), ([9.9, 0.1], true), ([10.1, 5.0], false), ([-1.0, 5.0], false), ([5.0, 11.0], false)] {
            assert_eq!((polygon.contains(point), backwards.contains(point)), (inside, inside), "{point:?}");
        }
        let concave = Polygon::closed(vec![[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [5.0, 2.0], [0.0, 10.0]]).unwrap();
        assert!(!concave.contains([5.0, 5.0]) && concave.contains([1.0, 5.0]) && concave.contains([9.0, 5.0]));
        assert_eq!(concave.area(), 60.0);
    }

    #[test]
    fn two_points_enclose_nothing() {
        assert_eq!(Polygon::closed(vec![]), None);
        assert_eq!(Polygon::closed(vec![[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]), None);
    }

    #[test]
    fn neighbours_share_no_point() {
        let left = Polygon::closed(vec![[0.0, 0.0], [5.0, 0.0], [5.0, 10.0], [0.0, 10.0]]).unwrap();
        let right = Polygon::closed(vec![[5.0, 0.0], [10.0, 0.0], [10.0, 10.0], [5.0, 10.0]]).unwrap();
        assert!(left.contains([5.0, 5.0]) != right.contains([5.0, 5.0]));
    }

    #[test]
    fn a_hole_belongs_to_its_polygon() {
        let ring = square(0.0, 10.0).with_holes(vec![square(2.0, 8.0)]);
        assert_eq!((ring.area(), ring.contains([1.0, 1.0]), ring.contains([5.0, 5.0])), (64.0, true, false));
        let island = Region { outlines: vec![ring.clone(), square(4.0, 6.0)], holes: vec![] };
        assert!(island.contains([5.0, 5.0]) && !island.contains([3.0, 3.0]));
        assert!(ring.moved([100.0, 50.0]).contains([101.0, 51.0]));
    }

    #[test]
    fn holes_are_cut_last() {
        let region = Region { outlines: vec![square(0.0, 10.0), square(20.0, 30.0)], holes: vec![square(4.0, 6.0)] };
        assert!(region.contains([1.0, 1.0]) && region.contains([25.0, 25.0]));
        assert!(!region.contains([5.0, 5.0]) && !region.contains([15.0, 15.0]));
    }
}
