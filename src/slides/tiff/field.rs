//! Numbers in a TIFF: byte order, directory entries, and the arrays that they point to.

use anyhow::{Result, bail, ensure};

use super::{Bytes, Directory};

pub(super) const WIDTH: u16 = 256;
pub(super) const HEIGHT: u16 = 257;
pub(super) const BITS_PER_SAMPLE: u16 = 258;
pub(super) const COMPRESSION: u16 = 259;
pub(super) const PHOTOMETRIC: u16 = 262;
pub(super) const SAMPLES_PER_PIXEL: u16 = 277;
pub(super) const PLANAR_CONFIGURATION: u16 = 284;
pub(super) const TILE_WIDTH: u16 = 322;
pub(super) const TILE_HEIGHT: u16 = 323;
pub(super) const TILE_OFFSETS: u16 = 324;
pub(super) const TILE_BYTE_COUNTS: u16 = 325;
pub(super) const SUB_DIRECTORIES: u16 = 330;
pub(super) const SAMPLE_FORMAT: u16 = 339;
pub(super) const JPEG_TABLES: u16 = 347;

const KNOWN: [u16; 14] = [
    WIDTH,
    HEIGHT,
    BITS_PER_SAMPLE,
    COMPRESSION,
    PHOTOMETRIC,
    SAMPLES_PER_PIXEL,
    PLANAR_CONFIGURATION,
    TILE_WIDTH,
    TILE_HEIGHT,
    TILE_OFFSETS,
    TILE_BYTE_COUNTS,
    SUB_DIRECTORIES,
    SAMPLE_FORMAT,
    JPEG_TABLES,
];

/// More entries than any directory has, and the most that the classic layout can count.
const MOST_ENTRIES: u64 = u16::MAX as u64;

/// How this file writes its numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    big_endian: bool,
    /// BigTIFF: offsets and counts of 64 bits.
    big: bool,
}

/// An entry of a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    tag: u16,
    kind: u16,
    count: u64,
    /// Where the values begin, whether in the entry itself or elsewhere.
    offset: u64,
}

impl Field {
    /// Bytes of one value; `None` for kinds that no known tag has.
    fn size(self) -> Option<u64> {
        match self.kind {
            1 | 2 | 7 => Some(1), // BYTE, ASCII, UNDEFINED
            3 => Some(2),         // SHORT
            4 | 13 => Some(4),    // LONG, IFD
            16 | 18 => Some(8),   // LONG8, IFD8
            _ => None,
        }
    }
}

impl Layout {
    /// The layout, and the offset of the first directory.
    pub(super) fn of(bytes: &(impl Bytes + ?Sized)) -> Result<(Self, u64)> {
        let mut start = [0; 16];
        let there = bytes.length().min(16) as usize;
        bytes.read_at(0, &mut start[..there])?;
        let big_endian = match &start[..2] {
            b"II" => false,
            b"MM" => true,
            _ => bail!("it does not begin as a TIFF does"),
        };
        let layout = Self { big_endian, big: false };
        match layout.number(&start[2..4]) {
            42 if there >= 8 => Ok((layout, layout.number(&start[4..8]))),
            43 if there == 16 && layout.number(&start[4..6]) == 8 => Ok((Self { big: true, ..layout }, layout.number(&start[8..16]))),
            version => bail!("its TIFF header is cut short or of an unknown version ({version})"),
        }
    }

    /// A number of one to eight bytes.
    fn number(self, bytes: &[u8]) -> u64 {
        let shift = |number: u64, &byte: &u8| number << 8 | u64::from(byte);
        if self.big_endian { bytes.iter().fold(0, shift) } else { bytes.iter().rev().fold(0, shift) }
    }

    /// The known fields of the directory at `offset`, and the offset of the next one (0: none).
    pub(super) fn directory(self, bytes: &(impl Bytes + ?Sized), offset: u64) -> Result<(Vec<Field>, u64)> {
        let (count_size, entry_size, word) = if self.big { (8, 20, 8) } else { (2, 12, 4) };
        let mut count = [0; 8];
        bytes.read_at(offset, &mut count[..count_size])?;
        let count = self.number(&count[..count_size]);
        ensure!(count <= MOST_ENTRIES, "it counts {count} entries");
        let start = offset + count_size as u64; // no overflow: these bytes were just read
        let mut entries = vec![0; count as usize * entry_size + word];
        bytes.read_at(start, &mut entries)?;
        let (entries, next) = entries.split_at(count as usize * entry_size);

        let mut fields: Vec<Field> = Vec::new();
        for (index, entry) in entries.chunks_exact(entry_size).enumerate() {
            let tag = self.number(&entry[..2]) as u16;
            if !KNOWN.contains(&tag) || fields.iter().any(|field| field.tag == tag) {
                continue;
            }
            let (value, kind) = (&entry[entry_size - word..], self.number(&entry[2..4]) as u16);
            let mut field = Field { tag, kind, count: self.number(&entry[4..4 + word]), offset: 0 };
            let inside = field.size().and_then(|size| size.checked_mul(field.count)).is_some_and(|size| size <= word as u64);
            field.offset = if inside { start + (index * entry_size + entry_size - word) as u64 } else { self.number(value) };
            fields.push(field);
        }
        Ok((fields, self.number(next)))
    }
}

impl Directory {
    fn field(&self, tag: u16) -> Option<Field> {
        self.fields.iter().find(|field| field.tag == tag).copied()
    }

    /// The bytes of a field's values, of which there may be `most`: a damaged field may claim any number.
    pub(super) fn raw(&self, bytes: &(impl Bytes + ?Sized), tag: u16, most: u64) -> Result<Option<Vec<u8>>> {
        let Some(field) = self.field(tag) else { return Ok(None) };
        ensure!(field.count <= most, "tag {tag} has {} values, at most {most} make sense", field.count);
        let Some(size) = field.size() else { bail!("tag {tag} is of kind {}, which it cannot be", field.kind) };
        let length =
            size.checked_mul(field.count).filter(|length| field.offset.checked_add(*length).is_some_and(|end| end <= bytes.length()));
        let Some(length) = length else {
            bail!("tag {tag} has {} values at byte {}, beyond the file's {} bytes", field.count, field.offset, bytes.length());
        };
        let mut values = vec![0; usize::try_from(length)?];
        bytes.read_at(field.offset, &mut values)?;
        Ok(Some(values))
    }

    /// A field's numbers, `most` of them. Memory: 16 bytes each.
    pub(super) fn numbers(&self, bytes: &(impl Bytes + ?Sized), tag: u16, most: u64) -> Result<Option<Vec<u64>>> {
        let Some(raw) = self.raw(bytes, tag, most)? else { return Ok(None) };
        let size = self.field(tag).and_then(Field::size).unwrap_or(1) as usize;
        Ok(Some(raw.chunks_exact(size).map(|value| self.layout.number(value)).collect()))
    }

    /// A field that is one number.
    pub(super) fn number(&self, bytes: &(impl Bytes + ?Sized), tag: u16) -> Result<Option<u64>> {
        match self.field(tag) {
            None => Ok(None),
            Some(field) if field.count == 1 => Ok(self.numbers(bytes, tag, 1)?.and_then(|numbers| numbers.first().copied())),
            Some(field) => bail!("tag {tag} has {} values instead of one", field.count),
        }
    }
}
