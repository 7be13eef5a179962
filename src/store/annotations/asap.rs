//! ASAP's XML: `ASAP_Annotations / Annotations / Annotation / Coordinates / Coordinate` and `AnnotationGroups / Group`.
//!
//! Source: the files of CAMELYON16 and CAMELYON17 and of the ASAP program.

use anyhow::{Context, Result, anyhow, bail, ensure};
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::{Annotations, Group, Kind, Shape, is_place};
use crate::ground::polygon::Polygon;
use crate::store::table::number;

/// An annotation whose coordinates are still coming.
struct Open {
    name: String,
    kind: Kind,
    group: Option<String>,
    ordered: Vec<(i64, [f64; 2])>,
}

/// The annotations of one file's text.
///
/// # Errors
/// Names the annotation: no ASAP file, a type that is not known, a coordinate that is no number, an order that is missing or repeated,
/// an outline of fewer than three corners.
pub(super) fn parse(text: &str) -> Result<Annotations> {
    let mut reader = Reader::from_str(text);
    let mut found = Annotations::default();
    let mut open: Option<Open> = None;
    let (mut root, mut closed) = (false, false);
    loop {
        match reader.read_event().with_context(|| format!("damaged XML at byte {}", reader.error_position()))? {
            Event::Start(element) => match element.name().as_ref() {
                b"ASAP_Annotations" => root = true,
                b"Annotation" => open = Some(annotation(&element)?),
                b"Coordinate" => coordinate(&element, &mut open)?,
                b"Group" => found.groups.push(group(&element)?),
                _ => {}
            },
            Event::Empty(element) => match element.name().as_ref() {
                b"ASAP_Annotations" => (root, closed) = (true, true),
                b"Annotation" => found.shapes.push(annotation(&element)?.close()?),
                b"Coordinate" => coordinate(&element, &mut open)?,
                b"Group" => found.groups.push(group(&element)?),
                _ => {}
            },
            Event::End(element) if element.name().as_ref() == b"Annotation" => {
                found.shapes.extend(open.take().map(Open::close).transpose()?);
            }
            Event::End(element) if element.name().as_ref() == b"ASAP_Annotations" => closed = true,
            Event::Eof => break,
            _ => {}
        }
    }
    ensure!(open.is_none(), "the file ends within an annotation; copy it again");
    ensure!(root, "it has no element 'ASAP_Annotations' and is no ASAP file");
    ensure!(closed, "the file ends before its element 'ASAP_Annotations' does; copy it again");
    Ok(found)
}

fn attribute(element: &BytesStart, name: &str) -> Result<Option<String>> {
    let Some(attribute) = element.try_get_attribute(name)? else { return Ok(None) };
    Ok(Some(attribute.unescape_value()?.trim().to_owned()))
}

/// ASAP writes `None` for an annotation or a group without a group above it.
fn parent(element: &BytesStart) -> Result<Option<String>> {
    Ok(attribute(element, "PartOfGroup")?.filter(|group| !group.is_empty() && group != "None"))
}

fn annotation(element: &BytesStart) -> Result<Open> {
    let name = attribute(element, "Name")?.unwrap_or_default();
    let kind = match attribute(element, "Type")?.unwrap_or_default().as_str() {
        "Dot" => Kind::Dot,
        "PointSet" => Kind::PointSet,
        "Measurement" => Kind::Measurement,
        "Polygon" => Kind::Polygon,
        "Spline" => Kind::Spline,
        "Rectangle" => Kind::Rectangle,
        other => bail!(
            "annotation '{name}' has the type '{other}'; known are Dot, PointSet, Measurement, Polygon, Spline and Rectangle; remove it \
             or draw it as one of these"
        ),
    };
    Ok(Open { name, kind, group: parent(element)?, ordered: Vec::new() })
}

fn coordinate(element: &BytesStart, open: &mut Option<Open>) -> Result<()> {
    let open = open.as_mut().context("a coordinate stands outside any annotation")?;
    let text = |name: &str| attribute(element, name)?.with_context(|| format!("annotation '{}': a coordinate has no {name}", open.name));
    let place = |name: &str| {
        let text = text(name)?;
        let place = number(&text).filter(|value| is_place(*value));
        place.ok_or_else(|| anyhow!("annotation '{}': {name} = '{text}' is no number of pixels", open.name))
    };
    let order = text("Order")?;
    let order = order.parse().map_err(|_| anyhow!("annotation '{}': Order = '{order}' is no whole number", open.name))?;
    let point = [place("X")?, place("Y")?];
    open.ordered.push((order, point));
    Ok(())
}

fn group(element: &BytesStart) -> Result<Group> {
    Ok(Group {
        name: attribute(element, "Name")?.unwrap_or_default(),
        parent: parent(element)?,
        colour: attribute(element, "Color")?.unwrap_or_default(),
    })
}

