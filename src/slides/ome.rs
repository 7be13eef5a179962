//! The pixel size in the OME-XML that an OME-TIFF carries as its image description.
//!
//! Goldberg et al., The Open Microscopy Environment (OME) data model and XML file, Genome Biol 2005.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::ground::units::Mpp;

/// `PhysicalSizeX` and `PhysicalSizeY` of the first picture, in µm/px; `None` where the text is no OME-XML or does not say.
pub(super) fn pixel_size(description: &str) -> Option<Mpp> {
    let mut reader = Reader::from_str(description);
    loop {
        match reader.read_event().ok()? {
            Event::Start(element) | Event::Empty(element) if element.local_name().as_ref() == b"Pixels" => {
                let (x, y) = side(&element, "X").zip(side(&element, "Y"))?;
                return Some(Mpp { x, y });
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

fn side(element: &BytesStart, axis: &str) -> Option<f64> {
    let size: f64 = attribute(element, &format!("PhysicalSize{axis}"))?.trim().parse().ok()?;
    let micrometres = match attribute(element, &format!("PhysicalSize{axis}Unit")).as_deref() {
        None | Some("µm" | "μm" | "um") => 1.0, // the micro sign and the Greek letter both occur
        Some("nm") => 1e-3,
        Some("mm") => 1e3,
        Some("cm") => 1e4,
        Some("m") => 1e6,
        Some("pm") => 1e-6,
        Some(_) => return None,
    };
    Some(size * micrometres).filter(|size| size.is_finite() && *size > 0.0)
}

fn attribute(element: &BytesStart, name: &str) -> Option<String> {
    let found = element.try_get_attribute(name).ok()??;
    Some(found.unescape_value().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_any_unit_are_micrometres() {
        let say =
            |pixels: &str| format!(r#"<?xml version="1.0"?><OME xmlns="x"><Image ID="Image:0"><Pixels {pixels}></Pixels></Image></OME>"#);
        let seen = |pixels: &str| pixel_size(&say(pixels));
        assert_eq!(seen(r#"PhysicalSizeX="0.25" PhysicalSizeY="0.26""#), Some(Mpp { x: 0.25, y: 0.26 }));
        let nanometres = r#"PhysicalSizeX="250" PhysicalSizeXUnit="nm" PhysicalSizeY="0.00025" PhysicalSizeYUnit="mm""#;
        assert_eq!(seen(nanometres), Some(Mpp::square(0.25)));
        assert_eq!(seen(r#"PhysicalSizeX="0.25" PhysicalSizeXUnit="µm" PhysicalSizeY="0.25""#), Some(Mpp::square(0.25)));
        for nothing in ["", r#"PhysicalSizeX="0" PhysicalSizeY="1""#, r#"PhysicalSizeX="1" PhysicalSizeXUnit="pixel" PhysicalSizeY="1""#] {
            assert_eq!(seen(nothing), None, "{nothing}");
        }
        assert_eq!(pixel_size("Aperio Image Library <v1"), None);
    }
}
