//! What is laid over a slide, as bytes that a page takes as they are: columns of numbers for tiles, rings for outlines.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::catalogue::Catalogue;
use super::pool::Opened;
use super::runs::{Found, Kind, PATCHES};
use crate::ground::polygon::Polygon;
use crate::ground::units::Coord;
use crate::store::annotations::{self, Annotations};
use crate::store::{coords, heatmap};

/// Endings of the files of annotations.
const DRAWINGS: [&str; 3] = ["geojson", "json", "xml"];

/// What a page asks of a slide first: its shape, and which layers there are, by the numbers of their runs.
pub(super) fn about(catalogue: &Catalogue, number: usize, opened: &Result<std::sync::Arc<Opened>>) -> Value {
    let id = &catalogue.slides[number].id;
    let with = |there: fn(&Found, &str) -> Option<PathBuf>| -> Vec<usize> {
        let runs = catalogue.runs.iter().enumerate();
        runs.filter(|(_, run)| there(run, id).is_some_and(|path| path.is_file())).map(|(number, _)| number).collect()
    };
    let layers = json!({"maps": with(map_file), "grids": with(grid_file), "tissue": with(tissue_file),
                        "annotations": annotation_file(catalogue, id).is_some()});
    match opened {
        Err(error) => json!({"id": id, "error": catalogue.plain(error), "layers": layers}),
        Ok(opened) => {
            let (geometry, pyramid) = (opened.slide.geometry(), opened.pyramid);
            let bounds = geometry.bounds.map(|(at, size)| json!([at.x, at.y, size.width, size.height]));
            json!({"id": id, "width": pyramid.canvas.width, "height": pyramid.canvas.height, "levels": pyramid.levels(),
                   "tile": [pyramid.tile.width, pyramid.tile.height], "mpp": geometry.mpp.map(|mpp| json!([mpp.x, mpp.y])),
                   "bounds": bounds, "vendor": geometry.vendor, "reader": geometry.reader.to_string(), "layers": layers})
        }
    }
}

fn map_file(run: &Found, id: &str) -> Option<PathBuf> {
    matches!(run.kind, Kind::Heatmap(_)).then(|| run.folder.join(heatmap::TILES).join(format!("{id}.csv")))
}

fn grid_file(run: &Found, id: &str) -> Option<PathBuf> {
    matches!(run.kind, Kind::Tile).then(|| run.folder.join("patches").join(format!("{id}{PATCHES}")))
}

fn tissue_file(run: &Found, id: &str) -> Option<PathBuf> {
    matches!(run.kind, Kind::Tile).then(|| run.folder.join("contours_geojson").join(format!("{id}.geojson")))
}

fn annotation_file(catalogue: &Catalogue, id: &str) -> Option<PathBuf> {
    let folder = catalogue.annotations.as_ref()?;
    DRAWINGS.iter().map(|ending| folder.join(format!("{id}.{ending}"))).find(|path| path.is_file())
}

/// A heatmap's tiles: `x`, `y`, `attention`, `percentile`, `attention_<k>`, `p_<class>`, without what there is not.
///
/// # Errors
/// The run has no map of the slide, or one that cannot be read.
pub(super) fn map(run: &Found, id: &str) -> Result<Vec<u8>> {
    let Kind::Heatmap(file) = &run.kind else { bail!("'{}' is no heatmap run", run.name) };
    let file = file.as_ref().context("the run is not complete: it has no heatmap.json yet; run `wsi heatmap` again to continue it")?;
    let slide = file.slides.iter().find(|slide| slide.slide_id == id).context("the run has no heatmap of this slide")?;
    let tiles = heatmap::tiles(&run.folder, id, file)?;
    let mut columns = places(&tiles.coords);
    columns.extend(tiles.attention.map(|values| ("attention".to_owned(), single(&values))));
    columns.extend(tiles.percentile.map(|values| ("percentile".to_owned(), single(&values))));
    columns.extend(tiles.branches.iter().enumerate().map(|(k, values)| (format!("attention_{k}"), single(values))));
    columns.extend(file.classes.iter().zip(&tiles.classes).map(|(class, values)| (format!("p_{class}"), single(values))));
    Ok(packed(slide.side_level0_px, &columns))
}

