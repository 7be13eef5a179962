//! Lesion outlines in the XML of the ASAP viewer, as CAMELYON17 ships them: polygons of the group `metastases` in level-0 pixels.

use std::fmt::Write;

use super::canvas::Blob;

const CORNERS: usize = 48;
const GROUP: &str = "metastases";

/// One polygon a lesion, cut at the edges of a slide of `side_um` µm.
pub(super) fn xml(lesions: &[Blob], side_um: f32, mpp: f64) -> String {
    let side = (f64::from(side_um) / mpp).round();
    let mut text = "<?xml version=\"1.0\"?>\n<ASAP_Annotations>\n\t<Annotations>\n".to_owned();
    for (number, lesion) in lesions.iter().enumerate() {
        let _ = writeln!(text, "\t\t<Annotation Name=\"Annotation {number}\" Type=\"Polygon\" PartOfGroup=\"{GROUP}\" Color=\"#F4FA58\">");
        text += "\t\t\t<Coordinates>\n";
        for (order, (x, y)) in lesion.polygon(CORNERS).into_iter().enumerate() {
            let [x, y] = [x, y].map(|at| (f64::from(at) / mpp).clamp(0.0, side));
            let _ = writeln!(text, "\t\t\t\t<Coordinate Order=\"{order}\" X=\"{x:.2}\" Y=\"{y:.2}\" />");
        }
        text += "\t\t\t</Coordinates>\n\t\t</Annotation>\n";
    }
    text += "\t</Annotations>\n\t<AnnotationGroups>\n";
    let _ = writeln!(text, "\t\t<Group Name=\"{GROUP}\" PartOfGroup=\"None\" Color=\"#ff0000\">\n\t\t\t<Attributes />\n\t\t</Group>");
    text + "\t</AnnotationGroups>\n</ASAP_Annotations>\n"
}
