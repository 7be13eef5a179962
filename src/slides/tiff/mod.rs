//! The TIFF container: its directories, and where the JPEG tiles of a picture lie. Classic and BigTIFF, both byte orders.
//!
//! TIFF 6.0 (Adobe 1992) with Technical Note 2, and the BigTIFF layout. Written to be given any bytes: a directory is
//! visited once, every count is checked against the file's length before memory is taken, and nothing but directories
//! and the arrays that are asked for is read. Pixels are not decoded here.

mod field;
mod tiles;

use std::collections::BTreeSet;
use std::io;

use anyhow::{Context, Result, bail, ensure};

use field::{Field, Layout};
pub(crate) use tiles::{Colour, Grid, JpegTiles, StoredTile};

/// More directories than any slide has; a chain that is longer is damaged.
const MOST_DIRECTORIES: usize = 1024;

/// Bytes that can be read at any place: a file, or a slice.
pub(crate) trait Bytes {
    /// How many there are.
    fn length(&self) -> u64;

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// The bytes end before, or cannot be read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// A file of a known length, read without moving any position, by many threads at once.
pub(crate) struct FileBytes {
    file: std::fs::File,
    length: u64,
}

impl FileBytes {
    /// # Errors
    /// As the system's.
    pub(crate) fn open(path: &std::path::Path) -> io::Result<Self> {
        let file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }
}

impl Bytes for FileBytes {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buffer, offset)
    }
}

impl Bytes for [u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let part = start.and_then(|start| self.get(start..start.checked_add(buffer.len())?)).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(())
    }
}

/// One picture's directory: the fields that this room understands.
pub(crate) struct Directory {
    layout: Layout,
    fields: Vec<Field>,
}

/// The directories of the main chain, in file order; those below a directory are found by [`below`].
///
/// Memory: at most 1024 directories of at most 14 fields each, and one directory's raw entries (1.3 MB) while it is read.
///
/// # Errors
/// No TIFF, a chain that returns to itself or leaves the file, a directory cut short.
pub(crate) fn directories(bytes: &(impl Bytes + ?Sized)) -> Result<Vec<Directory>> {
    let (layout, first) = Layout::of(bytes)?;
    let (mut found, mut visited, mut next) = (Vec::new(), BTreeSet::new(), first);
    while next != 0 {
        ensure!(visited.insert(next), "the chain of directories returns to itself at byte {next}");
        ensure!(found.len() < MOST_DIRECTORIES, "there are more than {MOST_DIRECTORIES} directories");
        let (fields, following) = layout.directory(bytes, next).with_context(|| format!("the directory at byte {next}"))?;
        found.push(Directory { layout, fields });
        next = following;
    }
    if found.is_empty() {
        bail!("there is no directory");
    }
    Ok(found)
}