/// A tile run's tiles: `x`, `y`, `tissue`.
///
/// # Errors
/// The run has no coordinates of the slide, or such that cannot be read.
pub(super) fn grid(run: &Found, id: &str) -> Result<Vec<u8>> {
    let plan = coords::read(&grid_file(run, id).with_context(|| format!("'{}' is no tile run", run.name))?)?;
    let mut columns = places(&plan.coords);
    columns.push(("tissue".to_owned(), plan.tissue));
    Ok(packed(plan.window.side_level0_px, &columns))
}

/// A tile run's outlines of tissue.
///
/// # Errors
/// The run has none of the slide, or such that cannot be read.
pub(super) fn tissue(run: &Found, id: &str) -> Result<Value> {
    outlines(&tissue_file(run, id).with_context(|| format!("'{}' is no tile run", run.name))?)
}

/// What people drew on a slide.
///
/// # Errors
/// There is nothing, or it cannot be read.
pub(super) fn drawn(catalogue: &Catalogue, id: &str) -> Result<Value> {
    outlines(&annotation_file(catalogue, id).context("nothing was drawn on this slide")?)
}

/// `[{group, colour, rings}]`, the first ring the outline, the others holes; x and y in turn, level-0 pixels.
fn outlines(path: &Path) -> Result<Value> {
    let Annotations { shapes, groups } = annotations::read(path)?;
    let flat = |polygon: &Polygon| polygon.ring().iter().flatten().map(|at| (at * 10.0).round() / 10.0).collect::<Vec<f64>>();
    let shown = shapes.iter().filter_map(|shape| {
        let outline = shape.outline.as_ref()?;
        let rings: Vec<_> = std::iter::once(flat(outline)).chain(outline.holes().iter().map(flat)).collect();
        let colour = groups.iter().find(|group| Some(&group.name) == shape.group.as_ref()).map(|group| group.colour.as_str());
        Some(json!({"group": shape.group.as_deref().unwrap_or(&shape.name), "colour": colour.unwrap_or_default(), "rings": rings}))
    });
    Ok(shown.collect())
}

fn places(coords: &[Coord]) -> Vec<(String, Vec<f32>)> {
    vec![("x".to_owned(), coords.iter().map(|at| at.x as f32).collect()), ("y".to_owned(), coords.iter().map(|at| at.y as f32).collect())]
}

fn single(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

/// Length of the header (u32), the header (JSON, padded with spaces to a multiple of 4 bytes), then the columns, one after the other (f32);
/// all little-endian.
fn packed(side: u32, columns: &[(String, Vec<f32>)]) -> Vec<u8> {
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let tiles = columns.first().map_or(0, |(_, values)| values.len());
    let mut header = json!({"side": side, "tiles": tiles, "columns": names}).to_string();
    while !header.len().is_multiple_of(4) {
        header.push(' ');
    }
    let mut bytes = (header.len() as u32).to_le_bytes().to_vec();
    bytes.reserve(header.len() + 4 * tiles * columns.len());
    bytes.extend(header.as_bytes());
    columns.iter().flat_map(|(_, values)| values).for_each(|value| bytes.extend(value.to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_packed_one_after_the_other() {
        let mut columns = places(&[Coord { x: 1, y: 2 }, Coord { x: 300_001, y: -4 }]);
        columns.push(("p_ä".to_owned(), vec![0.25, f32::NAN]));
        let bytes = packed(448, &columns);
        let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
        assert_eq!(length % 4, 0);
        let header: Value = serde_json::from_slice(&bytes[4..4 + length]).unwrap();
        assert_eq!(header, json!({"side": 448, "tiles": 2, "columns": ["x", "y", "p_ä"]}));
        let numbers: Vec<f32> = bytes[4 + length..].chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        assert_eq!(numbers[..5], [1.0, 300_001.0, 2.0, -4.0, 0.25]);
        assert!(numbers[5].is_nan() && numbers.len() == 6);
    }

    #[test]
    fn outlines_keep_holes_and_colours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.geojson");
        let text = r#"{"type": "Feature", "properties": {"classification": {"name": "Tumor", "color": [200, 0, 0]}}, "geometry":
            {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9.26], [0, 0]], [[1, 1], [2, 1], [2, 2], [1, 1]]]}}"#;
        std::fs::write(&path, text).unwrap();
        let wanted = json!([{"group": "Tumor", "colour": "#c80000",
            "rings": [[0.0, 0.0, 9.0, 0.0, 9.0, 9.3, 0.0, 0.0], [1.0, 1.0, 2.0, 1.0, 2.0, 2.0, 1.0, 1.0]]}]);
        assert_eq!(outlines(&path).unwrap(), wanted);
    }
}
