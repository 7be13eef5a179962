//! Structure arrays of MATLAB files (version 5, as `save` has written them since 1996, compressed or not): enough for the table of classes
//! that comes with ImageNet.
//!
//! Bounded: a file and a variable of at most 64 MiB each; what is nested more deeply than a field's value is passed over.

use std::io::Read;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::ZlibDecoder;

const MOST_BYTES: u64 = 64 << 20;
const HEADER: usize = 128;
/// Types of elements.
const INT8: u32 = 1;
const UINT8: u32 = 2;
const INT16: u32 = 3;
const UINT16: u32 = 4;
const INT32: u32 = 5;
const UINT32: u32 = 6;
const SINGLE: u32 = 7;
const DOUBLE: u32 = 9;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;
const UTF8: u32 = 16;
/// Classes of matrices.
const STRUCTURE: u8 = 2;
const CHARACTERS: u8 = 4;
const NUMBERS: std::ops::RangeInclusive<u8> = 6..=13;

/// A field's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Characters.
    Text(String),
    /// Numbers, column after column.
    Numbers(Vec<f64>),
    /// Anything else, and what is empty.
    Other,
}

/// An array of structures.
#[derive(Debug)]
pub struct Structures {
    fields: Vec<String>,
    /// Structure after structure.
    cells: Vec<Cell>,
}

impl Structures {
    /// The array called `variable` in a file.
    ///
    /// # Errors
    /// A file of another version, a damaged one, one without such an array.
    pub fn parse(bytes: &[u8], variable: &str) -> Result<Self> {
        ensure!(bytes.len() as u64 <= MOST_BYTES, "it has {} bytes, more than such a table has", bytes.len());
        ensure!(bytes.get(124..HEADER) == Some(&[0, 1, b'I', b'M']), "it is no MATLAB file of version 5 in little-endian order");
        let mut rest = &bytes[HEADER..];
        while !rest.is_empty() {
            let (kind, data) = element(&mut rest)?;
            let inflated;
            let matrix = match kind {
                MATRIX => data,
                COMPRESSED => {
                    let mut whole = Vec::new();
                    ZlibDecoder::new(data).take(MOST_BYTES + 1).read_to_end(&mut whole).context("a compressed variable is damaged")?;
                    ensure!(whole.len() as u64 <= MOST_BYTES, "a variable has more than {MOST_BYTES} bytes");
                    inflated = whole;
                    let (kind, data) = element(&mut &inflated[..])?;
                    ensure!(kind == MATRIX, "a compressed element is no variable");
                    data
                }
                _ => continue,
            };
            let matrix = Matrix::open(matrix)?;
            if matrix.name == variable.as_bytes() {
                ensure!(matrix.class == STRUCTURE, "'{variable}' is no array of structures");
                return Self::read(&matrix).with_context(|| format!("the variable '{variable}'"));
            }
        }
        bail!("it holds no variable '{variable}'")
    }

    fn read(matrix: &Matrix) -> Result<Self> {
        let mut rest = matrix.content;
        let length = *integers(&mut rest)?.first().context("the length of names is missing")?;
        ensure!(length > 0, "names of no length");
        let (_, names) = element(&mut rest)?;
        let fields: Vec<String> =
            names.chunks(length as usize).map(|name| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned()).collect();
        let count = matrix.count.checked_mul(fields.len()).context("more fields than there can be")?;
        let mut cells = Vec::new();
        for _ in 0..count {
            let (kind, data) = element(&mut rest)?;
            ensure!(kind == MATRIX, "a field that is no matrix");
            cells.push(if data.is_empty() { Cell::Other } else { Matrix::open(data)?.cell()? });
        }
        Ok(Self { fields, cells })
    }

    /// The values of a field, one a structure.
    ///
    /// # Errors
    /// No such field.
    pub fn field(&self, name: &str) -> Result<impl Iterator<Item = &Cell>> {
        let place = self.fields.iter().position(|field| field == name).with_context(|| format!("its structures have no '{name}'"))?;
        Ok(self.cells.iter().skip(place).step_by(self.fields.len()))
    }
}

