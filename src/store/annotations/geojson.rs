//! GeoJSON: what QuPath exports (a FeatureCollection, an array of features or one feature, with classes), and plain geometry.
//!
//! Source: RFC 7946; the files of QuPath 0.2 to 0.6.

use std::collections::HashSet;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Map, Value};

use super::{Annotations, Group, Kind, Shape, is_place};
use crate::ground::polygon::Polygon;

/// The annotations of one file's text. QuPath's cells, detections and tiles are no annotations and are passed over, as are features
/// without a geometry.
///
/// # Errors
/// Names the feature by its place in the file, from 1, and its name.
pub(super) fn parse(text: &str) -> Result<Annotations> {
    // serde_json refuses more than 128 levels, which bounds the recursion below as well.
    let value: Value = serde_json::from_str(text).context("it is damaged JSON; export it again")?;
    let mut reading = Reading::default();
    reading.object(&value)?;
    Ok(reading.found)
}

#[derive(Default)]
struct Reading {
    found: Annotations,
    /// Names of the groups in `found`.
    known: HashSet<String>,
    features: usize,
}

/// What a feature says of itself, for the shapes of its geometry.
struct Label {
    name: String,
    group: Option<String>,
    /// For messages.
    place: String,
}

impl Reading {
    fn object(&mut self, value: &Value) -> Result<()> {
        if let Value::Array(items) = value {
            return items.iter().try_for_each(|item| self.object(item));
        }
        match value.get("type").and_then(Value::as_str) {
            Some("FeatureCollection") => {
                let features = value.get("features").and_then(Value::as_array).context("a FeatureCollection has no array 'features'")?;
                features.iter().try_for_each(|feature| self.object(feature))
            }
            Some("Feature") => {
                self.features += 1;
                self.feature(value)
            }
            Some(_) => {
                self.features += 1;
                let label = Label { name: String::new(), group: None, place: format!("geometry {}", self.features) };
                self.geometry(value, &label)
            }
            None => bail!("object {} has no 'type' and is no GeoJSON", self.features + 1),
        }
    }

