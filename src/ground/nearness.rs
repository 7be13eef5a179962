//! Which outlines lie so close together that they are one thing.

use super::polygon::{Edge, Polygon};

/// Groups outlines no further than `distance` level-0 pixels from each other, through any number of others: the group of each, numbered
/// from 0 in the order of their first members.
///
/// Time: pairs of outlines, and pairs of edges of those whose boxes are close.
pub fn groups(outlines: &[Polygon], distance: f64) -> Vec<usize> {
    let boxes: Vec<[f64; 4]> = outlines.iter().map(around).collect();
    let apart = |a: &[f64; 4], b: &[f64; 4]| (0..2).any(|axis| a[axis] > b[axis + 2] + distance || b[axis] > a[axis + 2] + distance);
    let mut group: Vec<usize> = (0..outlines.len()).collect();
    for one in 0..outlines.len() {
        for other in 0..one {
            let (a, b) = (group[one], group[other]);
            if a != b && !apart(&boxes[one], &boxes[other]) && near(&outlines[one], &outlines[other], distance) {
                group.iter_mut().filter(|of| **of == a.max(b)).for_each(|of| *of = a.min(b));
            }
        }
    }
    let mut numbers = Vec::new();
    for of in &mut group {
        let number = numbers.iter().position(|known| known == of).unwrap_or_else(|| {
            numbers.push(*of);
            numbers.len() - 1
        });
        *of = number;
    }
    group
}

/// Left, top, right, bottom.
fn around(polygon: &Polygon) -> [f64; 4] {
    polygon.ring().iter().fold([f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY], |all, [x, y]| {
        [all[0].min(*x), all[1].min(*y), all[2].max(*x), all[3].max(*y)]
    })
}

fn near(one: &Polygon, other: &Polygon, distance: f64) -> bool {
    one.contains(other.ring()[0])
        || other.contains(one.ring()[0])
        || one.edges().any(|edge| other.edges().any(|beside| crosses(edge, beside) || between(edge, beside) <= distance))
}

/// Shortest way between two edges that do not cross: it begins or ends at a corner.
fn between(a: Edge, b: Edge) -> f64 {
    [to_edge(a.0, b), to_edge(a.1, b), to_edge(b.0, a), to_edge(b.1, a)].into_iter().fold(f64::INFINITY, f64::min)
}

fn to_edge([x, y]: [f64; 2], ([x0, y0], [x1, y1]): Edge) -> f64 {
    let (along, down) = (x1 - x0, y1 - y0);
    let length = along * along + down * down;
    let part = if length > 0.0 { (((x - x0) * along + (y - y0) * down) / length).clamp(0.0, 1.0) } else { 0.0 };
    (x - x0 - part * along).hypot(y - y0 - part * down)
}

fn crosses(a: Edge, b: Edge) -> bool {
    let side = |([x0, y0], [x1, y1]): Edge, [x, y]: [f64; 2]| (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0);
    side(a, b.0) * side(a, b.1) < 0.0 && side(b, a.0) * side(b, a.1) < 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(left: f64, top: f64, side: f64) -> Polygon {
        let (right, bottom) = (left + side, top + side);
        Polygon::closed(vec![[left, top], [right, top], [right, bottom], [left, bottom]]).unwrap()
    }

    #[test]
    fn neighbours_are_joined_through_others() {
        let outlines =
            [square(0.0, 0.0, 10.0), square(100.0, 0.0, 10.0), square(20.0, 0.0, 10.0), square(10.0, 0.0, 10.0), square(113.0, 14.0, 5.0)];
        assert_eq!(groups(&outlines, 0.0), [0, 1, 0, 0, 2], "touching is near");
        assert_eq!(groups(&outlines, 4.9), [0, 1, 0, 0, 2]);
        assert_eq!(groups(&outlines, 5.0), [0, 1, 0, 0, 1], "a corner 3 and 4 away");
        assert_eq!(groups(&[square(0.0, 0.0, 10.0), square(4.0, 4.0, 1.0)], 0.5), [0, 0], "inside");
        assert_eq!(groups(&[square(0.0, 3.0, 4.0), square(1.0, 0.0, 10.0)], 0.0), [0, 0], "crossing");
        assert!(groups(&[], 1.0).is_empty());
    }
}
