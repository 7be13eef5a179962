//! Attention against what people drew: tiles inside against tiles outside, the tile looked at most, and lesions found.

use std::collections::HashMap;

use crate::ground::nearness;
use crate::ground::polygon::Region;
use crate::ground::units::Coord;
use crate::metrics::auc::OneVsRest;
use crate::metrics::average_precision::average_precision;
use crate::metrics::classification::argmax;
use crate::metrics::froc::Detection;
use crate::store::heatmap::Agreement;
use crate::tiling::roi::Placed;

/// What was drawn on a slide, and where the model points.
pub(super) struct Compared {
    pub agreement: Agreement,
    /// Lesions are numbered from 0 on this slide.
    pub detections: Vec<Detection>,
}

/// METHOD: outlines closer than this to each other are one lesion, as in CAMELYON16 (75 µm, the diameter of five tumour cells).
const ONE_LESION_UM: f64 = 75.0;

/// What was drawn on a slide.
struct Lesions {
    region: Region,
    /// The lesion of each outline.
    of: Vec<usize>,
}

/// Compares `attention` `[N]` with what is drawn; `None` in `drawn` is a slide on which nothing is. `mpp`: µm per level-0 pixel.
pub(super) fn compare(drawn: Option<&Placed>, coords: &[Coord], side: u32, mpp: f64, attention: &[f64]) -> Compared {
    let inside = drawn.map_or_else(|| vec![false; coords.len()], |drawn| row_by_row(drawn, coords, side));
    let region = drawn.map(Placed::pieces).unwrap_or_default();
    let of = nearness::groups(&region.outlines, ONE_LESION_UM / mpp);
    let lesions = Lesions { region, of };
    let labels: Vec<usize> = inside.iter().map(|&inside| usize::from(inside)).collect();
    let scores: Vec<Vec<f64>> = attention.iter().map(|&value| vec![-value, value]).collect();
    let auroc = OneVsRest::new(&labels, &scores).per_class().get(1).copied().flatten();
    let agreement = Agreement {
        tiles_inside: inside.iter().filter(|inside| **inside).count(),
        auroc: auroc.unwrap_or(f64::NAN),
        auprc: average_precision(attention, &inside).unwrap_or(f64::NAN),
        pointing: inside[argmax(attention)],
        lesions: lesions.of.iter().max().map_or(0, |last| last + 1),
    };
    Compared { agreement, detections: detections(&lesions, coords, side, attention) }
}

/// Whether each tile is inside, whatever their order.
fn row_by_row(drawn: &Placed, coords: &[Coord], side: u32) -> Vec<bool> {
    let mut order: Vec<usize> = (0..coords.len()).collect();
    order.sort_by_key(|&tile| (coords[tile].y, coords[tile].x));
    let sorted: Vec<Coord> = order.iter().map(|&tile| coords[tile]).collect();
    let mut inside = vec![false; coords.len()];
    for (tile, keeps) in order.into_iter().zip(drawn.keeps(&sorted, side)) {
        inside[tile] = keeps;
    }
    inside
}

/// The places that a slide's attention points at, the strongest first.
///
/// METHOD: a tile is a detection if no stronger one is within two sides of it, in x and in y. Its score is attention times the number of tiles,
/// so that slides of different size can be put in one order. It finds the lesion that its middle is in.
fn detections(lesions: &Lesions, coords: &[Coord], side: u32, attention: &[f64]) -> Vec<Detection> {
    let reach = 2 * i64::from(side);
    let cell = |at: &Coord| (at.x.div_euclid(reach), at.y.div_euclid(reach));
    let mut order: Vec<usize> = (0..coords.len()).collect();
    order.sort_by(|&a, &b| attention[b].total_cmp(&attention[a]));
    let mut kept: HashMap<(i64, i64), Vec<Coord>> = HashMap::new();
    let mut found = Vec::new();
    for tile in order {
        let at = coords[tile];
        let (column, row) = cell(&at);
        let mut near = (-1..=1).flat_map(|dx| (-1..=1).map(move |dy| (column + dx, row + dy))).filter_map(|cell| kept.get(&cell)).flatten();
        if near.any(|other| (other.x - at.x).abs() < reach && (other.y - at.y).abs() < reach) {
            continue;
        }
        kept.entry(cell(&at)).or_default().push(at);
        let middle = [at.x as f64 + f64::from(side) / 2.0, at.y as f64 + f64::from(side) / 2.0];
        let Region { outlines, holes } = &lesions.region;
        let outline =
            outlines.iter().position(|outline| outline.contains(middle)).filter(|_| !holes.iter().any(|hole| hole.contains(middle)));
        found.push(Detection { score: attention[tile] * coords.len() as f64, lesion: outline.map(|outline| lesions.of[outline]) });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::polygon::Polygon;

    fn row(tiles: i64) -> Vec<Coord> {
        (0..tiles).map(|column| Coord { x: 100 * column, y: 0 }).collect()
    }

    #[test]
    fn a_slide_without_drawings_has_no_area_but_false_positives() {
        let compared = compare(None, &row(8), 100, 0.5, &[0.1, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2]);
        assert!(compared.agreement.auroc.is_nan() && compared.agreement.auprc.is_nan() && !compared.agreement.pointing);
        assert_eq!(compared.detections.len(), 4, "one in each reach of two sides");
        assert!(compared.detections.iter().all(|detection| detection.lesion.is_none()));
    }

    #[test]
    fn weaker_tiles_beside_a_detection_are_none_of_their_own() {
        let square = |from: f64, to: f64| Polygon::closed(vec![[from, -10.0], [to, -10.0], [to, 110.0], [from, 110.0]]).unwrap();
        let region = Region { outlines: vec![square(0.0, 200.0), square(500.0, 800.0)], holes: vec![square(700.0, 800.0)] };
        let lesions = Lesions { region, of: vec![0, 1] };
        let found = detections(&lesions, &row(8), 100, &[0.05, 0.3, 0.1, 0.02, 0.03, 0.2, 0.1, 0.2]);
        assert_eq!(found.iter().map(|d| d.lesion).collect::<Vec<_>>(), [Some(0), Some(1), None, None], "the last but one is in the hole");
        assert_eq!(found[0].score, 0.3 * 8.0);
    }
}
