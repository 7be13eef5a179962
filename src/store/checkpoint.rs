//! PyTorch checkpoint files (`.pth`, `.pt`, `.bin`) as named tensors: the zip layout of today and the flat one before 1.6.

use std::collections::{BTreeMap, HashMap};
use std::io::{Cursor, Read};

use anyhow::{Context, Result, anyhow, bail, ensure};
use tch::Tensor;

use super::pickle::{self, TensorPart, Value};

/// A pickle of PyTorch's magic number, which opens every file of the flat layout.
const FLAT_MAGIC: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
/// Where training scripts keep the state dict inside a larger dictionary.
const WRAPPERS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// Whether the bytes begin as a PyTorch checkpoint does.
pub(super) fn recognised(bytes: &[u8]) -> bool {
    bytes.starts_with(FLAT_MAGIC) || bytes.starts_with(b"PK\x03\x04")
}

/// All tensors by name; a leading `module.` (data-parallel training) is dropped from the names.
///
/// # Errors
/// A damaged file, anything but a state dict or one tensor.
pub(super) fn read(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    if bytes.starts_with(FLAT_MAGIC) { flat(bytes) } else { zipped(bytes) }
}

fn zipped(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).context("the archive is damaged or cut short")?;
    let pickle = archive.file_names().find(|name| name.ends_with("/data.pkl")).map(str::to_owned);
    let pickle = pickle.ok_or_else(|| anyhow!("a zip archive, but no PyTorch checkpoint: it holds no data.pkl"))?;
    let folder = pickle.trim_end_matches("data.pkl");
    let mut member = |name: &str| -> Result<Vec<u8>> {
        let mut content = Vec::new();
        archive.by_name(name).and_then(|mut file| Ok(file.read_to_end(&mut content)?)).with_context(|| format!("member '{name}'"))?;
        Ok(content)
    };
    if let Ok(order) = member(&format!("{folder}byteorder")) {
        ensure!(order.trim_ascii() == b"little", "its numbers are big-endian");
    }
    let (value, _) = pickle::parse(&member(&pickle)?)?;
    let mut storages = HashMap::new();
    tensors(&value, |part| {
        let key = &part.storage.key;
        if !storages.contains_key(key) {
            storages.insert(key.clone(), member(&format!("{folder}data/{key}"))?);
        }
        view(part, &storages[key])
    })
}

fn flat(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let mut rest = &bytes[FLAT_MAGIC.len()..];
    let mut next = || -> Result<(Value, &[u8])> {
        let (value, length) = pickle::parse(rest)?;
        rest = &rest[length..];
        Ok((value, rest))
    };
    let (_layout_version, _) = next()?;
    let (system, _) = next()?;
    ensure!(is_little_endian(&system), "its numbers are big-endian");
    let (value, _) = next()?;
    let (keys, mut rest) = next()?;
    let mut elements = HashMap::new();
    tensors(&value, |part| {
        elements.insert(part.storage.key.clone(), part.storage.clone());
        Ok(Tensor::new())
    })?;
    let Value::List(keys) = keys else { bail!("no list of storages follows the state dict") };
    let mut storages = HashMap::new();
    for key in keys.borrow().iter() {
        let Value::Text(key) = key else { bail!("a storage without a name") };
        let (count, after) = rest.split_at_checked(8).ok_or_else(|| anyhow!("the file is cut short"))?;
        let count = u64::from_le_bytes(count.try_into()?);
        let storage = elements.get(key).ok_or_else(|| anyhow!("storage '{key}' belongs to no tensor"))?;
        ensure!(count == storage.elements as u64, "storage '{key}' has {count} elements instead of {}", storage.elements);
        let length = storage.elements.checked_mul(storage.kind.elt_size_in_bytes()).ok_or_else(|| anyhow!("the file is cut short"))?;
        let (data, after) = after.split_at_checked(length).ok_or_else(|| anyhow!("the file is cut short"))?;
        storages.insert(key.clone(), data);
        rest = after;
    }
    tensors(&value, |part| {
        let key = &part.storage.key;
        view(part, storages.get(key).ok_or_else(|| anyhow!("storage '{key}' is missing"))?)
    })
}

fn is_little_endian(system: &Value) -> bool {
    let Value::Dict(system) = system else { return false };
    system.borrow().iter().any(|(key, value)| matches!((key, value), (Value::Text(key), Value::Bool(true)) if &**key == "little_endian"))
}

