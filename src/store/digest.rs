//! Names for content: sha256 of settings, files and slides.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result};
use md5::Md5;
use serde::Serialize;
use sha2::{Digest, Sha256};

const FAST_WINDOW: u64 = 1 << 20;

/// sha256 of bytes, hexadecimal.
pub fn bytes(data: &[u8]) -> String {
    hex(&Sha256::digest(data))
}

/// md5 of bytes, hexadecimal: what older data sets publish; guards against accidents only.
pub fn md5(data: &[u8]) -> String {
    hex(&Md5::digest(data))
}

/// [`bytes`] of pieces one after the other.
pub fn pieces(pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
    hex(&pieces.into_iter().fold(Sha256::new(), Sha256::chain_update).finalize())
}

/// First 8 hexadecimal digits of the sha256 of a value's JSON; names a run folder.
pub fn settings(value: &impl Serialize) -> Result<String> {
    Ok(bytes(serde_json::to_string(value)?.as_bytes())[..8].to_owned())
}

/// sha256 of a whole file.
///
/// # Errors
/// Names the file.
pub fn file(path: &Path) -> Result<String> {
    let mut source = File::open(path).with_context(|| format!("cannot open '{}'", path.display()))?;
    let mut hash = Sha256::new();
    std::io::copy(&mut source, &mut hash).with_context(|| format!("cannot read '{}'", path.display()))?;
    Ok(hex(&hash.finalize()))
}

/// sha256 of those of `names` that are in `folder`, by name: how a run records what it leaves.
///
/// # Errors
/// As [`file`].
pub fn outputs(folder: &Path, names: &[&str]) -> Result<BTreeMap<String, String>> {
    let there = names.iter().map(|name| (name, folder.join(name))).filter(|(_, path)| path.is_file());
    there.map(|(name, path)| Ok(((*name).to_owned(), file(&path)?))).collect()
}

/// sha256 of a file's size, first and last MiB: a slide of many gigabytes is named in milliseconds.
///
/// # Errors
/// Names the file.
pub fn file_fast(path: &Path) -> Result<String> {
    let context = || format!("cannot read '{}'; check that it is there and may be read", path.file_name().unwrap_or_default().display());
    let mut source = File::open(path).with_context(context)?;
    let size = source.metadata().with_context(context)?.len();
    let mut hash = Sha256::new();
    hash.update(size.to_le_bytes());
    std::io::copy(&mut (&mut source).take(FAST_WINDOW), &mut hash).with_context(context)?;
    if size > 2 * FAST_WINDOW {
        source.seek(SeekFrom::End(-(FAST_WINDOW as i64)))?;
        std::io::copy(&mut source, &mut hash).with_context(context)?;
    }
    Ok(hex(&hash.finalize()))
}

/// [`file_fast`] of a slide that may have several files: that of its only one, or over those of all in their order.
///
/// # Errors
/// As [`file_fast`].
pub fn files_fast<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<String> {
    let digests = paths.into_iter().map(file_fast).collect::<Result<Vec<_>>>()?;
    Ok(match &digests[..] {
        [only] => only.clone(),
        several => bytes(several.concat().as_bytes()),
    })
}

/// Hexadecimal digits.
pub(super) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
