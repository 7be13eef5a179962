//! Contours of tissue as GeoJSON: the layout of TRIDENT's `contours_geojson`, which QuPath opens too.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use crate::ground::polygon::Polygon;
use crate::store::files;

/// Writes a FeatureCollection: one Polygon a piece of tissue, with holes, numbered by `tissue_id` from 0 in the order given; level-0
/// pixels of the full canvas, to a hundredth. Equal contours give equal bytes. QuPath counts from the scanned area, so that MIRAX
/// slides show them shifted there.
///
/// # Errors
/// Names the file.
pub fn write(path: &Path, contours: &[Polygon]) -> Result<()> {
    let features: Vec<Value> = contours.iter().enumerate().map(feature).collect();
    files::write_bytes(path, serde_json::to_string(&json!({ "type": "FeatureCollection", "features": features }))?.as_bytes())
}

fn feature((number, contour): (usize, &Polygon)) -> Value {
    let hundredth = |at: f64| (at * 100.0).round() / 100.0;
    let ring = |polygon: &Polygon| polygon.ring().iter().map(|[x, y]| [hundredth(*x), hundredth(*y)]).collect::<Vec<_>>();
    let rings: Vec<_> = std::iter::once(ring(contour)).chain(contour.holes().iter().map(ring)).collect();
    json!({
        "type": "Feature",
        "properties": { "tissue_id": number, "objectType": "annotation" },
        "geometry": { "type": "Polygon", "coordinates": rings },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::annotations;

    #[test]
    fn what_is_written_is_read() {
        let square = |from: f64, to: f64| Polygon::closed(vec![[from, from], [to, from], [to, to], [from, to]]).unwrap();
        let contours = [square(0.0, 10.25).with_holes(vec![square(4.0, 6.5)]), square(20.0, 30.0)];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.geojson");
        write(&path, &contours).unwrap();
        assert_eq!(annotations::read(&path).unwrap().region::<&str>(&[], &[]).outlines, contours);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(r#""properties":{"tissue_id":1,"objectType":"annotation"}"#), "{text}");
    }
}
