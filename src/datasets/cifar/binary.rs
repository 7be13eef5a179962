//! The binary layout: records of one size, label bytes and then 1,024 bytes each of red, green and blue.

use anyhow::{Result, ensure};

use super::{Images, PIXELS};

/// The images of a file, and their labels.
///
/// # Errors
/// A length that is no multiple of a record.
pub(super) fn read(bytes: Vec<u8>, label_bytes: usize) -> Result<(Images, Vec<i64>)> {
    let record = label_bytes + PIXELS;
    ensure!(
        !bytes.is_empty() && bytes.len().is_multiple_of(record),
        "it has {} bytes, which is no multiple of the {record} of a record; copy it again",
        bytes.len()
    );
    let labels = bytes.chunks_exact(record).map(|record| i64::from(record[label_bytes - 1])).collect();
    Ok((Images { count: bytes.len() / record, first: label_bytes, stride: record, bytes }, labels))
}

/// Class names, one a line.
///
/// # Errors
/// A text that is not UTF-8.
pub(super) fn names(bytes: &[u8]) -> Result<Vec<String>> {
    Ok(std::str::from_utf8(bytes)?.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}