    fn feature(&mut self, feature: &Value) -> Result<()> {
        let property = |key: &str| feature.get("properties").and_then(|properties| properties.get(key));
        // QuPath 0.2 says `object_type`; plain GeoJSON says nothing.
        let kind = property("objectType").or_else(|| property("object_type")).and_then(Value::as_str).unwrap_or("annotation");
        let geometry = feature.get("geometry").filter(|geometry| !geometry.is_null());
        let (true, Some(geometry)) = (kind.eq_ignore_ascii_case("annotation"), geometry) else { return Ok(()) };
        let name = property("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let place = if name.is_empty() { format!("feature {}", self.features) } else { format!("feature {} '{name}'", self.features) };
        let group = property("classification").and_then(class);
        if let Some(group) = &group
            && self.known.insert(group.name.clone())
        {
            self.found.groups.push(group.clone());
        }
        self.geometry(geometry, &Label { name, group: group.map(|group| group.name), place })
    }

    fn geometry(&mut self, geometry: &Value, label: &Label) -> Result<()> {
        let kind = geometry.get("type").and_then(Value::as_str).unwrap_or_default();
        let list = |key: &str| {
            let list = geometry.get(key).and_then(Value::as_array);
            list.ok_or_else(|| anyhow!("{}: a {kind} has no array '{key}'", label.place))
        };
        match kind {
            "Polygon" => self.polygon(list("coordinates")?, label)?,
            "MultiPolygon" => {
                for polygon in list("coordinates")? {
                    let rings = polygon.as_array().with_context(|| format!("{}: a polygon is no array of rings", label.place))?;
                    self.polygon(rings, label)?;
                }
            }
            "GeometryCollection" => list("geometries")?.iter().try_for_each(|part| self.geometry(part, label))?,
            "Point" => {
                let point = geometry.get("coordinates").unwrap_or(&Value::Null);
                self.push(Kind::Dot, vec![position(point, label)?], None, label);
            }
            "MultiPoint" => self.push(Kind::PointSet, positions(list("coordinates")?, label)?, None, label),
            "LineString" => self.push(Kind::Measurement, positions(list("coordinates")?, label)?, None, label),
            "MultiLineString" => {
                for line in list("coordinates")? {
                    let line = line.as_array().with_context(|| format!("{}: a line is no array of points", label.place))?;
                    self.push(Kind::Measurement, positions(line, label)?, None, label);
                }
            }
            "" => bail!("{}: its geometry has no 'type'", label.place),
            other => bail!("{}: '{other}' is no type of GeoJSON; export it again as polygons", label.place),
        }
        Ok(())
    }

    /// One outline with its holes.
    fn polygon(&mut self, rings: &[Value], label: &Label) -> Result<()> {
        let ring = |ring: &Value| {
            let points = positions(ring.as_array().with_context(|| format!("{}: a ring is no array of points", label.place))?, label)?;
            let count = points.len();
            let closed = Polygon::closed(points);
            closed.with_context(|| format!("{} encloses nothing: a ring has {count} points; remove it or draw it again", label.place))
        };
        let (outer, holes) = rings.split_first().with_context(|| format!("{}: a polygon has no rings", label.place))?;
        let outline = ring(outer)?.with_holes(holes.iter().map(ring).collect::<Result<_>>()?);
        let corners = outline.ring()[..outline.ring().len() - 1].to_vec();
        self.push(Kind::Polygon, corners, Some(outline), label);
        Ok(())
    }

    fn push(&mut self, kind: Kind, points: Vec<[f64; 2]>, outline: Option<Polygon>, label: &Label) {
        self.found.shapes.push(Shape { name: label.name.clone(), kind, group: label.group.clone(), points, outline });
    }
}

/// QuPath's class: `{"name", "color": [r, g, b]}`; since 0.6 also `{"names": ["Tumor", "Positive"]}`, which it shows as
/// `Tumor: Positive`; a bare string in files of other programs.
fn class(value: &Value) -> Option<Group> {
    let names = |parts: &Vec<Value>| parts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(": ");
    let name = match value {
        Value::String(name) => name.clone(),
        Value::Object(class) => match class.get("name").and_then(Value::as_str) {
            Some(name) => name.to_owned(),
            None => class.get("names").and_then(Value::as_array).map(names)?,
        },
        _ => return None,
    };
    let colour = value.as_object().and_then(colour).map_or_else(String::new, |[r, g, b]| format!("#{r:02x}{g:02x}{b:02x}"));
    (!name.is_empty()).then_some(Group { name, parent: None, colour })
}

fn colour(class: &Map<String, Value>) -> Option<[u8; 3]> {
    let channels = class.get("color")?.as_array()?;
    let channel = |value: &Value| u8::try_from(value.as_u64()?).ok();
    channels.iter().map(channel).collect::<Option<Vec<u8>>>()?.try_into().ok()
}

fn positions(points: &[Value], label: &Label) -> Result<Vec<[f64; 2]>> {
    points.iter().map(|point| position(point, label)).collect()
}

/// x and y; a third number, the height, is none of ours.
fn position(point: &Value, label: &Label) -> Result<[f64; 2]> {
    let place = |index: usize| point.get(index).and_then(Value::as_f64).filter(|value| is_place(*value));
    let (Some(x), Some(y)) = (place(0), place(1)) else {
        let mut seen = point.to_string();
        seen.truncate(seen.char_indices().nth(40).map_or(seen.len(), |(at, _)| at));
        bail!("{}: {seen} is no point; it wants two numbers of pixels", label.place)
    };
    ensure!(!point.is_object(), "{}: a point is an array", label.place);
    Ok([x, y])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQUARE: &str = "[[0,0],[10,0],[10,10],[0,10],[0,0]]";
    const HOLE: &str = "[[4,4],[6,4],[6,6],[4,6]]";

    fn feature(properties: &str, geometry: &str) -> String {
        format!(r#"{{"type":"Feature","id":"a","properties":{properties},"geometry":{geometry}}}"#)
    }

    fn polygon(rings: &str) -> String {
        format!(r#"{{"type":"Polygon","coordinates":[{rings}]}}"#)
    }

    #[test]
    fn one_feature_an_array_and_a_collection_are_the_same() {
        let one =
            feature(r#"{"objectType":"annotation","name":"a","classification":{"name":"Tumor","color":[200,0,0]}}"#, &polygon(SQUARE));
        let first = parse(&one).unwrap();
        let [shape] = first.shapes.as_slice() else { panic!("{first:?}") };
        assert_eq!((shape.name.as_str(), shape.kind, shape.group.as_deref(), shape.points.len()), ("a", Kind::Polygon, Some("Tumor"), 4));
        assert_eq!(first.groups, [Group { name: "Tumor".into(), parent: None, colour: "#c80000".into() }]);
        assert_eq!(parse(&format!("[{one}]")).unwrap(), first);
        assert_eq!(parse(&format!(r#"{{"type":"FeatureCollection","features":[{one}]}}"#)).unwrap(), first);
        assert_eq!(parse(r#"{"type":"FeatureCollection","features":[]}"#).unwrap(), Annotations::default());
    }

    #[test]
    fn classes_of_every_version() {
        let group = |properties: &str| parse(&feature(properties, &polygon(SQUARE))).unwrap().shapes[0].group.clone();
        assert_eq!(group(r#"{"classification":{"name":"Tumor","colorRGB":-3670016}}"#).as_deref(), Some("Tumor"));
        assert_eq!(group(r#"{"classification":{"names":["Tumor","Positive"]}}"#).as_deref(), Some("Tumor: Positive"));
        assert_eq!(group(r#"{"classification":"Stroma"}"#).as_deref(), Some("Stroma"));
        assert_eq!((group("{}"), group("null"), group(r#"{"tissue_id":0}"#)), (None, None, None));
    }

    #[test]
    fn holes_parts_and_bare_geometry() {
        let parts = format!(r#"{{"type":"MultiPolygon","coordinates":[[{SQUARE},{HOLE}],[[[20,0],[30,0],[30,10,5]]]]}}"#);
        let found = parse(&parts).unwrap();
        let region = found.region::<&str>(&[], &[]);
        assert_eq!((region.outlines.len(), region.holes.len()), (2, 0));
        assert!(region.contains([1.0, 1.0]) && !region.contains([5.0, 5.0]) && region.contains([28.0, 2.0]));
        let collection =
            format!(r#"{{"type":"GeometryCollection","geometries":[{},{{"type":"Point","coordinates":[1,2]}}]}}"#, polygon(SQUARE));
        assert_eq!(parse(&feature("{}", &collection)).unwrap().shapes.len(), 2);
        let line = parse(r#"{"type":"LineString","coordinates":[[0,0],[1,1]]}"#).unwrap();
        assert_eq!((line.shapes[0].kind, &line.shapes[0].outline), (Kind::Measurement, &None));
    }

    #[test]
    fn cells_and_tiles_are_no_regions() {
        for kind in ["cell", "detection", "tile"] {
            let text = feature(&format!(r#"{{"objectType":"{kind}"}}"#), &polygon(SQUARE));
            assert!(parse(&text).unwrap().shapes.is_empty());
        }
        assert!(parse(&feature("{}", "null")).unwrap().shapes.is_empty());
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let error = |text: &str| format!("{:#}", parse(text).unwrap_err());
        let named = |geometry: &str| error(&format!("[{},{}]", feature("{}", "null"), feature(r#"{"name":"b"}"#, geometry)));
        assert!(named(&polygon("[[0,0],[1,1]]")).contains("feature 2 'b' encloses nothing: a ring has 2 points"));
        assert!(named(&polygon(r#"[[0,0],[1,"1"],[2,2]]"#)).contains("feature 2 'b': [1,\"1\"] is no point"));
        assert!(named(&polygon("[[0,0],[1,1e300],[2,2]]")).contains("is no point"));
        assert!(named(r#"{"type":"Circle"}"#).contains("'Circle' is no type of GeoJSON"));
        assert!(named("7").contains("no 'type'"));
        assert!(named(r#"{"type":"Polygon","coordinates":[]}"#).contains("has no rings"));
        assert!(error(r#"{"type":"FeatureCollection"}"#).contains("no array 'features'"));
        assert!(error("[1]").contains("no 'type'"));
        assert!(error(r#"{"type":"FeatureCollection","features":["#).contains("damaged JSON"));
        assert!(error(&"[".repeat(100_000)).contains("damaged JSON"), "depth is bounded");
    }
}
