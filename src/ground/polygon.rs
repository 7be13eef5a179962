//! Outlines on a slide, level-0 pixels: closed rings, their area, and what lies inside.

/// A closed ring of at least three corners; the last point repeats the first.
#[derive(Debug, Clone, PartialEq)]
pub struct Polygon {
    ring: Vec<[f64; 2]>,
}

impl Polygon {
    /// Closes `points` (x, y) if their last is not their first. `None` for fewer than three corners: they enclose nothing.
    pub fn closed(mut points: Vec<[f64; 2]>) -> Option<Self> {
        if points.first() != points.last() {
            points.extend(points.first().copied());
        }
        (points.len() > 3).then_some(Self { ring: points })
    }

    /// `[K + 1][2]`, x and y in level-0 pixels; the last point is the first.
    pub fn ring(&self) -> &[[f64; 2]] {
        &self.ring
    }

    /// Enclosed area in square level-0 pixels, whichever way the ring turns; a ring that crosses itself counts loops of opposite turn
    /// against each other.
    pub fn area(&self) -> f64 {
        self.edges().map(|([x0, y0], [x1, y1])| x0 * y1 - x1 * y0).sum::<f64>().abs() / 2.0
    }

    /// Whether a point is inside by the even-odd rule. Of two polygons with a common edge, a point on it is inside one at most.
    pub fn contains(&self, [x, y]: [f64; 2]) -> bool {
        let crosses = |&([x0, y0], [x1, y1]): &([f64; 2], [f64; 2])| (y0 > y) != (y1 > y) && x < (x1 - x0) * (y - y0) / (y1 - y0) + x0;
        self.edges().filter(crosses).count() % 2 == 1
    }

    fn edges(&self) -> impl Iterator<Item = ([f64; 2], [f64; 2])> {
        self.ring.windows(2).map(|pair| (pair[0], pair[1]))
    }
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
    fn holes_are_cut_last() {
        let region = Region { outlines: vec![square(0.0, 10.0), square(20.0, 30.0)], holes: vec![square(4.0, 6.0)] };
        assert!(region.contains([1.0, 1.0]) && region.contains([25.0, 25.0]));
        assert!(!region.contains([5.0, 5.0]) && !region.contains([15.0, 15.0]));
    }
}
