//! A dictionary of lists and NumPy arrays of bytes in a pickle, as small data sets are published. Read as data: nothing of it is executed.

use std::borrow::Cow;

use anyhow::{Context, Result, bail, ensure};

use super::pickle::{self, Pickle, Value};

/// A dictionary that a file holds; its values are named by their keys.
pub struct Dictionary<'a> {
    pickle: Pickle<'a>,
    entries: usize,
}

/// Bytes in rows.
pub struct Rows<'a> {
    /// Number of rows.
    pub count: usize,
    /// Bytes in a row.
    pub width: usize,
    /// All rows, one after the other; borrowed from the file where it holds them as they are.
    pub bytes: Cow<'a, [u8]>,
}

impl<'a> Dictionary<'a> {
    /// Reads the pickle that a file consists of; protocols 2 to 5.
    ///
    /// # Errors
    /// A cut file, one that would call a function, one that holds no dictionary, one that goes on after it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let pickle = pickle::parse(bytes)?;
        let Value::Dict(entries) = pickle.root else { bail!("it holds no dictionary") };
        ensure!(pickle.length == bytes.len(), "{} bytes follow its end", bytes.len() - pickle.length);
        Ok(Self { pickle, entries })
    }

    /// A list of integers.
    ///
    /// # Errors
    /// No such key, or something else behind it.
    pub fn integers(&self, key: &str) -> Result<Vec<i64>> {
        let integer = |value: &Value| if let Value::Int(value) = value { Some(*value) } else { None };
        self.list(key)?.iter().map(integer).collect::<Option<_>>().with_context(|| format!("'{key}' is no list of integers"))
    }

    /// A list of texts.
    ///
    /// # Errors
    /// As [`integers`](Self::integers).
    pub fn texts(&self, key: &str) -> Result<Vec<String>> {
        let text = |value: &Value| text(value).map(str::to_owned);
        self.list(key)?.iter().map(text).collect::<Option<_>>().with_context(|| format!("'{key}' is no list of texts"))
    }

    /// An array of bytes with two dimensions.
    ///
    /// # Errors
    /// No such key, something else behind it, another number of bytes than its shape says.
    pub fn rows(&self, key: &str) -> Result<Rows<'a>> {
        let array = if let Value::Array(number) = self.value(key)? { self.pickle.array(number) } else { None };
        let array = array.with_context(|| format!("'{key}' is no array of bytes, row after row"))?;
        let &[count, width] = &array.shape[..] else { bail!("'{key}' has {} dimensions instead of 2", array.shape.len()) };
        let bytes = match array.values {
            Value::Bytes(bytes) => Cow::Borrowed(bytes),
            Value::Text(text) => Cow::Borrowed(text.as_bytes()),
            Value::Latin1(text) => {
                let bytes = text.chars().map(|character| u8::try_from(u32::from(character)).ok()).collect::<Option<Vec<u8>>>();
                Cow::Owned(bytes.with_context(|| format!("'{key}' holds characters that are no bytes"))?)
            }
            _ => bail!("'{key}' holds no bytes"),
        };
        ensure!(
            count.checked_mul(width) == Some(bytes.len()),
            "'{key}' claims {count} rows of {width} bytes and holds {} bytes",
            bytes.len()
        );
        Ok(Rows { count, width, bytes })
    }

    fn value(&self, key: &str) -> Result<Value<'a>> {
        let found = self.pickle.dict(self.entries).iter().find(|(name, _)| text(name) == Some(key));
        found.map(|(_, value)| *value).with_context(|| format!("it has no '{key}'"))
    }

    fn list(&self, key: &str) -> Result<&[Value<'a>]> {
        match self.value(key)? {
            Value::List(number) => Ok(self.pickle.list(number)),
            _ => bail!("'{key}' is no list"),
        }
    }
}

/// A text, whether it was saved as one or as bytes.
fn text<'a>(value: &Value<'a>) -> Option<&'a str> {
    match *value {
        Value::Text(text) | Value::Latin1(text) => Some(text),
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}
