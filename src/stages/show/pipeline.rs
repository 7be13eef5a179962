//! A pipeline's folder, whose progress another verb tells.

use std::path::Path;

use anyhow::Result;

use super::{name, run};
use crate::render::facts::Facts;

pub(super) fn show(path: &Path) -> Result<Option<Facts>> {
    if !path.join("pipeline.json").is_file() {
        return Ok(None);
    }
    let mut facts = run::below(path)?.unwrap_or_else(|| Facts::new("runs", name(path)));
    facts.kind = "pipeline";
    facts.add("how far it is", format!("wsi status {}", name(path)));
    Ok(Some(facts))
}
