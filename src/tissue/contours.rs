//! From a mask to outlines: the border between tissue and background along the edges of the mask's pixels, exactly.

use std::collections::HashMap;

use super::Mask;
use crate::ground::polygon::Polygon;
use crate::ground::units::Size;

/// A corner of the mask's pixels, `[x, y]`.
type Corner = [u32; 2];

impl Mask {
    /// The mask's pieces of tissue in the pixels of a canvas that it covers, in the order of their first pixels, row by row. Each is an
    /// outline with its holes; filled, they give the mask back. Pixels that touch at a corner only are two pieces, so that no outline
    /// crosses or touches itself.
    ///
    /// Memory: 5 bytes a pixel of the mask, and the outlines.
    pub fn contours(&self, canvas: Size) -> Vec<Polygon> {
        let (pieces, count) = self.pieces();
        let mut outlines: Vec<Option<Polygon>> = vec![None; count];
        let mut holes: Vec<Vec<Polygon>> = vec![Vec::new(); count];
        let scale = [f64::from(canvas.width) / f64::from(self.size.width), f64::from(canvas.height) / f64::from(self.size.height)];
        let mut walked = vec![false; self.cells.len()];
        for start in 0..self.cells.len() {
            let (x, y) = ((start % self.size.width as usize) as u32, (start / self.size.width as usize) as u32);
            // Every border has an upper edge.
            if !self.cells[start] || walked[start] || y > 0 && self.at(x, y - 1) {
                continue;
            }
            for ring in simple_rings(self.walk([x, y], &mut walked)) {
                let outer = is_outer(&ring);
                let points = ring.into_iter().map(|[x, y]| [f64::from(x) * scale[0], f64::from(y) * scale[1]]).collect();
                let polygon = Polygon::closed(points).expect("a border has four corners at least");
                let piece = pieces[start] as usize;
                if outer { outlines[piece] = Some(polygon) } else { holes[piece].push(polygon) }
            }
        }
        let whole = outlines.into_iter().zip(holes).map(|(outline, holes)| outline.expect("a piece has an outer border").with_holes(holes));
        whole.collect()
    }

    /// The number of each pixel's piece, pixels of a piece sharing edges, and how many there are; 0 for background too.
    fn pieces(&self) -> (Vec<u32>, usize) {
        const NONE: u32 = u32::MAX;
        let width = self.size.width as usize;
        let mut pieces = vec![NONE; self.cells.len()];
        let (mut count, mut waiting) = (0, Vec::new());
        for start in 0..self.cells.len() {
            if !self.cells[start] || pieces[start] != NONE {
                continue;
            }
            pieces[start] = count;
            waiting.push(start);
            while let Some(cell) = waiting.pop() {
                let column = cell % width;
                let beside =
                    [(column > 0).then(|| cell - 1), (column + 1 < width).then(|| cell + 1), cell.checked_sub(width), Some(cell + width)];
                for near in beside.into_iter().flatten().filter(|&near| near < self.cells.len()) {
                    if self.cells[near] && pieces[near] == NONE {
                        pieces[near] = count;
                        waiting.push(near);
                    }
                }
            }
            count += 1;
        }
        (pieces, count as usize)
    }

    /// The corners of the border that begins with the upper edge of the pixel at `start`, tissue on the right hand; upper edges that
    /// were passed are marked in `walked`.
    fn walk(&self, start: Corner, walked: &mut [bool]) -> Vec<Corner> {
        const STEPS: [(i64, i64); 4] = [(1, 0), (0, 1), (-1, 0), (0, -1)];
        // The pixels ahead of a corner, on the left and on the right hand, by direction.
        const AHEAD: [[(i64, i64); 2]; 4] = [[(0, -1), (0, 0)], [(0, 0), (-1, 0)], [(-1, 0), (-1, -1)], [(-1, -1), (0, -1)]];
        let tissue = |x: i64, y: i64| x >= 0 && y >= 0 && self.at(x as u32, y as u32);
        let (first_x, first_y) = (i64::from(start[0]), i64::from(start[1]));
        let (mut x, mut y, mut direction) = (first_x, first_y, 0);
        let mut corners = Vec::new();
        loop {
            if direction == 0 {
                walked[(y * i64::from(self.size.width) + x) as usize] = true;
            }
            (x, y) = (x + STEPS[direction].0, y + STEPS[direction].1);
            let [left, right] = AHEAD[direction].map(|(dx, dy)| tissue(x + dx, y + dy));
            let turn = match (left, right) {
                (_, false) => 1,
                (false, true) => 0,
                (true, true) => 3,
            };
            if turn != 0 {
                corners.push([x as u32, y as u32]);
            }
            direction = (direction + turn) % 4;
            if (x, y, direction) == (first_x, first_y, 0) {
                return corners;
            }
        }
    }
}

