//! A slide: its levels and its true size. Its label and macro image are not opened, and no tag of it is printed.

use std::path::Path;

use anyhow::Result;

use super::name;
use crate::render::facts::Facts;
use crate::slides;

pub(super) fn show(path: &Path) -> Result<Option<Facts>> {
    // A DICOM slide is a folder.
    if path.is_dir() && path.read_dir()?.next().is_none() {
        return Ok(None);
    }
    let slide = slides::open(path)?;
    let geometry = slide.geometry();
    let canvas = geometry.canvas();
    let mut facts = Facts::new("slide", name(path));
    facts
        .add("format", geometry.vendor.as_str())
        .add("size", format!("{} x {} px", canvas.width, canvas.height))
        .add(
            "pixel size",
            geometry.mpp.map_or_else(|| "not stated; give --slide-mpp".to_owned(), |mpp| format!("{:.4} x {:.4} µm", mpp.x, mpp.y)),
        )
        .add(
            "true size",
            geometry
                .mpp
                .map(|mpp| format!("{:.2} x {:.2} mm", f64::from(canvas.width) * mpp.x / 1e3, f64::from(canvas.height) * mpp.y / 1e3)),
        )
        .add("scanned area", geometry.bounds.map(|(at, size)| format!("{} x {} px from x {} y {}", size.width, size.height, at.x, at.y)))
        .add("read by", geometry.reader.to_string())
        .add("not by the fast reader, since", slide.why_openslide());
    let rows = geometry.levels.iter().enumerate().map(|(number, level)| {
        let pixel = geometry.mpp.map_or_else(|| "?".to_owned(), |mpp| format!("{:.4}", mpp.mean() * level.downsample));
        vec![number.to_string(), format!("{} x {}", level.size.width, level.size.height), format!("{:.2}", level.downsample), pixel]
    });
    facts.table("levels", &["level", "pixels", "downsample", "µm a pixel"], rows.collect());
    Ok(Some(facts))
}
