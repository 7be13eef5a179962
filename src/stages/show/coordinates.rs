//! Coordinates of a slide's tiles.

use std::path::Path;

use anyhow::Result;

use super::{has_ending, name};
use crate::render::facts::Facts;
use crate::store::coords;

pub(super) fn show(path: &Path) -> Result<Option<Facts>> {
    if !has_ending(path, &["h5"]) || !name(path).ends_with("_patches.h5") {
        return Ok(None);
    }
    let plan = coords::read(path)?;
    let window = &plan.window;
    let mut facts = Facts::new("coordinates", name(path));
    facts
        .add("slide", plan.slide_file.as_str())
        .add("tiles", plan.coords.len())
        .add("tile", format!("{} px at {:.4} µm ({:.4} asked for)", window.tile_px, window.mpp_true, window.mpp_requested))
        .add("footprint", format!("{} px of level 0, every {} px", window.side_level0_px, window.step_level0_px))
        .add("read from", format!("level {} at 1/{}, {} px, by {}", window.level, window.decode_scale, window.read_px, window.reader))
        .add("slide's pixel size", format!("{:.4} x {:.4} µm, from the {}", plan.mpp.x, plan.mpp.y, plan.mpp_source))
        .add("canvas", format!("{} x {} px", plan.canvas.width, plan.canvas.height))
        .add("scanned area", plan.bounds.map(|(at, size)| format!("{} x {} px from x {} y {}", size.width, size.height, at.x, at.y)));
    Ok(Some(facts))
}
