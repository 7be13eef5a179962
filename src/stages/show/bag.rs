//! A bag of features, ours or another program's.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::{has_ending, name, short};
use crate::ground::units::Coord;
use crate::render::facts::Facts;
use crate::store::bag;
use crate::store::formats::{self, Given};

pub(super) fn show(path: &Path) -> Result<Option<Facts>> {
    if !has_ending(path, &["h5", "hdf5"]) {
        return Ok(None);
    }
    if bag::read_header(path).ok().flatten().is_none()
        && let Some(facts) = foreign(path)?
    {
        return Ok(Some(facts));
    }
    let bag = bag::verify(path)?;
    let mut facts = Facts::new("bag", name(path));
    facts.add("tiles", bag.features.tiles).add("features a tile", bag.features.width);
    let values = bag.features.values.iter().map(|value| f64::from(value.to_f32()));
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low.is_finite() && high.is_finite() {
        facts.add("values", format!("{low:.4} to {high:.4}"));
    }
    corners(&mut facts, &bag.coords);
    let Some(header) = &bag.header else {
        facts.add("written by", "another program; `wsi bags lint` tells what it lacks");
        return Ok(Some(facts));
    };
    facts
        .add("slide", header.slide_file.as_str())
        .add("slide's pixel size", format!("{:.4} x {:.4} µm, from the {}", header.mpp.x, header.mpp.y, header.mpp_source))
        .add("canvas", header.canvas.map(|canvas| format!("{} x {} px", canvas.width, canvas.height)))
        .add("scanned area", header.bounds.map(|(at, size)| format!("{} x {} px from x {} y {}", size.width, size.height, at.x, at.y)))
        .add(
            "tile",
            format!("{} px at {:.4} µm, {} px of level 0", header.window.tile_px, header.window.mpp_true, header.window.side_level0_px),
        )
        .add("encoder", header.origin.encoder.as_str())
        .add("weights", short(&header.origin.weights))
        .add("computed in", header.origin.computed.clone())
        .add("tiles of the plan", header.status.map(|status| json!(status)))
        .add("written by", format!("wsi {}", header.version))
        .add("digests", "hold: everything in it is as it was written");
    Ok(Some(facts))
}

/// A bag in the layout of another program, which may be told by the folders above it.
fn foreign(path: &Path) -> Result<Option<Facts>> {
    let given = Given::default();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    for root in path.ancestors().take(3) {
        let Ok(format) = formats::detect(root) else { continue };
        let ids = format.ids(root, &given).unwrap_or_default();
        let mut facts = Facts::new("bag", name(path));
        facts.add("layout", format.name());
        if root == path {
            facts.add("bags in it", ids.len());
            facts.table("bags by id", &["id"], ids.into_iter().map(|id| vec![id]).collect());
            return Ok(Some(facts));
        }
        if !ids.contains(&stem) {
            continue;
        }
        let bag = format.read(root, &stem, &given)?;
        facts.add("tiles", bag.tiles()).add("features a tile", bag.width).add("encoder", bag.encoder.clone());
        corners(&mut facts, &bag.coords);
        facts
            .add("slide's pixel size", bag.mpp.map(|mpp| format!("{:.4} x {:.4} µm", mpp.x, mpp.y)))
            .add("tile", bag.tile_px.map(|px| format!("{px} px")))
            .add("footprint", bag.side_level0_px.map(|px| format!("{px} px of level 0")))
            .add("rules that it breaks", format!("wsi bags lint {}", name(root)));
        return Ok(Some(facts));
    }
    Ok(None)
}

fn corners(facts: &mut Facts, coords: &[Coord]) {
    let ends = |of: fn(&Coord) -> i64| {
        let values = || coords.iter().map(of);
        values().min().zip(values().max()).map(|(low, high)| format!("{low} to {high} px of level 0"))
    };
    facts.add("x", ends(|at| at.x)).add("y", ends(|at| at.y));
}
