//! How much of each square of a grid lies inside a drawn region, finer than any mask.

use super::polygon::{Edge, Polygon, Region, crossing};
use super::units::Coord;

/// Lines across each square.
///
/// METHOD: along a line the covered length is exact; across, 64 lines stand for the square. A straight border that runs through a
/// square costs no more than 1/128 of its area where it is parallel to the lines, and far less where it is not.
const LINES: usize = 64;

impl Region {
    /// Share of the region in each square of `side` level-0 pixels, 0–1; overlapping outlines count once. `corners` are the squares'
    /// top-left ones, row by row.
    ///
    /// Time: rows · (edges + 64 · squares in a row); memory: the edges that touch one row.
    pub fn shares(&self, corners: &[Coord], side: u32) -> Vec<f32> {
        let side = f64::from(side);
        let mut shares = Vec::with_capacity(corners.len());
        for row in corners.chunk_by(|a, b| a.y == b.y) {
            let top = row[0].y as f64;
            let touching = Touching::of(self, top, top + side);
            let mut covered = vec![0.0; row.len()];
            for line in 0..LINES {
                let spans = Spans::of(&touching, top + (line as f64 + 0.5) / LINES as f64 * side);
                for (covered, corner) in covered.iter_mut().zip(row) {
                    let left = corner.x as f64;
                    *covered += spans.length_to(left + side) - spans.length_to(left);
                }
            }
            shares.extend(covered.into_iter().map(|covered| (covered / (LINES as f64 * side)).clamp(0.0, 1.0) as f32));
        }
        shares
    }
}

/// The edges of a region that reach into a band: each outline with its holes, and what is cut last.
struct Touching {
    outlines: Vec<(Vec<Edge>, Vec<Vec<Edge>>)>,
    holes: Vec<(Vec<Edge>, Vec<Vec<Edge>>)>,
}

impl Touching {
    fn of(region: &Region, top: f64, bottom: f64) -> Self {
        let ring = |polygon: &Polygon| {
            let reaches = |([_, y0], [_, y1]): &Edge| y0.min(*y1) <= bottom && y0.max(*y1) >= top;
            polygon.edges().filter(reaches).collect::<Vec<_>>()
        };
        let polygon = |polygon: &Polygon| (ring(polygon), polygon.holes().iter().map(ring).collect());
        let all = |polygons: &[Polygon]| polygons.iter().map(polygon).filter(|(ring, _)| !ring.is_empty()).collect();
        Self { outlines: all(&region.outlines), holes: all(&region.holes) }
    }
}

/// Stretches of a line, from left to right, apart from each other; with the length before each.
struct Spans(Vec<(f64, f64, f64)>);

impl Spans {
    fn of(touching: &Touching, y: f64) -> Self {
        let ring = |edges: &Vec<Edge>| {
            let mut at: Vec<f64> = edges.iter().filter_map(|&edge| crossing(edge, y)).collect();
            at.sort_by(f64::total_cmp);
            at.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect::<Vec<_>>()
        };
        let polygon = |(outer, holes): &(Vec<Edge>, Vec<Vec<Edge>>)| {
            let outer = ring(outer);
            if outer.is_empty() { outer } else { without(outer, &union(holes.iter().flat_map(ring).collect())) }
        };
        let all = |polygons: &[_]| union(polygons.iter().flat_map(polygon).collect());
        let mut length = 0.0;
        let placed = without(all(&touching.outlines), &all(&touching.holes)).into_iter().map(|(from, to)| {
            let before = length;
            length += to - from;
            (from, to, before)
        });
        Self(placed.collect())
    }

    /// Length of the stretches left of `x`.
    fn length_to(&self, x: f64) -> f64 {
        match self.0.partition_point(|(from, ..)| *from < x).checked_sub(1) {
            Some(last) => {
                let (from, to, before) = self.0[last];
                before + x.min(to) - from
            }
            None => 0.0,
        }
    }
}

/// Overlapping stretches become one.
fn union(mut spans: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    spans.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut apart: Vec<(f64, f64)> = Vec::with_capacity(spans.len());
    for (from, to) in spans {
        match apart.last_mut() {
            Some((_, end)) if from <= *end => *end = end.max(to),
            _ => apart.push((from, to)),
        }
    }
    apart
}