/// A closed walk cut wherever it comes back to a corner, so that each ring passes each of its corners once.
fn simple_rings(walk: Vec<Corner>) -> Vec<Vec<Corner>> {
    let mut rings = Vec::new();
    let mut path: Vec<Corner> = Vec::new();
    let mut places: HashMap<Corner, usize> = HashMap::new();
    for corner in walk {
        if let Some(&from) = places.get(&corner) {
            let ring = path.split_off(from);
            places.retain(|_, place| *place < from);
            rings.push(ring);
        }
        places.insert(corner, path.len());
        path.push(corner);
    }
    rings.push(path);
    rings
}

/// Tissue is on the right hand: an outer border turns clockwise as seen on the screen, that of a hole the other way.
fn is_outer(ring: &[Corner]) -> bool {
    let next = ring.iter().cycle().skip(1);
    let twice: i64 = ring.iter().zip(next).map(|(a, b)| i64::from(a[0]) * i64::from(b[1]) - i64::from(b[0]) * i64::from(a[1])).sum();
    twice > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::polygon::Region;
    use crate::ground::seed;
    use rand::Rng;
    use std::collections::HashSet;

    fn mask(rows: &[&str]) -> Mask {
        let size = Size { width: rows[0].len() as u32, height: rows.len() as u32 };
        Mask::new(size, rows.concat().chars().map(|c| c == '#').collect())
    }

    #[test]
    fn a_ring_has_a_hole_and_an_island() {
        let contours = mask(&["#####", "#...#", "#.#.#", "#...#", "#####"]).contours(Size { width: 50, height: 100 });
        assert_eq!(contours.len(), 2);
        assert_eq!(contours[0].ring(), [[50.0, 0.0], [50.0, 100.0], [0.0, 100.0], [0.0, 0.0], [50.0, 0.0]]);
        assert_eq!((contours[0].holes().len(), contours[0].area()), (1, 16.0 * 200.0));
        assert_eq!((contours[1].holes().len(), contours[1].area()), (0, 200.0));
        assert!(mask(&["...", "..."]).contours(Size { width: 3, height: 2 }).is_empty());
    }

    #[test]
    fn corners_that_touch_are_no_crossing() {
        assert_eq!(mask(&["#.", ".#"]).contours(Size { width: 2, height: 2 }).len(), 2);
        // The ring's ends meet at a corner: one piece, whose hole touches its outline there.
        let contours = mask(&["###", "#.#", "##."]).contours(Size { width: 3, height: 3 });
        assert_eq!((contours.len(), contours[0].holes().len(), contours[0].area()), (1, 1, 7.0));
    }

    #[test]
    fn filled_contours_are_the_mask_and_rings_are_simple() {
        let mut random = seed::stream(0, "contours");
        for _ in 0..100 {
            let size = Size { width: random.random_range(1..30), height: random.random_range(1..30) };
            let density = random.random_range(0.2..0.8);
            let cells: Vec<bool> = (0..size.width * size.height).map(|_| random.random_bool(density)).collect();
            let mask = Mask::new(size, cells);
            let contours = mask.contours(size);
            for ring in contours.iter().flat_map(|contour| std::iter::once(contour).chain(contour.holes())) {
                let corners = &ring.ring()[1..];
                assert_eq!(corners.iter().map(|corner| corner.map(f64::to_bits)).collect::<HashSet<_>>().len(), corners.len());
            }
            assert_eq!(contours.iter().map(Polygon::area).sum::<f64>(), mask.cells.iter().filter(|&&cell| cell).count() as f64);
            let region = Region { outlines: contours, holes: vec![] };
            for y in 0..size.height {
                for x in 0..size.width {
                    assert_eq!(region.contains([f64::from(x) + 0.5, f64::from(y) + 0.5]), mask.at(x, y), "at {x}, {y}");
                }
            }
        }
    }
}
