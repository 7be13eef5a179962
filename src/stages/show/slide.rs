//! A slide: its levels and its true size. Its label and macro image are not opened, and no tag of it is printed.

use std::path::Path;

use anyhow::Result;

use super::name;
use crate::render::facts::Facts;
use crate::slides;
use crate::stages::one_line;

/// Slides of a folder that are opened for their sizes.
const MOST_OPENED: usize = 24;

pub(super) fn show(path: &Path) -> Result<Option<Facts>> {
    if path.is_dir() {
        return folder(path);
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

/// A folder of slides, each by its name.
fn folder(path: &Path) -> Result<Option<Facts>> {
    let Ok(found) = slides::list(path) else { return Ok(None) };
    let mut facts = Facts::new("slides", name(path));
    facts.add("slides", found.len());
    let row = |file: &slides::SlideFile| match slides::open(&file.path) {
        Ok(slide) => {
            let geometry = slide.geometry();
            let pixel = geometry.mpp.map_or_else(|| "not stated".to_owned(), |mpp| format!("{:.4}", mpp.mean()));
            vec![file.id.clone(), format!("{} x {}", geometry.canvas().width, geometry.canvas().height), pixel, geometry.vendor.clone()]
        }
        Err(error) => vec![file.id.clone(), String::new(), String::new(), one_line(&error)],
    };
    // More than a screen holds are not opened.
    let (shown, rest) = found.split_at(found.len().min(MOST_OPENED));
    let unopened = rest.iter().map(|file| vec![file.id.clone(), String::new(), String::new(), String::new()]);
    facts.table("slides by id", &["id", "pixels", "µm a pixel", "format"], shown.iter().map(row).chain(unopened).collect());
    Ok(Some(facts))
}