impl Open {
    /// METHOD: a spline is taken as the polygon of its points, and a rectangle of two points as the corners that span it; ASAP stores
    /// neither the curve nor the other two corners.
    fn close(mut self) -> Result<Shape> {
        self.ordered.sort_by_key(|(order, _)| *order);
        if let Some(twice) = self.ordered.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            bail!("annotation '{}': two coordinates have the order {}; number them anew", self.name, twice[0].0);
        }
        let mut points: Vec<[f64; 2]> = self.ordered.into_iter().map(|(_, point)| point).collect();
        if let (Kind::Rectangle, [[x0, y0], [x1, y1]]) = (self.kind, points.as_slice()) {
            points = vec![[*x0, *y0], [*x1, *y0], [*x1, *y1], [*x0, *y1]];
        }
        let outline = if self.kind.encloses() { Polygon::closed(points.clone()) } else { None };
        ensure!(
            outline.is_some() || !self.kind.encloses(),
            "annotation '{}' encloses nothing: it has {} points; remove it or draw it again",
            self.name,
            points.len()
        );
        ensure!(!points.is_empty(), "annotation '{}' has no coordinates; remove it", self.name);
        Ok(Shape { name: self.name, kind: self.kind, group: self.group, points, outline })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(annotations: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?>\n<ASAP_Annotations>\n<Annotations>{annotations}</Annotations>\n<AnnotationGroups>\
             <Group Name=\"metastases\" PartOfGroup=\"None\" Color=\"#ff0000\"><Attributes /></Group>\
             <Group Name=\"normal\" PartOfGroup=\"metastases\" Color=\"#00ff00\"/></AnnotationGroups></ASAP_Annotations>"
        )
    }

    fn shape(kind: &str, group: &str, points: &[(i64, &str, &str)]) -> String {
        let point = |(order, x, y): &(i64, &str, &str)| format!("<Coordinate Order=\"{order}\" X=\"{x}\" Y=\"{y}\" />");
        let points: String = points.iter().map(point).collect();
        format!(
            "<Annotation Name=\"a &amp; b\" Type=\"{kind}\" PartOfGroup=\"{group}\" Color=\"#000000\"><Coordinates>{points}</Coordinates></Annotation>"
        )
    }

    #[test]
    fn points_follow_their_order_and_rings_close() {
        let square = [(2, "10", "10"), (0, "0", "0"), (3, "0,0", "10,0"), (1, "10.0", "0")];
        let found = parse(&file(&shape("Polygon", "metastases", &square))).unwrap();
        let [only] = found.shapes.as_slice() else { panic!("{found:?}") };
        assert_eq!((only.name.as_str(), only.kind, only.group.as_deref()), ("a & b", Kind::Polygon, Some("metastases")));
        assert_eq!(only.points, [[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]]);
        let outline = only.outline.as_ref().unwrap();
        assert_eq!((outline.area(), outline.ring().first(), outline.ring().len()), (100.0, outline.ring().last(), 5));
        assert_eq!(found.groups[1], Group { name: "normal".into(), parent: Some("metastases".into()), colour: "#00ff00".into() });
    }

    #[test]
    fn holes_are_cut_last_whatever_comes_first() {
        let inner = shape("Rectangle", "normal", &[(0, "4", "4"), (1, "6", "6")]);
        let outer = shape("Spline", "metastases", &[(0, "0", "0"), (1, "10", "0"), (2, "10", "10"), (3, "0", "10")]);
        let other = shape("Dot", "None", &[(0, "5", "5")]);
        for text in [format!("{inner}{outer}{other}"), format!("{other}{outer}{inner}")] {
            let region = parse(&file(&text)).unwrap().region(&["metastases"], &["normal"]);
            assert_eq!((region.outlines.len(), region.holes.len()), (1, 1));
            assert!(region.contains([1.0, 1.0]) && !region.contains([5.0, 5.0]));
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let error = |annotations: &str| format!("{:#}", parse(&file(annotations)).unwrap_err());
        assert!(error(&shape("Ellipse", "None", &[(0, "1", "1")])).contains("'a & b' has the type 'Ellipse'"));
        assert!(error(&shape("Dot", "None", &[(0, "x", "1")])).contains("X = 'x' is no number of pixels"));
        assert!(error(&shape("Dot", "None", &[])).contains("no coordinates"));
        assert!(error(&shape("Polygon", "None", &[(0, "1", "1"), (1, "2", "2")])).contains("encloses nothing: it has 2 points"));
        assert!(error(&shape("PointSet", "None", &[(1, "1", "1"), (1, "2", "2")])).contains("order 1"));
        assert!(format!("{:#}", parse("<html></html>").unwrap_err()).contains("no ASAP file"));
        let whole = file(&shape("Dot", "None", &[(0, "1", "1")]));
        let cut = format!("{:#}", parse(whole.split("</Coordinates>").next().unwrap()).unwrap_err());
        assert!(cut.contains("ends within an annotation"), "{cut}");
        let cut = format!("{:#}", parse(whole.split("<AnnotationGroups>").next().unwrap()).unwrap_err());
        assert!(cut.contains("the file ends before"), "{cut}");
    }
}