/// The state dict's entries, each turned into a tensor by `build`; a tensor without a dictionary has the empty name.
fn tensors(value: &Value, mut build: impl FnMut(&TensorPart) -> Result<Tensor>) -> Result<BTreeMap<String, Tensor>> {
    if let Value::Tensor(part) = value {
        return Ok(BTreeMap::from([(String::new(), build(part)?)]));
    }
    let Value::Dict(dict) = value else { bail!("it holds no dictionary of tensors") };
    for (key, inner) in dict.borrow().iter() {
        if let (Value::Text(key), Value::Dict(_)) = (key, inner)
            && WRAPPERS.contains(&&**key)
        {
            return tensors(inner, build);
        }
    }
    let entries = dict.borrow();
    let entries = entries.iter().map(|(key, value)| match (key, value) {
        (Value::Text(name), Value::Tensor(part)) => {
            let tensor = build(part).with_context(|| format!("tensor '{name}'"))?;
            Ok((name.strip_prefix("module.").unwrap_or(name).to_owned(), tensor))
        }
        (Value::Text(name), _) => bail!("'{name}' is no tensor; a state dict holds nothing else"),
        _ => bail!("an entry without a name"),
    });
    entries.collect()
}

/// The tensor as a view of its storage's bytes, copied out; everything that the file claims is checked first.
fn view(part: &TensorPart, bytes: &[u8]) -> Result<Tensor> {
    let TensorPart { storage, offset, shape, stride } = part;
    ensure!(shape.len() == stride.len() && shape.iter().chain(stride).chain([offset]).all(|&n| n >= 0), "its shape makes no sense");
    if shape.contains(&0) {
        return Ok(Tensor::zeros(&shape[..], (storage.kind, tch::Device::Cpu)));
    }
    let span = shape.iter().zip(stride).try_fold(1i64, |sum, (side, step)| (side - 1).checked_mul(*step)?.checked_add(sum));
    let size = storage.kind.elt_size_in_bytes();
    let range = span
        .and_then(|span| {
            Some(usize::try_from(*offset).ok()?.checked_mul(size)?..usize::try_from(offset.checked_add(span)?).ok()?.checked_mul(size)?)
        })
        .and_then(|range| bytes.get(range))
        .ok_or_else(|| anyhow!("it reaches beyond its storage; the file is damaged"))?;
    let flat = Tensor::from_data_size(range, &[(range.len() / size) as i64], storage.kind);
    Ok(flat.as_strided(&shape[..], &stride[..], 0i64).contiguous())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::write::{SimpleFileOptions, ZipWriter};

    /// `{name: tensor of six floats in storage "0"}` with the given offset, shape [2,3] and stride.
    fn state_dict(name: &str, offset: u8, stride: [u8; 2]) -> Vec<u8> {
        let text = |text: &str| [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
        let storage = [&b"("[..], &text("storage"), b"ctorch\nFloatStorage\n", &text("0"), &text("cpu"), b"K\x06tQ"].concat();
        let numbers = [b'K', offset, b'K', 2, b'K', 3, 0x86, b'K', stride[0], b'K', stride[1], 0x86];
        let tensor = [&b"ctorch._utils\n_rebuild_tensor_v2\n("[..], &storage, &numbers, b"\x89ccollections\nOrderedDict\n)RtR"].concat();
        [&b"\x80\x02}q\x00("[..], &text(name), &tensor, b"u."].concat()
    }

    fn archive(pickle: &[u8], floats: usize) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        let numbers: Vec<u8> = (0..floats).flat_map(|value| (value as f32).to_le_bytes()).collect();
        for (name, content) in [("x/data.pkl", pickle), ("x/byteorder", b"little"), ("x/data/0", &numbers)] {
            writer.start_file(name, SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored)).unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn a_zipped_state_dict_is_read_with_its_strides() {
        for (stride, expected) in [([3, 1], [0., 1., 2., 3., 4., 5.]), ([1, 2], [0., 2., 4., 1., 3., 5.])] {
            let tensors = read(&archive(&state_dict("module.weight", 0, stride), 6)).unwrap();
            assert_eq!(tensors["weight"].size(), [2, 3]);
            assert_eq!(Vec::<f64>::try_from(tensors["weight"].flatten(0, -1)).unwrap(), expected);
        }
    }

    #[test]
    fn claims_beyond_the_file_are_refused() {
        let refused = |bytes: &[u8], word: &str| {
            let error = format!("{:#}", read(bytes).unwrap_err());
            assert!(error.contains(word), "{error}");
        };
        refused(&archive(&state_dict("weight", 1, [3, 1]), 6), "'weight'");
        refused(&archive(&state_dict("weight", 0, [3, 255]), 6), "beyond its storage");
        refused(&archive(&state_dict("weight", 0, [3, 1]), 5), "beyond its storage");
        refused(&archive(b"\x80\x02cbuiltins\neval\n.", 0), "'builtins.eval'");
        let whole = archive(&state_dict("weight", 0, [3, 1]), 6);
        refused(&whole[..whole.len() / 2], "damaged or cut short");
    }
}
