//! Outlines around tiles that a map marks.

use crate::ground::polygon::Polygon;
use crate::ground::units::{Coord, Size};
use crate::tissue::Mask;

/// Outlines of the union of `tiles`, squares of `side` on a grid of `step` level-0 pixels.
///
/// METHOD: outlines follow the grid of steps; where a side is no multiple of the step they reach up to one step too far.
pub(super) fn outlines(tiles: &[Coord], side: u32, step: u32) -> Vec<Polygon> {
    let step = i64::from(step.max(1));
    let Some(left) = tiles.iter().map(|at| at.x).min() else { return Vec::new() };
    let top = tiles.iter().map(|at| at.y).min().unwrap_or(0);
    let cells_of = |at: i64, first: i64| ((at - first) / step) as usize..((at - first + i64::from(side) + step - 1) / step) as usize;
    let width = tiles.iter().map(|at| cells_of(at.x, left).end).max().unwrap_or(0);
    let height = tiles.iter().map(|at| cells_of(at.y, top).end).max().unwrap_or(0);
    let mut cells = vec![false; width * height];
    for at in tiles {
        for row in cells_of(at.y, top) {
            cells[row * width..][cells_of(at.x, left)].fill(true);
        }
    }
    let size = Size { width: width as u32, height: height as u32 };
    let canvas = Size { width: size.width * step as u32, height: size.height * step as u32 };
    Mask::new(size, cells).contours(canvas).into_iter().map(|polygon| polygon.moved([left as f64, top as f64])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_an_outline_of_their_area() {
        let at = |x: i64, y: i64| Coord { x, y };
        let found = outlines(&[at(1000, 500), at(1224, 500), at(1000, 724), at(2120, 2068)], 224, 224);
        let mut areas: Vec<f64> = found.iter().map(Polygon::area).collect();
        areas.sort_by(f64::total_cmp);
        assert_eq!(areas, [224.0 * 224.0, 3.0 * 224.0 * 224.0]);
        assert!(
            found.iter().any(|polygon| polygon.contains([1100.0, 800.0])) && !found.iter().any(|polygon| polygon.contains([1300.0, 800.0]))
        );
        let overlapping = outlines(&[at(0, 0), at(112, 0)], 224, 112);
        assert_eq!(overlapping.iter().map(Polygon::area).collect::<Vec<_>>(), [336.0 * 224.0]);
        assert!(outlines(&[], 224, 224).is_empty());
    }
}
