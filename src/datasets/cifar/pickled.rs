//! The Python layout: a pickled dictionary with an array `data`, one image a row, and a list of labels. It is parsed, never executed.

use std::borrow::Cow;

use anyhow::{Result, bail, ensure};

use super::published::File;
use super::{Images, PIXELS};
use crate::store::digest;
use crate::store::pickled::Dictionary;

/// The images of a file, and the labels under the key `labels`.
///
/// # Errors
/// A file that is no such dictionary; images of another size; another number of labels; as many images as were published under another
/// digest.
pub(super) fn read(bytes: Vec<u8>, labels: &str, published: &File) -> Result<(Images, Vec<i64>)> {
    let (count, values, labels) = {
        let dictionary = Dictionary::parse(&bytes)?;
        let rows = dictionary.rows("data")?;
        ensure!(
            rows.width == PIXELS && rows.count > 0,
            "its 'data' has {} rows of {} bytes; an image has {PIXELS}",
            rows.count,
            rows.width
        );
        let values = match rows.bytes {
            // Where the array lies in the file: it is not copied.
            Cow::Borrowed(values) => Values::At(values.as_ptr() as usize - bytes.as_ptr() as usize),
            Cow::Owned(values) => Values::Decoded(values),
        };
        (rows.count, values, dictionary.integers(labels)?)
    };
    ensure!(labels.len() == count, "it has {count} images and {} labels", labels.len());
    if let Some(md5) = published.md5.filter(|_| count == published.images) {
        let found = digest::md5(&bytes);
        if found != md5 {
            bail!(
                "it has as many images as the published file, but not its content (md5 {found}, published {md5}): unpack the archive again, \
                 or give data of your own in the binary layout"
            );
        }
    }
    let (bytes, first) = match values {
        Values::At(first) => (bytes, first),
        Values::Decoded(values) => (values, 0),
    };
    Ok((Images { bytes, first, stride: PIXELS, count }, labels))
}

enum Values {
    /// From this byte of the file on.
    At(usize),
    Decoded(Vec<u8>),
}

/// The class names under `key`.
///
/// # Errors
/// A file that is no dictionary with such a list.
pub(super) fn names(bytes: &[u8], key: &str) -> Result<Vec<String>> {
    Dictionary::parse(bytes)?.texts(key)
}
