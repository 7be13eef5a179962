//! A checkpoint of a training, a fitted probe, or an encoder's weights.

use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use super::{has_ending, name};
use crate::learn::checkpoint::{BEST, LAST};
use crate::render::facts::Facts;
use crate::store::{digest, tensors};

pub(super) fn show(path: &Path) -> Result<Option<Facts>> {
    if !has_ending(path, &["safetensors"]) {
        return Ok(None);
    }
    let (all, note) = tensors::read(path)?;
    let file = name(path);
    let kind = match file.as_str() {
        LAST | BEST => "checkpoint",
        "probe.safetensors" => "linear probe",
        _ => "tensors",
    };
    let mut facts = Facts::new(kind, file);
    let numbers = |prefix: &str| all.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, tensor)| tensor.numel()).sum::<usize>();
    facts.add("tensors", all.len()).add("numbers", numbers(""));
    for (part, prefix) in [("of the model", "model."), ("of the loss", "loss."), ("of the optimiser", "optimizer.")] {
        facts.add(part, Some(numbers(prefix)).filter(|count| *count > 0));
    }
    facts.add("epochs done", note["epoch"].clone()).add("best epoch", note["best"].clone()).add("split", note["split"].clone());
    if let Some(Value::Array(history)) = note.get("history") {
        facts.add("epochs in its history", history.len());
    }
    facts.add("sha256", digest::file(path)?);
    let shapes = all.iter().filter(|(name, _)| !name.starts_with("optimizer."));
    let row = |(name, tensor): (&String, &tch::Tensor)| {
        let shape: Vec<String> = tensor.size().iter().map(ToString::to_string).collect();
        vec![
            name.clone(),
            if shape.is_empty() { "scalar".to_owned() } else { shape.join(" x ") },
            format!("{:?}", tensor.kind()).to_lowercase(),
        ]
    };
    facts.table("tensors by name", &["name", "shape", "numbers"], shapes.map(row).collect());
    Ok(Some(facts))
}
