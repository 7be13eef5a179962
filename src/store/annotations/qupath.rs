//! Results as QuPath opens them: GeoJSON with tile objects, whose measurements its measurement maps colour, and annotation objects.
//!
//! Source: the files of QuPath 0.4 to 0.6. Coordinates are level-0 pixels from the origin that QuPath uses for the image: the corner of the
//! scanned area, unless the image was added with `--no-crop`.

use std::path::Path;

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::ground::polygon::Polygon;
use crate::ground::units::Coord;
use crate::store::{digest, files};

/// A square with numbers.
#[derive(Debug)]
pub struct Tile {
    /// Top-left corner, level-0 pixels of the whole canvas.
    pub at: Coord,
    /// By the names that QuPath lists; only finite ones are written.
    pub measurements: Vec<(String, f64)>,
}

/// An outline with a name and a class.
#[derive(Debug)]
pub struct Outline {
    /// Level-0 pixels of the whole canvas.
    pub polygon: Polygon,
    /// Shown in the list of annotations.
    pub name: String,
    /// QuPath's class.
    pub class: String,
    /// Red, green, blue of the class.
    pub colour: [u8; 3],
}

/// One slide's objects.
#[derive(Debug)]
pub struct Objects<'a> {
    /// Names the objects: equal keys and places are equal identities.
    pub key: &'a str,
    /// Side of every tile, level-0 pixels.
    pub side: u32,
    /// Tile objects.
    pub tiles: Vec<Tile>,
    /// Annotation objects.
    pub outlines: Vec<Outline>,
    /// What becomes (0, 0).
    pub origin: Coord,
    /// Foreign member `wsi` of the collection; QuPath passes over it.
    pub note: Value,
}

/// Writes one FeatureCollection. Equal objects give equal bytes.
///
/// # Errors
/// Names the file.
pub fn write(path: &Path, objects: &Objects) -> Result<()> {
    let outlines = objects.outlines.iter().enumerate().map(|(number, outline)| annotation(objects, number, outline));
    let tiles = objects.tiles.iter().map(|tile| tile_object(objects, tile));
    let collection = json!({ "type": "FeatureCollection", "features": outlines.chain(tiles).collect::<Vec<_>>(), "wsi": objects.note });
    files::write_bytes(path, serde_json::to_string(&collection)?.as_bytes())
}

fn tile_object(objects: &Objects, tile: &Tile) -> Value {
    let (left, top) = (tile.at.x - objects.origin.x, tile.at.y - objects.origin.y);
    let (right, bottom) = (left + i64::from(objects.side), top + i64::from(objects.side));
    let measurements: Map<String, Value> =
        tile.measurements.iter().filter(|(_, value)| value.is_finite()).map(|(name, value)| (name.clone(), json!(value))).collect();
    json!({
        "type": "Feature",
        "id": identity(objects.key, &format!("tile {} {}", tile.at.x, tile.at.y)),
        "geometry": { "type": "Polygon", "coordinates": [[[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]] },
        "properties": { "objectType": "tile", "measurements": measurements },
    })
}

fn annotation(objects: &Objects, number: usize, outline: &Outline) -> Value {
    let origin = [objects.origin.x as f64, objects.origin.y as f64];
    let hundredth = |at: f64| (at * 100.0).round() / 100.0;
    let ring =
        |polygon: &Polygon| polygon.ring().iter().map(|[x, y]| [hundredth(x - origin[0]), hundredth(y - origin[1])]).collect::<Vec<_>>();
    let rings: Vec<_> = std::iter::once(ring(&outline.polygon)).chain(outline.polygon.holes().iter().map(ring)).collect();
    json!({
        "type": "Feature",
        "id": identity(objects.key, &format!("annotation {number}")),
        "geometry": { "type": "Polygon", "coordinates": rings },
        "properties": {
            "objectType": "annotation",
            "name": outline.name,
            "classification": { "name": outline.class, "color": outline.colour },
            "isLocked": true,
        },
    })
}

/// A UUID of version 8 made of the object's own description, so that a file written again is the same.
fn identity(key: &str, object: &str) -> String {
    let digest = digest::bytes(format!("{key}\n{object}").as_bytes());
    format!("{}-{}-8{}-8{}-{}", &digest[..8], &digest[8..12], &digest[13..16], &digest[17..20], &digest[20..32])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::annotations;

    fn objects(origin: Coord) -> Objects<'static> {
        let square = |from: f64, to: f64| Polygon::closed(vec![[from, from], [to, from], [to, to], [from, to]]).unwrap();
        Objects {
            key: "model, slide",
            side: 224,
            tiles: vec![Tile { at: Coord { x: 1224, y: 2000 }, measurements: vec![("attention".into(), 0.25), ("p_a".into(), f64::NAN)] }],
            outlines: vec![Outline {
                polygon: square(2000.0, 2448.0).with_holes(vec![square(2100.0, 2200.5)]),
                name: "a".into(),
                class: "High attention".into(),
                colour: [200, 30, 30],
            }],
            origin,
            note: json!({ "origin": "bounds" }),
        }
    }

    #[test]
    fn coordinates_begin_at_the_origin() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.geojson");
        let written = |origin: Coord| {
            write(&path, &objects(origin)).unwrap();
            serde_json::from_slice::<Value>(&std::fs::read(&path).unwrap()).unwrap()
        };
        let (canvas, bounds) = (written(Coord { x: 0, y: 0 }), written(Coord { x: 1000, y: 500 }));
        assert_eq!(canvas["features"][1]["geometry"]["coordinates"][0][0], json!([1224, 2000]));
        assert_eq!(bounds["features"][1]["geometry"]["coordinates"][0][2], json!([448, 1724]));
        assert_eq!(bounds["features"][0]["geometry"]["coordinates"][1][2], json!([1200.5, 1700.5]), "holes move, too");
        assert_eq!(bounds["features"][1]["properties"]["measurements"], json!({ "attention": 0.25 }), "NaN is no JSON");
        assert_eq!(canvas["features"][0]["id"], bounds["features"][0]["id"]);
        assert_ne!(canvas["features"][0]["id"], canvas["features"][1]["id"]);
        let region = annotations::read(&path).unwrap().region(&["High attention"], &[]);
        assert_eq!((region.outlines.len(), region.outlines[0].holes().len()), (1, 1), "tiles are no annotations");
    }
}
