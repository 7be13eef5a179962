//! Named tensors with a JSON note, as one safetensors file: weights and checkpoints.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result, bail};
use safetensors::{Dtype, SafeTensors, View};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::files;

/// The key of the note in the file's metadata; one key, since the order of several is not fixed.
const NOTE: &str = "wsi";

/// The kinds of numbers that are written and read, in the file's and in libtorch's words.
const KINDS: [(Dtype, Kind); 10] = [
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

struct Raw {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for &Raw {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes tensors and a note, whole or not at all. Equal content gives equal bytes.
///
/// # Errors
/// Names the file; a tensor of another kind.
pub fn write(path: &Path, tensors: &BTreeMap<String, Tensor>, note: &Value) -> Result<()> {
    let raw = tensors.iter().map(|(name, tensor)| Ok((name.as_str(), raw(name, tensor)?))).collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([(NOTE.to_owned(), serde_json::to_string(note)?)]);
    let bytes = safetensors::serialize(raw.iter().map(|(name, raw)| (*name, raw)), Some(metadata))?;
    files::write_bytes(path, &bytes)
}

fn raw(name: &str, tensor: &Tensor) -> Result<Raw> {
    let known = KINDS.iter().find(|(_, kind)| *kind == tensor.kind());
    let Some((dtype, _)) = known else { bail!("tensor '{name}' is of kind {:?}, which is not written", tensor.kind()) };
    let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    Ok(Raw { dtype: *dtype, shape: tensor.size().iter().map(|&side| side as usize).collect(), bytes })
}

/// Reads tensors and the note (`Null` where the file has none).
///
/// # Errors
/// Names the file: unreadable, damaged, or a tensor of a kind that is not known.
pub fn read(path: &Path) -> Result<(BTreeMap<String, Tensor>, Value)> {
    parse(path, &std::fs::read(path).with_context(|| format!("cannot read '{}'", path.display()))?)
}

/// [`read`] for the bytes of the file `path`.
///
/// # Errors
/// As [`read`].
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<(BTreeMap<String, Tensor>, Value)> {
    let damaged = || format!("'{}' is cut short, damaged or no safetensors file", path.display());
    let stored = SafeTensors::deserialize(bytes).with_context(damaged)?;
    let mut tensors = BTreeMap::new();
    for (name, view) in stored.iter() {
        let known = KINDS.iter().find(|(dtype, _)| *dtype == view.dtype());
        let Some((_, kind)) = known else {
            bail!("'{}': tensor '{name}' is of kind {:?}, which is not known", path.display(), view.dtype())
        };
        let shape: Vec<i64> = view.shape().iter().map(|&side| side as i64).collect();
        tensors.insert(name.to_owned(), Tensor::from_data_size(view.data(), &shape, *kind));
    }
    let (_, metadata) = SafeTensors::read_metadata(bytes).with_context(damaged)?;
    let note = metadata.metadata().as_ref().and_then(|m| m.get(NOTE)).map_or(Ok(Value::Null), |text| serde_json::from_str(text));
    Ok((tensors, note.with_context(damaged)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_and_note_come_back_and_bytes_are_equal() {
        let folder = tempfile::tempdir().unwrap();
        let tensors = BTreeMap::from([
            ("b".to_owned(), Tensor::from_slice(&[1.5f32, -2.0]).view([2, 1])),
            ("a".to_owned(), Tensor::from_slice(&[7i64])),
        ]);
        let note = serde_json::json!({"epoch": 3});
        let (first, second) = (folder.path().join("1"), folder.path().join("2"));
        write(&first, &tensors, &note).unwrap();
        write(&second, &tensors, &note).unwrap();
        assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());
        let (back, read_note) = read(&first).unwrap();
        assert_eq!(
            (back["b"].size(), back["b"].double_value(&[1, 0]), back["a"].int64_value(&[0]), read_note),
            (vec![2, 1], -2.0, 7, note)
        );
    }
}