/// The directories that `parent` names as its own (tag SubIFDs): the coarser levels of an OME-TIFF. Theirs are not followed.
///
/// # Errors
/// As [`directories`].
pub(crate) fn below(bytes: &(impl Bytes + ?Sized), parent: &Directory) -> Result<Vec<Directory>> {
    let layout = parent.layout;
    let mut visited = BTreeSet::new();
    let offsets = parent.numbers(bytes, field::SUB_DIRECTORIES, MOST_DIRECTORIES as u64)?.unwrap_or_default();
    let one = |offset: u64| {
        ensure!(visited.insert(offset), "the directory at byte {offset} is named twice");
        let (fields, _) = layout.directory(bytes, offset).with_context(|| format!("the directory at byte {offset}"))?;
        Ok(Directory { layout, fields })
    };
    offsets.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of one directory: 100 x 50 px in tiles of 64 x 32 px, in any layout.
    fn sample(big_endian: bool, big: bool) -> Vec<u8> {
        let number = |value: u64, bytes: usize| {
            let all = if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
            if big_endian { all[8 - bytes..].to_vec() } else { all[..bytes].to_vec() }
        };
        let word = if big { 8 } else { 4 };
        let mut file = if big_endian { b"MM".to_vec() } else { b"II".to_vec() };
        file.extend(number(if big { 43 } else { 42 }, 2));
        if big {
            file.extend([number(8, 2), number(0, 2)].concat());
        }
        let arrays = file.len() + word;
        let offsets: Vec<u64> = (0..4).map(|tile| 1000 + tile).collect();
        let directory = arrays + 4 * 4 + 4 * 2 + 3 * 2 + 2;
        file.extend(number(directory as u64, word));
        offsets.iter().for_each(|&offset| file.extend(number(offset, 4)));
        [7, 0, 9, 11].iter().for_each(|&length| file.extend(number(length, 2)));
        [8, 8, 8, 0].iter().for_each(|&bits| file.extend(number(bits, 2)));
        let entries: [(u64, u64, u64, u64); 12] = [
            (256, 4, 1, 100),
            (257, 3, 1, 50),
            (258, 3, 3, arrays as u64 + 24),
            (259, 3, 1, 7),
            (262, 3, 1, 6),
            (277, 3, 1, 3),
            (284, 3, 1, 1),
            (322, 3, 1, 64),
            (323, 3, 1, 32),
            (324, 4, 4, arrays as u64),
            (325, 3, 4, arrays as u64 + 16),
            (65000, 3, 1, 1),
        ];
        file.extend(number(entries.len() as u64, if big { 8 } else { 2 }));
        for (tag, kind, count, value) in entries {
            file.extend([number(tag, 2), number(kind, 2), number(count, word)].concat());
            let size = if kind == 3 { 2 } else { 4 };
            // Values that fit stand in the entry; BigTIFF has room for four 16-bit numbers.
            let mut cell = match (tag, big) {
                (258, true) => [8, 8, 8].iter().flat_map(|&bits| number(bits, 2)).collect(),
                (325, true) => [7, 0, 9, 11].iter().flat_map(|&length| number(length, 2)).collect(),
                _ if count * size > word as u64 => number(value, word),
                _ => number(value, size as usize),
            };
            cell.resize(word, 0);
            file.extend(cell);
        }
        file.extend(number(0, word));
        file
    }

    #[test]
    fn every_layout_says_the_same() {
        for (big_endian, big) in [(false, false), (false, true), (true, false), (true, true)] {
            let file = sample(big_endian, big);
            let directories = directories(file.as_slice()).unwrap();
            assert_eq!(directories.len(), 1);
            let grid = Grid { width: 100, height: 50, tile_width: 64, tile_height: 32 };
            assert_eq!(directories[0].grid(file.as_slice()).unwrap(), Some(grid));
            let tiles = directories[0].jpeg_tiles(file.as_slice()).unwrap();
            assert_eq!((tiles.grid, tiles.colour, tiles.tables), (grid, Colour::YCbCr, Vec::new()));
            assert_eq!(tiles.tiles[3], StoredTile { offset: 1003, length: 11 });
            assert_eq!(tiles.tiles[1].length, 0);
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error_never_a_panic() {
        for big in [false, true] {
            let file = sample(false, big);
            for length in 0..file.len() {
                let part = &file[..length];
                assert!(directories(part).and_then(|found| found[0].jpeg_tiles(part)).is_err(), "{length} bytes");
            }
        }
    }

    #[test]
    fn loops_and_counts_beyond_the_file_are_refused() {
        let mut file = sample(false, false);
        let next = file.len() - 4;
        let first = u32::from_le_bytes(file[4..8].try_into().unwrap());
        file[next..].copy_from_slice(&first.to_le_bytes());
        assert!(directories(file.as_slice()).err().unwrap().to_string().contains("returns to itself"));

        let mut file = sample(false, false);
        let offsets = file.windows(2).position(|tag| tag == 324_u16.to_le_bytes()).unwrap();
        file[offsets + 4..offsets + 8].copy_from_slice(&u32::MAX.to_le_bytes());
        let found = directories(file.as_slice()).unwrap();
        let error = format!("{:#}", found[0].jpeg_tiles(file.as_slice()).err().unwrap());
        assert!(error.contains("tag 324") && error.contains("4294967295"), "{error}");
    }
}
