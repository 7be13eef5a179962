//! A bag of features, ours or another program's.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::{has_ending, name, short};
use crate::render::facts::Facts;
use crate::store::bag;

pub(super) fn show(path: &Path) -> Result<Option<Facts>> {
    if !has_ending(path, &["h5", "hdf5"]) {
        return Ok(None);
    }
    let bag = bag::read(path)?;
    let mut facts = Facts::new("bag", name(path));
    facts.add("tiles", bag.features.tiles).add("features a tile", bag.features.width);
    let values = bag.features.values.iter().map(|value| f64::from(value.to_f32()));
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low.is_finite() && high.is_finite() {
        facts.add("values", format!("{low:.4} to {high:.4}"));
    }
    let ends = |of: fn(&crate::ground::units::Coord) -> i64| {
        let values = || bag.coords.iter().map(of);
        values().min().zip(values().max()).map(|(low, high)| format!("{low} to {high} px of level 0"))
    };
    facts.add("x", ends(|at| at.x)).add("y", ends(|at| at.y));
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
        .add("digests", "hold: features are those that were written");
    Ok(Some(facts))
}
