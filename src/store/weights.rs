//! Weight files: safetensors with their origin in the header, made once from whatever was published, loaded by name.
//!
//! A folder holds one file an encoder, `<encoder>.safetensors`. The sha256 of that file is part of every bag.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use super::{checkpoint, digest, files};

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
    /// Tensors by name, in the file's order.
    pub tensors: Vec<(String, Tensor)>,
    /// Empty fields for a file that this program did not write.
    pub metadata: Metadata,
    /// sha256 of the file.
    pub sha256: String,
}

/// The header's key for [`Metadata`], as JSON. One key only: the order of several is not fixed, and equal content must be equal bytes.
const KEY: &str = "wsi";

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
pub fn write(path: &Path, tensors: &[(String, Tensor)], metadata: &Metadata) -> Result<()> {
    let header = HashMap::from([(KEY.to_owned(), serde_json::to_string(metadata)?)]);
    let stored: Vec<(&String, Stored)> =
        tensors.iter().map(|(name, tensor)| Ok((name, Stored::new(name, tensor)?))).collect::<Result<_>>()?;
    let bytes = safetensors::serialize(stored, Some(header)).with_context(|| format!("cannot write '{}'", path.display()))?;
    files::write_bytes(path, &bytes)
}

/// Copies tensors into the variables of the same name. A name that begins as one of `unused` may be left over, and
/// batch counters may be missing; nothing else.
///
/// # Errors
/// Lists every missing and every unexpected tensor and every wrong shape; the variables are then unchanged.
pub fn load_into(store: &VarStore, tensors: &[(String, Tensor)], unused: &[&str]) -> Result<()> {
    let variables = store.variables();
    let given: HashMap<&str, &Tensor> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut faults = BTreeSet::new();
    for (name, variable) in &variables {
        match given.get(name.as_str()) {
            None if name.ends_with("num_batches_tracked") => {}
            None => drop(faults.insert(format!("missing: {name} {:?}", variable.size()))),
            Some(tensor) if tensor.size() != variable.size() => {
                faults.insert(format!("wrong shape: {name} {:?} instead of {:?}", tensor.size(), variable.size()));
            }
            Some(_) => {}
        }
    }
    let unexpected = |name: &&str| !variables.contains_key(*name) && !unused.iter().any(|beginning| name.starts_with(beginning));
    faults.extend(given.keys().filter(|name| unexpected(name)).map(|name| format!("unexpected: {name}")));
    if !faults.is_empty() {
        let list = faults.into_iter().collect::<Vec<_>>().join("\n  ");
        bail!("the weights do not fit the network:\n  {list}");
    }
    tch::no_grad(|| {
        for (name, mut variable) in variables {
            if let Some(tensor) = given.get(name.as_str()) {
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
    let context = || format!("'{}' is neither safetensors nor a PyTorch checkpoint, or it is cut short", path.display());
    let file = SafeTensors::deserialize(bytes).with_context(context)?;
    let (_, header) = SafeTensors::read_metadata(bytes).with_context(context)?;
    let metadata = match header.metadata().as_ref().and_then(|texts| texts.get(KEY)) {
        Some(text) => serde_json::from_str(text).with_context(|| format!("the header of '{}'", path.display()))?,
        None => Metadata::default(),
    };
    let tensors = file.iter().map(|(name, view)| {
        let known = DTYPES.iter().find(|(dtype, _)| *dtype == view.dtype());
        let (_, kind) = known.ok_or_else(|| anyhow!("'{}': tensor '{name}' is {:?}, which is not read", path.display(), view.dtype()))?;
        let shape: Vec<i64> = view.shape().iter().map(|&side| side as i64).collect();
        Ok((name.to_owned(), Tensor::from_data_size(view.data(), &shape, *kind)))
    });
    Ok(Weights { tensors: tensors.collect::<Result<_>>()?, metadata, sha256: digest::bytes(bytes) })
}

/// A tensor as safetensors wants it: type, shape and little-endian bytes.
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Stored {
    fn new(name: &str, tensor: &Tensor) -> Result<Self> {
        let tensor = tensor.to_device(tch::Device::Cpu).contiguous();
        let dtype = DTYPES.iter().find(|(_, kind)| *kind == tensor.kind());
        let (dtype, kind) = dtype.ok_or_else(|| anyhow!("tensor '{name}' is {:?}, which is not stored", tensor.kind()))?;
        let mut bytes = vec![0; tensor.numel() * kind.elt_size_in_bytes()];
        tensor.copy_data_u8(&mut bytes, tensor.numel());
        Ok(Self { dtype: *dtype, shape: tensor.size().iter().map(|&side| side as usize).collect(), bytes })
    }
}

impl safetensors::View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        (&self.bytes[..]).into()
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

const DTYPES: [(Dtype, Kind); 10] = [
    (Dtype::F32, Kind::Float),
    (Dtype::F64, Kind::Double),
    (Dtype::F16, Kind::Half),
    (Dtype::BF16, Kind::BFloat16),
    (Dtype::I64, Kind::Int64),
    (Dtype::I32, Kind::Int),
    (Dtype::I16, Kind::Int16),
    (Dtype::I8, Kind::Int8),
    (Dtype::U8, Kind::Uint8),
    (Dtype::BOOL, Kind::Bool),
];
