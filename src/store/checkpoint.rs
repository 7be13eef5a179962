//! PyTorch checkpoint files (`.pth`, `.pt`, `.bin`): which tensors they name and where those lie; the zip layout of today and the flat one
//! before 1.6.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::archive::{self, Member};
use super::located::Located;
use super::pickle::{self, Pickle, TensorPart, Value, shown};

/// PyTorch's magic number, as a pickle of any protocol holds it; it opens every file of the flat layout.
const FLAT_MAGIC: &[u8] = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
/// The longest pickle of the magic number: protocol, frame, number.
const LONGEST_MAGIC: usize = 2 + 9 + FLAT_MAGIC.len();
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
/// Where training scripts keep the state dict inside a larger dictionary; of two, the first here. A teacher is what self-distillation publishes.
const WRAPPERS: [&str; 8] = ["state_dict", "model_state_dict", "model", "teacher", "module", "network", "encoder", "backbone"];
/// Dictionaries inside one another.
const DEEPEST: usize = 4;
/// The longest pickle, bytes; those of the largest encoders have some hundred thousand.
const MOST_PICKLE: u64 = 64 << 20;

/// What a checkpoint holds.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// Tensors by name; a tensor without a dictionary has the empty name.
    pub(super) tensors: BTreeMap<String, Located>,
    /// Entries beside and inside the state dict that are no tensors of it, such as an optimiser's state.
    pub(super) left_out: Vec<String>,
}

/// Whether a file that begins with these bytes is a PyTorch checkpoint.
pub(super) fn recognised(beginning: &[u8]) -> bool {
    flat_magic(beginning).is_some() || beginning.starts_with(ZIP_MAGIC)
}

/// Length of the pickle of the magic number in front of a file of the flat layout.
fn flat_magic(beginning: &[u8]) -> Option<usize> {
    let [0x80, 2..=5, rest @ ..] = beginning else { return None };
    let frame = if rest.first() == Some(&0x95) { 9 } else { 0 };
    rest.get(frame..)?.starts_with(FLAT_MAGIC).then_some(2 + frame + FLAT_MAGIC.len())
}

/// Finds the state dict of a checkpoint. Memory: the pickle and its values; no tensor's numbers.
///
/// # Errors
/// A damaged file, anything but a state dict or one tensor, claims beyond the file.
pub(super) fn open(source: &mut (impl Read + Seek)) -> Result<Checkpoint> {
    let mut beginning = Vec::new();
    source.rewind()?;
    source.take(LONGEST_MAGIC as u64).read_to_end(&mut beginning)?;
    match flat_magic(&beginning) {
        Some(length) => flat(source, length as u64),
        None => zipped(source),
    }
}

fn zipped(source: &mut (impl Read + Seek)) -> Result<Checkpoint> {
    let members = archive::members(source)?;
    let mut pickles = members.keys().filter(|name| name.split_once('/').is_some_and(|(_, file)| file == "data.pkl"));
    let pickle = pickles.next().ok_or_else(|| anyhow!("a zip archive, but no PyTorch checkpoint: it holds no data.pkl"))?;
    ensure!(pickles.next().is_none(), "the archive has more than one data.pkl");
    let folder = pickle.trim_end_matches("data.pkl");
    if members.contains_key(&format!("{folder}constants.pkl")) || members.keys().any(|name| name.starts_with(&format!("{folder}code/"))) {
        bail!("it is a TorchScript module, a program and no list of weights; use it as it is: `wsi extract --encoder FILE.pt`");
    }
    if let Some(order) = members.get(&format!("{folder}byteorder")) {
        ensure!(order.read(source, 16)?.trim_ascii() == b"little", "its numbers are big-endian");
    }
    let bytes = members[pickle].read(source, MOST_PICKLE).with_context(|| format!("member '{}'", shown(pickle)))?;
    let pickle = pickle::parse(&bytes)?;
    let mut checked: HashMap<&str, Member> = HashMap::new();
    collect(&pickle, |part| {
        let storage = &pickle.storages()[part.storage];
        let member = match checked.get(storage.key) {
            Some(member) => *member,
            None => {
                let name = format!("{folder}data/{}", storage.key);
                let context = || format!("member '{}'", shown(&name));
                let member = *members.get(&name).ok_or_else(|| anyhow!("it is not there")).with_context(context)?;
                member.check(source).with_context(context)?;
                *checked.entry(storage.key).or_insert(member)
            }
        };
        let stored = member.size / (storage.dtype.bitsize() / 8) as u64;
        ensure!(stored >= storage.elements as u64, "its storage has {stored} numbers instead of {}; the file is damaged", storage.elements);
        Located::view(storage.dtype, (member.at, storage.elements), part.offset, &part.shape, &part.stride)
    })
}

