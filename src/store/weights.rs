//! Weight files: safetensors with their origin as a note, made once from whatever was published, loaded by name.
//!
//! A folder holds one file an encoder, `<encoder>.safetensors`. The sha256 of that file is part of every bag.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Tensor;
use tch::nn::VarStore;

use super::{checkpoint, digest, tensors};

/// Where a weight file came from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// The encoder it was imported for.
    pub encoder: String,
    /// Its licence, as the importer stated it.
    pub licence: String,
    /// File name of the original.
    pub source: String,
    /// sha256 of the original.
    pub source_sha256: String,
}

/// A weight file in memory.
pub struct Weights {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Empty fields for a file that this program did not write.
    pub metadata: Metadata,
    /// sha256 of the file.
    pub sha256: String,
}

/// The folder of weight files: `WSI_WEIGHTS`, else `weights/` beside the program, else the user's data folder.
pub fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("WSI_WEIGHTS") {
        return folder.into();
    }
    let beside = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.join("weights")));
    if let Some(folder) = beside.filter(|folder| folder.is_dir()) {
        return folder;
    }
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let data = data.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share")));
    data.unwrap_or_default().join("wsi/weights")
}

/// The weight file of an encoder inside `folder`.
pub fn path_in(folder: &Path, encoder: &str) -> PathBuf {
    folder.join(format!("{encoder}.safetensors"))
}

/// Reads a published file: a PyTorch state dict, parsed as data and never executed, or safetensors.
///
/// # Errors
/// One line that names the file and what is wrong with it.
pub fn read_published(path: &Path) -> Result<Weights> {
    let bytes = read(path)?;
    if !checkpoint::recognised(&bytes) {
        return parse(path, &bytes);
    }
    let tensors = checkpoint::read(&bytes).with_context(|| format!("cannot read the checkpoint '{}'", path.display()))?;
    Ok(Weights { tensors, metadata: Metadata::default(), sha256: digest::bytes(&bytes) })
}

/// Reads a weight file.
///
/// # Errors
/// One line that names the file and what is wrong with it.
pub fn load(path: &Path) -> Result<Weights> {
    let bytes = read(path)?;
    if checkpoint::recognised(&bytes) {
        bail!("'{}' is a PyTorch checkpoint; convert it once with `wsi weights import FILE --encoder NAME`", path.display());
    }
    parse(path, &bytes)
}

/// Writes a weight file, whole or not at all; equal content gives equal bytes.
///
/// # Errors
/// Names the file.
pub fn write(path: &Path, tensors: &BTreeMap<String, Tensor>, metadata: &Metadata) -> Result<()> {
    tensors::write(path, tensors, &serde_json::to_value(metadata)?)
}

/// Copies tensors into the variables of the same name. A name that begins as one of `unused` may be left over, and
/// batch counters may be missing; nothing else.
///
/// # Errors
/// Lists every missing and every unexpected tensor and every wrong shape; the variables are then unchanged.
pub fn load_into(store: &VarStore, tensors: &BTreeMap<String, Tensor>, unused: &[&str]) -> Result<()> {
    let variables = store.variables();
    let mut faults = BTreeSet::new();
    for (name, variable) in &variables {
        match tensors.get(name) {
            None if name.ends_with("num_batches_tracked") => {}
            None => drop(faults.insert(format!("missing: {name} {:?}", variable.size()))),
            Some(tensor) if tensor.size() != variable.size() => {
                faults.insert(format!("wrong shape: {name} {:?} instead of {:?}", tensor.size(), variable.size()));
            }
            Some(_) => {}
        }
    }
    let unexpected = |name: &&String| !variables.contains_key(*name) && !unused.iter().any(|beginning| name.starts_with(beginning));
    faults.extend(tensors.keys().filter(|name| unexpected(name)).map(|name| format!("unexpected: {name}")));
    if !faults.is_empty() {
        let list = faults.into_iter().collect::<Vec<_>>().join("\n  ");
        bail!("the weights do not fit the network:\n  {list}");
    }
    tch::no_grad(|| {
        for (name, mut variable) in variables {
            if let Some(tensor) = tensors.get(&name) {
                variable.copy_(tensor);
            }
        }
    });
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read the weight file '{}'", path.display()))
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Weights> {
    let (tensors, note) = tensors::parse(path, bytes)?;
    let metadata = match note {
        Value::Null => Metadata::default(),
        note => serde_json::from_value(note).with_context(|| format!("the header of '{}'", path.display()))?,
    };
    Ok(Weights { tensors, metadata, sha256: digest::bytes(bytes) })
}
