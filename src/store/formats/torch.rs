//! A bag's features as one tensor in PyTorch's `.pt` container, as `torch.load(weights_only=True)` opens it.
//!
//! The container is a zip of stored entries: a pickle that rebuilds one tensor from storage 0, the storage's bytes, the version and
//! the byte order. PyTorch wants the storage on a boundary of 64 bytes, which a padded extra field gives.

use std::fs::File;
use std::io::{Cursor, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use tch::Kind;
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

use super::Values;
use crate::store::{checkpoint, files, tensors};

const ALIGNMENT: u16 = 64;

/// Writes `[N,D]` values, whole or not at all; equal values are equal bytes.
///
/// # Errors
/// Names the file.
pub(super) fn write(path: &Path, values: &Values, width: usize) -> Result<()> {
    let rows = values.len().checked_div(width).unwrap_or(0);
    let (storage, bytes): (&str, Vec<u8>) = match values {
        Values::Half(values) => ("HalfStorage", values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        Values::Single(values) => ("FloatStorage", values.iter().flat_map(|value| value.to_le_bytes()).collect()),
    };
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).last_modified_time(zip::DateTime::default());
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let entries: [(&str, &[u8]); 4] = [
        ("bag/data.pkl", &pickle(storage, values.len(), rows, width)),
        ("bag/byteorder", b"little"),
        ("bag/data/0", &bytes),
        ("bag/version", b"3\n"),
    ];
    for (name, content) in entries {
        archive.start_file(name, options.large_file(content.len() > u32::MAX as usize).with_alignment(ALIGNMENT))?;
        archive.write_all(content)?;
    }
    files::write_bytes(path, &archive.finish()?.into_inner())
}

/// `torch._utils._rebuild_tensor_v2(('storage', torch.<storage>, '0', 'cpu', elements), 0, (rows, width), (width, 1), False, OrderedDict())`
/// in protocol 2.
fn pickle(storage: &str, elements: usize, rows: usize, width: usize) -> Vec<u8> {
    let mut out = vec![0x80, 2];
    let text = |out: &mut Vec<u8>, text: &str| {
        out.push(b'X');
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    };
    let whole = |out: &mut Vec<u8>, value: usize| match i32::try_from(value) {
        Ok(value) => {
            out.push(b'J');
            out.extend(value.to_le_bytes());
        }
        Err(_) => {
            out.extend([0x8A, 9]); // LONG1: nine bytes, so that the sign bit stays clear
            out.extend((value as u64).to_le_bytes());
            out.push(0);
        }
    };
    out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n(("); // two open tuples: the arguments, and the storage's name
    text(&mut out, "storage");
    out.extend(format!("ctorch\n{storage}\n").bytes());
    text(&mut out, "0");
    text(&mut out, "cpu");
    whole(&mut out, elements);
    out.extend(b"tQ"); // the tuple is a persistent id
    whole(&mut out, 0);
    for pair in [[rows, width], [width.max(1), 1]] {
        pair.iter().for_each(|&value| whole(&mut out, value));
        out.push(0x86); // a tuple of two
    }
    out.extend(b"\x89ccollections\nOrderedDict\n)RtR."); // False, an empty dictionary, call, end
    out
}

/// Reads such a file: a tensor of half, bfloat16 or single precision, `[N,D]`.
///
/// # Errors
/// A damaged file, another content; without the file's path.
pub(super) fn read(path: &Path) -> Result<(Values, usize)> {
    let mut file = File::open(path).map_err(|error| anyhow!("cannot read it: {}", error.kind()))?;
    let mut tensors = checkpoint::open(&mut file).context("it is no file of torch.save")?.tensors;
    let Some(located) = tensors.remove("").filter(|_| tensors.is_empty()) else { bail!("it holds no tensor, or more than one") };
    let tensor = tensors::read_one(&mut file, &located).context("it is no file of torch.save")?;
    let &[rows, width] = &tensor.size()[..] else { bail!("its features have the shape {:?} instead of [N, D]", tensor.size()) };
    let flat = tensor.reshape([rows * width]);
    let values = match tensor.kind() {
        Kind::Half => Values::Half(Vec::try_from(flat)?),
        Kind::Float | Kind::BFloat16 => Values::Single(Vec::try_from(flat.to_kind(Kind::Float))?),
        other => bail!("its features are {other:?}, not floating-point numbers"),
    };
    Ok((values, width as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn a_tensor_comes_back_and_its_bytes_repeat() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("a.pt"), folder.path().join("b.pt"));
        for values in [
            Values::Single((0..12).map(|i| i as f32 / 7.0).collect()),
            Values::Half((0..12).map(|i| f16::from_f32(i as f32 / 7.0)).collect()),
        ] {
            write(&first, &values, 4).unwrap();
            write(&second, &values, 4).unwrap();
            assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());
            assert_eq!(read(&first).unwrap(), (values, 4));
        }
        std::fs::write(&first, b"PK\x03\x04").unwrap();
        assert!(read(&first).is_err());
    }
}