/// `spans` less `cut`, both sorted and `cut` apart.
fn without(spans: Vec<(f64, f64)>, cut: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut left = Vec::with_capacity(spans.len());
    for (mut from, to) in spans {
        let first = cut.partition_point(|(_, end)| *end <= from);
        for &(start, end) in cut[first..].iter().take_while(|(start, _)| *start < to) {
            if start > from {
                left.push((from, start));
            }
            from = from.max(end);
        }
        if from < to {
            left.push((from, to));
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::seed;
    use rand::Rng;

    fn polygon(points: &[[f64; 2]]) -> Polygon {
        Polygon::closed(points.to_vec()).unwrap()
    }

    fn square(from: f64, to: f64) -> Polygon {
        polygon(&[[from, from], [to, from], [to, to], [from, to]])
    }

    fn share(region: &Region, x: i64, y: i64, side: u32) -> f64 {
        f64::from(region.shares(&[Coord { x, y }], side)[0])
    }

    #[test]
    fn areas_of_squares_and_triangles() {
        let region = Region { outlines: vec![square(0.0, 100.0)], holes: vec![] };
        assert_eq!((share(&region, 10, 10, 50), share(&region, 75, 10, 50), share(&region, 75, 75, 50)), (1.0, 0.5, 0.25));
        assert_eq!((share(&region, 100, 0, 50), share(&region, -50, 0, 50)), (0.0, 0.0));
        let triangle = Region { outlines: vec![polygon(&[[0.0, 0.0], [64.0, 0.0], [0.0, 64.0]])], holes: vec![] };
        assert!((share(&triangle, 0, 0, 64) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn overlaps_count_once_and_islands_in_holes_count() {
        let ring = square(0.0, 90.0).with_holes(vec![square(30.0, 60.0)]);
        let region = |outlines, holes| Region { outlines, holes };
        assert!((share(&region(vec![ring.clone()], vec![]), 0, 0, 90) - 8.0 / 9.0).abs() < 0.01);
        assert!((share(&region(vec![ring.clone(), ring.clone(), square(30.0, 60.0)], vec![]), 0, 0, 90) - 1.0).abs() < 1e-6);
        assert!((share(&region(vec![square(0.0, 90.0)], vec![ring]), 0, 0, 90) - 1.0 / 9.0).abs() < 0.01);
    }

    #[test]
    fn shares_agree_with_many_points() {
        let mut random = seed::stream(0, "coverage");
        for _ in 0..40 {
            let mut star = |x: f64, y: f64, reach: f64| {
                let corners = random.random_range(3..12);
                let corner = |i: u32, r: f64| {
                    let turn = f64::from(i) / f64::from(corners) * std::f64::consts::TAU;
                    [x + r * turn.cos(), y + r * turn.sin()]
                };
                polygon(&(0..corners).map(|i| corner(i, random.random_range(0.3..1.0) * reach)).collect::<Vec<_>>())
            };
            let region = Region {
                outlines: vec![star(150.0, 150.0, 140.0).with_holes(vec![star(150.0, 150.0, 40.0)]), star(220.0, 170.0, 80.0)],
                holes: vec![star(100.0, 120.0, 50.0)],
            };
            // Overlapping squares, as of a grid whose step is smaller than its side.
            let corners: Vec<Coord> = (0..6).flat_map(|row| (0..6).map(move |column| Coord { x: 40 * column, y: 40 * row })).collect();
            for (corner, share) in corners.iter().zip(region.shares(&corners, 60)) {
                const FINE: u32 = 60;
                let points = (0..FINE * FINE).map(|i| [f64::from(i % FINE) + 0.5, f64::from(i / FINE) + 0.5]);
                let inside = points.filter(|[x, y]| region.contains([corner.x as f64 + x, corner.y as f64 + y])).count();
                let expected = inside as f32 / (FINE * FINE) as f32;
                assert!((share - expected).abs() < 0.015, "{corner:?}: {share} against {expected}");
            }
        }
    }
}
