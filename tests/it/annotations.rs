//! ASAP annotations as the program and the CAMELYON challenges write them.

use wsi::store::annotations::{self, Kind};

use super::data::test_data;

#[test]
fn real_asap_files_are_read() {
    let Some(data) = test_data("real_asap_files_are_read") else { return };
    let read = |name: &str| annotations::read(&data.join("labels/asap").join(name)).unwrap();

    let polygon = read("asap-polygon.xml");
    assert_eq!((polygon.shapes.len(), polygon.groups.len()), (1, 0));
    let shape = &polygon.shapes[0];
    assert_eq!((shape.name.as_str(), shape.kind, &shape.group, shape.points.len()), ("Annotation 0", Kind::Polygon, &None, 6));
    assert_eq!((shape.points[0], shape.points[5]), ([22851.3281, 16551.1797], [22954.1191, 16565.2363]));
    let outline = shape.outline.as_ref().unwrap();
    assert_eq!((outline.ring().len(), outline.ring()[0], outline.ring()[6]), (7, shape.points[0], shape.points[0]));
    assert!(outline.contains([22850.0, 16640.0]) && !outline.contains([23000.0, 16700.0]));

    let points = read("asap-pointset.xml");
    assert_eq!((points.shapes[0].kind, points.shapes[0].points.len(), &points.shapes[0].outline), (Kind::PointSet, 5, &None));
    let dot = read("asap-dot.xml");
    assert_eq!((dot.shapes[0].kind, &dot.shapes[0].points[..]), (Kind::Dot, &[[23071.5605, 16831.0098]][..]));
    assert!(dot.region(&["None"], &[]).outlines.is_empty());
}

#[test]
fn a_file_of_another_kind_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slide.xml");
    std::fs::write(&path, "<Annotations/>").unwrap();
    let error = format!("{:#}", annotations::read(&path).unwrap_err());
    assert!(error.contains("slide.xml") && error.contains("no ASAP file"), "{error}");
}
