//! Named tensors with a JSON note, as one safetensors file: weights and checkpoints.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use safetensors::tensor::Metadata;
use safetensors::{Dtype, View};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::files;
use super::located::Located;

/// The key of the note in the file's metadata; one key, since the order of several is not fixed.
const NOTE: &str = "wsi";
/// As the format limits it.
const MOST_HEADER: u64 = 100_000_000;

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

/// A tensor whose bytes are copied out when they are written, one tensor at a time.
struct Written<'a> {
    tensor: &'a Tensor,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl View for &Written<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(bytes(self.tensor))
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()
    }
}

/// Writes tensors and a note, whole or not at all. Equal content gives equal bytes. Memory: one tensor at a time.
///
/// # Errors
/// Names the file; a tensor of another kind.
pub fn write(path: &Path, tensors: &BTreeMap<String, Tensor>, note: &Value) -> Result<()> {
    let written = |name: &str, tensor| Ok((name.to_owned(), Written { tensor, dtype: dtype(name, tensor)?, shape: shape(tensor) }));
    let tensors = tensors.iter().map(|(name, tensor)| written(name, tensor)).collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([(NOTE.to_owned(), serde_json::to_string(note)?)]);
    files::write_whole(path, |temporary| {
        let views = tensors.iter().map(|(name, written)| (name.as_str(), written));
        Ok(safetensors::serialize_to_file(views, Some(metadata), temporary)?)
    })
}

/// What numbers a tensor has, in the file's words.
///
/// # Errors
/// A kind that is not written.
pub(super) fn dtype(name: &str, tensor: &Tensor) -> Result<Dtype> {
    let known = KINDS.iter().find(|(_, kind)| *kind == tensor.kind());
    let Some((dtype, _)) = known else { bail!("tensor '{name}' is of kind {:?}, which is not written", tensor.kind()) };
    Ok(*dtype)
}

fn shape(tensor: &Tensor) -> Vec<usize> {
    tensor.size().iter().map(|&side| side as usize).collect()
}

/// A tensor's numbers, little-endian, row by row.
pub(super) fn bytes(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

/// sha256 of the tensors' names, kinds, shapes and values.
///
/// # Errors
/// A tensor of a kind that is not written.
pub fn digest(tensors: &BTreeMap<String, Tensor>) -> Result<String> {
    let mut digests = Vec::new();
    for (name, tensor) in tensors {
        digests.push((name, format!("{:?}", tensor.kind()), tensor.size(), super::digest::bytes(&bytes(tensor))));
    }
    super::digest::settings(&digests)
}

/// Reads tensors and the note (`Null` where the file has none). Memory: the tensors, and one of them twice.
///
/// # Errors
/// Names the file: unreadable, damaged, or a tensor of a kind that is not known.
pub fn read(path: &Path) -> Result<(BTreeMap<String, Tensor>, Value)> {
    let read = || -> Result<_> {
        let mut file = File::open(path)?;
        let (places, note) = places(&mut file)?;
        let one = |(name, located): (String, Located)| {
            let tensor = read_one(&mut file, &located).with_context(|| format!("tensor '{name}'"))?;
            Ok((name, tensor))
        };
        Ok((places.into_iter().map(one).collect::<Result<_>>()?, note))
    };
    read().with_context(|| format!("cannot read '{}'", path.display()))
}

/// The note of a file alone.
///
/// # Errors
/// As [`read`].
pub(super) fn note(path: &Path) -> Result<Value> {
    let read = || -> Result<Value> { Ok(places(&mut File::open(path)?)?.1) };
    read().with_context(|| format!("cannot read '{}'", path.display()))
}

/// Where the tensors of a safetensors file are, and its note.
///
/// # Errors
/// A damaged file.
pub(super) fn places(file: &mut File) -> Result<(BTreeMap<String, Located>, Value)> {
    const DAMAGED: &str = "it is cut short, damaged or no safetensors file";
    let end = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let mut source = BufReader::new(file);
    let mut length = [0; 8];
    source.read_exact(&mut length).context(DAMAGED)?;
    let length = u64::from_le_bytes(length);
    ensure!(length <= MOST_HEADER.min(end - 8), DAMAGED);
    let mut header = Vec::new();
    source.take(length).read_to_end(&mut header)?;
    let header: Metadata = serde_json::from_slice(&header).context(DAMAGED)?;
    // The tensors fill the rest without a gap: the format's own check of the header, and its end.
    ensure!(8 + length + header.data_len() as u64 == end, DAMAGED);
    let places = header.tensors().into_iter().map(|(name, info)| {
        let (start, stop) = info.data_offsets;
        (name, Located::rows(info.dtype, &info.shape, 8 + length + start as u64, stop - start))
    });
    let places = places.collect();
    let note = header.metadata().as_ref().and_then(|metadata| metadata.get(NOTE));
    Ok((places, note.map_or(Ok(Value::Null), |text| serde_json::from_str(text)).context(DAMAGED)?))
}

/// The tensor at a place of `source`.
///
/// # Errors
/// A kind that is not known, a file that cannot be read.
pub(super) fn read_one(source: &mut (impl Read + Seek), located: &Located) -> Result<Tensor> {
    let known = KINDS.iter().find(|(dtype, _)| *dtype == located.dtype);
    let Some((_, kind)) = known else { bail!("it is of kind {:?}, which is not known", located.dtype) };
    let shape: Vec<i64> = located.shape.iter().map(|&side| side as i64).collect();
    Ok(Tensor::f_from_data_size(&located.bytes(source)?, &shape, *kind)?)
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
        let whole = std::fs::read(&first).unwrap();
        assert_eq!(whole, std::fs::read(&second).unwrap());
        let (back, read_note) = read(&first).unwrap();
        assert_eq!(
            (back["b"].size(), back["b"].double_value(&[1, 0]), back["a"].int64_value(&[0]), read_note),
            (vec![2, 1], -2.0, 7, note)
        );
        for end in 0..whole.len() {
            std::fs::write(&second, &whole[..end]).unwrap();
            assert!(read(&second).is_err(), "cut at {end}");
        }
    }
}