/// A variable or a field's value.
struct Matrix<'a> {
    class: u8,
    name: &'a [u8],
    /// Elements.
    count: usize,
    content: &'a [u8],
}

impl<'a> Matrix<'a> {
    fn open(mut rest: &'a [u8]) -> Result<Self> {
        let (kind, flags) = element(&mut rest)?;
        ensure!(kind == UINT32 && flags.len() == 8, "a matrix without flags");
        let sizes = integers(&mut rest)?;
        let count = sizes.iter().try_fold(1usize, |count, &size| count.checked_mul(usize::try_from(size).ok()?));
        let (_, name) = element(&mut rest)?;
        Ok(Self { class: flags[0], name, count: count.context("a matrix of impossible size")?, content: rest })
    }

    fn cell(&self) -> Result<Cell> {
        let mut rest = self.content;
        Ok(match self.class {
            CHARACTERS => {
                let (kind, data) = element(&mut rest)?;
                match kind {
                    INT8 | UINT8 | UTF8 => Cell::Text(String::from_utf8_lossy(data).into_owned()),
                    UINT16 => {
                        let units: Vec<u16> = data.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
                        Cell::Text(String::from_utf16_lossy(&units))
                    }
                    _ => Cell::Other,
                }
            }
            class if NUMBERS.contains(&class) => {
                let (kind, data) = element(&mut rest)?;
                Cell::Numbers(numbers(kind, data)?)
            }
            _ => Cell::Other,
        })
    }
}

/// The next element: its type and its content.
fn element<'a>(rest: &mut &'a [u8]) -> Result<(u32, &'a [u8])> {
    let cut = || "it is cut short";
    let (tag, after) = rest.split_at_checked(8).with_context(cut)?;
    let word = |at: usize| u32::from_le_bytes([tag[at], tag[at + 1], tag[at + 2], tag[at + 3]]);
    // Up to four bytes stand in the tag itself.
    if word(0) >> 16 != 0 {
        let size = (word(0) >> 16) as usize;
        ensure!(size <= 4, "an element of {size} bytes in 4");
        *rest = after;
        return Ok((word(0) & 0xffff, &tag[4..4 + size]));
    }
    let size = word(4) as usize;
    let (content, after) = after.split_at_checked(size).with_context(cut)?;
    // Padding to 8 bytes, but behind compressed elements.
    let padding = if word(0) == COMPRESSED { 0 } else { size.next_multiple_of(8) - size };
    *rest = &after[padding.min(after.len())..];
    Ok((word(0), content))
}

fn integers(rest: &mut &[u8]) -> Result<Vec<i32>> {
    let (kind, data) = element(rest)?;
    ensure!(kind == INT32, "sizes that are no integers");
    Ok(data.as_chunks::<4>().0.iter().map(|number| i32::from_le_bytes(*number)).collect())
}

/// Numbers, stored in the smallest type that holds them.
fn numbers(kind: u32, data: &[u8]) -> Result<Vec<f64>> {
    fn each<const N: usize>(data: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        data.as_chunks::<N>().0.iter().map(|bytes| number(*bytes)).collect()
    }
    Ok(match kind {
        INT8 => each(data, |bytes| f64::from(i8::from_le_bytes(bytes))),
        UINT8 => each(data, |bytes| f64::from(u8::from_le_bytes(bytes))),
        INT16 => each(data, |bytes| f64::from(i16::from_le_bytes(bytes))),
        UINT16 => each(data, |bytes| f64::from(u16::from_le_bytes(bytes))),
        INT32 => each(data, |bytes| f64::from(i32::from_le_bytes(bytes))),
        UINT32 => each(data, |bytes| f64::from(u32::from_le_bytes(bytes))),
        SINGLE => each(data, |bytes| f64::from(f32::from_le_bytes(bytes))),
        DOUBLE => each(data, f64::from_le_bytes),
        _ => bail!("numbers of the unknown type {kind}"),
    })
}