/// The flat layout, behind the magic number.
fn flat(source: &mut (impl Read + Seek), start: u64) -> Result<Checkpoint> {
    let end = source.seek(SeekFrom::End(0))?;
    source.seek(SeekFrom::Start(start))?;
    let mut front = Vec::new();
    source.take(MOST_PICKLE).read_to_end(&mut front)?;
    let mut rest = &front[..];
    let mut next = || -> Result<Pickle> {
        let pickle = pickle::parse(rest)?;
        rest = &rest[pickle.length..];
        Ok(pickle)
    };
    let (_layout_version, system, pickle, keys) = (next()?, next()?, next()?, next()?);
    ensure!(is_little_endian(&system), "its numbers are big-endian");
    let Value::List(list) = keys.root else { bail!("no list of storages follows the state dict") };
    let known: HashMap<&str, _> = pickle.storages().iter().map(|storage| (storage.key, (storage.dtype, storage.elements))).collect();
    let mut at = start + (front.len() - rest.len()) as u64;
    let mut places = HashMap::new();
    for key in keys.list(list) {
        let Value::Text(key) = key else { bail!("a storage without a name") };
        let (dtype, elements) = known.get(key).ok_or_else(|| anyhow!("storage '{}' belongs to no tensor", shown(key)))?;
        let mut count = [0; 8];
        source.seek(SeekFrom::Start(at))?;
        source.read_exact(&mut count).context("the file is cut short")?;
        let count = u64::from_le_bytes(count);
        ensure!(count == *elements as u64, "storage '{}' has {count} elements instead of {elements}", shown(key));
        let length = count.checked_mul(dtype.bitsize() as u64 / 8);
        let after = length.and_then(|length| (at + 8).checked_add(length)).filter(|after| *after <= end);
        places.insert(*key, at + 8);
        at = after.ok_or_else(|| anyhow!("storage '{}' is cut short", shown(key)))?;
    }
    collect(&pickle, |part| {
        let storage = &pickle.storages()[part.storage];
        let at = places.get(storage.key).ok_or_else(|| anyhow!("storage '{}' is missing", shown(storage.key)))?;
        let (dtype, elements) = known[storage.key];
        ensure!(dtype == storage.dtype, "storage '{}' is described in two ways", shown(storage.key));
        Located::view(dtype, (*at, elements), part.offset, &part.shape, &part.stride)
    })
}

fn is_little_endian(system: &Pickle) -> bool {
    let Value::Dict(entries) = system.root else { return false };
    system.dict(entries).iter().any(|entry| matches!(entry, (Value::Text("little_endian"), Value::Bool(true))))
}

/// The state dict's entries, each found in the file by `locate`.
fn collect(pickle: &Pickle, mut locate: impl FnMut(&TensorPart) -> Result<Located>) -> Result<Checkpoint> {
    if let Value::Tensor(number) = pickle.root {
        return Ok(Checkpoint { tensors: BTreeMap::from([(String::new(), locate(pickle.tensor(number))?)]), left_out: Vec::new() });
    }
    let mut left_out = Vec::new();
    let mut tensors = BTreeMap::new();
    for (key, value) in pickle.dict(state_dict(pickle, &mut left_out)?) {
        let Value::Text(name) = key else { bail!("an entry without a name") };
        ensure!(name.len() <= 1024 && !name.chars().any(char::is_control), "a tensor is called '{}'", shown(name));
        let Value::Tensor(number) = value else {
            left_out.push((*name).to_owned());
            continue;
        };
        let located = locate(pickle.tensor(*number)).with_context(|| format!("tensor '{name}'"))?;
        ensure!(tensors.insert((*name).to_owned(), located).is_none(), "there are two tensors '{name}'");
    }
    Ok(Checkpoint { tensors, left_out })
}

/// The dictionary that holds tensors: the outermost, else that under a usual name, else the only one.
fn state_dict(pickle: &Pickle, left_out: &mut Vec<String>) -> Result<usize> {
    let Value::Dict(mut dict) = pickle.root else { bail!("it holds no dictionary of tensors") };
    for _ in 0..DEEPEST {
        let entries = pickle.dict(dict);
        if entries.iter().any(|(_, value)| matches!(value, Value::Tensor(_))) {
            return Ok(dict);
        }
        let inner: Vec<(&str, usize)> = entries
            .iter()
            .filter_map(|(key, value)| match (key, value) {
                (Value::Text(name), Value::Dict(inner)) => Some((*name, *inner)),
                _ => None,
            })
            .collect();
        let usual = WRAPPERS.iter().find_map(|wrapper| inner.iter().find(|(name, _)| name == wrapper));
        let Some((chosen, next)) = usual.or(inner.first().filter(|_| inner.len() == 1)) else { break };
        left_out.extend(entries.iter().filter_map(|(key, _)| match key {
            Value::Text(name) if name != chosen => Some(shown(name)),
            _ => None,
        }));
        dict = *next;
    }
    bail!("it holds no dictionary of tensors, not under {} either", WRAPPERS.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Write};
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

    fn read(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
        let mut source = Cursor::new(bytes);
        let checkpoint = open(&mut source)?;
        checkpoint.tensors.iter().map(|(name, located)| Ok((name.clone(), located.bytes(&mut source)?))).collect()
    }

    fn floats(bytes: &[u8]) -> Vec<f32> {
        bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
    }

    #[test]
    fn a_zipped_state_dict_is_read_with_its_strides() {
        for (stride, expected) in [([3, 1], [0., 1., 2., 3., 4., 5.]), ([1, 2], [0., 2., 4., 1., 3., 5.])] {
            let tensors = read(&archive(&state_dict("weight", 0, stride), 6)).unwrap();
            assert_eq!((tensors[0].0.as_str(), floats(&tensors[0].1)), ("weight", expected.to_vec()));
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
        refused(&archive(&state_dict("weight", 0, [3, 1]), 5), "5 numbers instead of 6");
        refused(&archive(b"\x80\x02cbuiltins\neval\n.", 0), "'builtins.eval'");
        let whole = archive(&state_dict("weight", 0, [3, 1]), 6);
        refused(&whole[..whole.len() / 2], "damaged or cut short");
    }
}
