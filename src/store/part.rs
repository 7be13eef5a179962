//! The finished rows of a bag in work, `bags/.<id>.part`: a journal, so that saving costs what is new and not what is there.
//!
//! First a line that names what is extracted; then blocks of rows, each with a sha256 over itself and all before it. A block that a
//! kill or a full disk cut short does not verify: it and what follows are dropped, and the rows before it are whole.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use half::f16;
use sha2::{Digest, Sha256};

use super::bag::{QUALITY, Seen};
use super::files;
use super::values::{Dtype, Values};
use crate::ground::tile_status::TileStatus;

const SCHEMA: &str = "wsi-part-1";

const DIGEST: usize = 32;

/// What has been extracted of a slide: the first tiles of its plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Of each tile so far, and of those with pixels.
    pub seen: Seen,
    /// Features of those with pixels, `[N,D]`.
    pub values: Values,
    /// D
    pub width: usize,
}

impl Rows {
    /// No tile yet.
    pub fn none(dtype: Dtype, width: usize) -> Self {
        Self { seen: Seen { status: Vec::new(), quality: Vec::new() }, values: Values::with_capacity(dtype, 0), width }
    }

    /// Tiles of the plan so far.
    pub fn tiles(&self) -> usize {
        self.seen.status.len()
    }

    /// Puts what follows in the plan after what is there.
    pub fn extend(&mut self, more: &Self) {
        self.extend_from(more, 0, 0);
    }

    fn extend_from(&mut self, more: &Self, tile: usize, row: usize) {
        self.seen.status.extend_from_slice(&more.seen.status[tile..]);
        self.seen.quality.extend_from_slice(&more.seen.quality[row..]);
        self.values.extend_from(&more.values, row * self.width);
    }

    /// What comes after the first `tiles` of the plan.
    pub fn after(&self, tiles: usize) -> Self {
        let row = self.seen.status[..tiles].iter().filter(|&&status| status == TileStatus::Ok).count();
        let mut after = Self::none(self.values.dtype(), self.width);
        after.extend_from(self, tiles, row);
        after
    }

    /// Tiles, tiles with pixels, then status, quality and values.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for count in [self.seen.status.len(), self.seen.quality.len()] {
            bytes.extend((count as u64).to_le_bytes());
        }
        bytes.extend(self.seen.status.iter().map(|&status| status as u8));
        bytes.extend(self.seen.quality.as_flattened().iter().flat_map(|value| value.to_le_bytes()));
        bytes.extend(self.values.to_bytes(0));
        bytes
    }

    fn from_bytes(bytes: &[u8], dtype: Dtype, width: usize) -> Result<Self> {
        let (counts, bytes) = bytes.split_at_checked(16).context("no counts")?;
        let count = |at: usize| u64::from_le_bytes(counts[at..at + 8].try_into().expect("eight bytes"));
        let quality_bytes = QUALITY.len() * size_of::<f16>();
        let expected = |tiles: u64, rows: u64| {
            let row = (quality_bytes + width * dtype.bytes()) as u64;
            tiles.checked_add(rows.checked_mul(row)?)
        };
        ensure!(expected(count(0), count(8)) == Some(bytes.len() as u64), "counts and bytes differ");
        let (status, bytes) = bytes.split_at(count(0) as usize);
        let (quality, bytes) = bytes.split_at(count(8) as usize * quality_bytes);
        let mut rows = Self::none(dtype, width);
        rows.seen.status = status.iter().map(|&code| TileStatus::of_code(code)).collect::<Option<_>>().context("an unknown status")?;
        let numbers: Vec<f16> = quality.as_chunks().0.iter().map(|&bytes| f16::from_le_bytes(bytes)).collect();
        rows.seen.quality = numbers.as_chunks().0.to_vec();
        rows.values.extend_from_bytes(bytes)?;
        let ok = rows.seen.status.iter().filter(|&&status| status == TileStatus::Ok).count();
        ensure!(ok == rows.seen.quality.len(), "statuses and rows differ");
        Ok(rows)
    }
}

/// The journal of one slide.
#[derive(Debug)]
pub struct Part {
    path: PathBuf,
    /// The first line.
    head: Vec<u8>,
    /// Over all that is whole.
    digest: [u8; DIGEST],
    /// Bytes that are whole; 0 before the first rows are saved, when there is no file.
    whole: u64,
}

impl Part {
    /// Where the rows of the bag `bag` wait for the others.
    pub fn path(bag: &Path) -> PathBuf {
        bag.with_file_name(format!(".{}.part", bag.file_stem().unwrap_or_default().to_string_lossy()))
    }

    /// The rows that an interrupted call left for the bag at `bag`, of at most `tiles` tiles; none where `identity`, which names everything that
    /// decides a number of the bag, is another, or the file is damaged from its beginning. What is of no use is removed.
    ///
    /// # Errors
    /// Names the file, which cannot be read, cut or removed.
    pub fn open(bag: &Path, identity: &str, dtype: Dtype, width: usize, tiles: usize) -> Result<(Self, Rows)> {
        let head = format!("{}\n", serde_json::json!({"part": SCHEMA, "identity": identity})).into_bytes();
        let path = Self::path(bag);
        let digest = Sha256::digest(&head).into();
        let mut part = Self { path, head, digest, whole: 0 };
        let mut rows = Rows::none(dtype, width);
        part.read(&mut rows, tiles).with_context(|| format!("cannot read '{}'; remove the file", part.path.display()))?;
        Ok((part, rows))
    }

    fn read(&mut self, rows: &mut Rows, tiles: usize) -> Result<()> {
        let mut file = match OpenOptions::new().read(true).write(true).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let length = file.metadata()?.len();
        let mut head = vec![0; self.head.len().min(length as usize)];
        file.read_exact(&mut head)?;
        if head == self.head {
            let mut end = head.len() as u64;
            while let Some((block, digest)) = next_block(&mut file, length - end, &self.digest)? {
                let Ok(more) = Rows::from_bytes(&block, rows.values.dtype(), rows.width) else { break };
                if rows.tiles() + more.tiles() > tiles {
                    break;
                }
                rows.extend(&more);
                end += (size_of::<u64>() + block.len() + DIGEST) as u64;
                (self.digest, self.whole) = (digest, end);
            }
        }
        if self.whole == 0 {
            return files::remove(&self.path);
        }
        Ok(file.set_len(self.whole)?)
    }

    /// Puts rows after those that are saved; when it returns they are on the disk.
    ///
    /// # Errors
    /// Names the file; what was saved before stays whole.
    pub fn append(&mut self, rows: &Rows) -> Result<()> {
        let block = rows.to_bytes();
        let digest = chained(&self.digest, &block);
        let written = self.write(&block, &digest).with_context(|| format!("cannot write '{}'", self.path.display()));
        match written {
            Ok(end) => (self.digest, self.whole) = (digest, end),
            // A torn block does not verify; taking it away only gives its space back.
            Err(_) if self.whole == 0 => drop(std::fs::remove_file(&self.path)),
            Err(_) => drop(OpenOptions::new().write(true).open(&self.path).and_then(|file| file.set_len(self.whole))),
        }
        written.map(drop)
    }

    fn write(&self, block: &[u8], digest: &[u8; DIGEST]) -> Result<u64> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        files::create_folder(folder)?;
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&self.path)?;
        if self.whole == 0 {
            file.set_len(0)?;
            file.write_all(&self.head)?;
        } else {
            file.seek(SeekFrom::Start(self.whole))?;
        }
        file.write_all(&(block.len() as u64).to_le_bytes())?;
        file.write_all(block)?;
        file.write_all(digest)?;
        file.sync_all()?;
        if self.whole == 0 {
            File::open(folder)?.sync_all()?;
        }
        Ok(file.stream_position()?)
    }

    /// Takes the file away, once its bag is written or nobody will continue it.
    ///
    /// # Errors
    /// Names the file.
    pub fn remove(self) -> Result<()> {
        files::remove(&self.path)
    }
}

/// The next block of `left` bytes, if it is whole, with the digest of all up to it.
fn next_block(file: &mut File, left: u64, before: &[u8; DIGEST]) -> Result<Option<(Vec<u8>, [u8; DIGEST])>> {
    let frame = (size_of::<u64>() + DIGEST) as u64;
    if left < frame {
        return Ok(None);
    }
    let mut length = [0; size_of::<u64>()];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > left - frame {
        return Ok(None);
    }
    let (mut block, mut stated) = (vec![0; length as usize], [0; DIGEST]);
    file.read_exact(&mut block)?;
    file.read_exact(&mut stated)?;
    let digest = chained(before, &block);
    Ok((digest == stated).then_some((block, digest)))
}

fn chained(before: &[u8; DIGEST], block: &[u8]) -> [u8; DIGEST] {
    Sha256::new().chain_update(before).chain_update(block).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(first: usize, tiles: usize, dtype: Dtype) -> Rows {
        let status: Vec<TileStatus> =
            (first..first + tiles).map(|i| if i % 5 == 3 { TileStatus::Unreadable } else { TileStatus::Ok }).collect();
        let ok = status.iter().filter(|&&status| status == TileStatus::Ok).count();
        let numbers = (0..ok * 3).map(|i| (first + i) as f32 / 8.0);
        let values = match dtype {
            Dtype::F16 => Values::Half(numbers.map(f16::from_f32).collect()),
            Dtype::F32 => Values::Single(numbers.collect()),
        };
        Rows { seen: Seen { status, quality: vec![[f16::ONE; QUALITY.len()]; ok] }, values, width: 3 }
    }

    #[test]
    fn what_was_saved_comes_back_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        for dtype in [Dtype::F16, Dtype::F32] {
            let bag = folder.path().join("bags/a.h5");
            let whole = rows(0, 20, dtype);
            let open = || Part::open(&bag, "x", dtype, 3, 20).unwrap();
            let (mut part, nothing) = open();
            assert_eq!((nothing.tiles(), Part::path(&bag).exists()), (0, false), "no file before there is something to save");
            part.append(&rows(0, 7, dtype)).unwrap();
            let (mut part, mut found) = open();
            assert_eq!(found, rows(0, 7, dtype));
            found.extend(&rows(7, 13, dtype));
            part.append(&found.after(7)).unwrap();
            let (part, found) = open();
            assert_eq!(found.tiles(), whole.tiles());
            assert_eq!((found.seen.status, found.values.len()), (whole.seen.status, whole.values.len()));
            part.remove().unwrap();
            assert!(!Part::path(&bag).exists());
        }
    }

    #[test]
    fn a_cut_or_changed_file_keeps_the_rows_before_and_another_recipe_none() {
        let folder = tempfile::tempdir().unwrap();
        let bag = folder.path().join("a.h5");
        let open = |identity: &str| Part::open(&bag, identity, Dtype::F16, 3, 20).unwrap();
        let (mut part, _) = open("x");
        part.append(&rows(0, 7, Dtype::F16)).unwrap();
        let first = std::fs::metadata(Part::path(&bag)).unwrap().len() as usize;
        part.append(&rows(7, 5, Dtype::F16)).unwrap();
        let bytes = std::fs::read(Part::path(&bag)).unwrap();
        for length in 0..bytes.len() {
            std::fs::write(Part::path(&bag), &bytes[..length]).unwrap();
            let (_, found) = open("x");
            assert_eq!(found.tiles(), if length < first { 0 } else { 7 }, "cut at {length}");
            assert_eq!(Part::path(&bag).exists(), length >= first, "what is of no use is removed");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x40;
            std::fs::write(Part::path(&bag), &changed).unwrap();
            let (mut part, found) = open("x");
            assert_eq!(found.tiles(), if at < first { 0 } else { 7 }, "changed at {at}");
            part.append(&rows(found.tiles(), 2, Dtype::F16)).unwrap();
            assert_eq!(open("x").1.tiles(), found.tiles() + 2);
        }
        std::fs::write(Part::path(&bag), &bytes).unwrap();
        assert_eq!(Part::open(&bag, "x", Dtype::F16, 3, 11).unwrap().1.tiles(), 7, "more tiles than the plan has");
        std::fs::write(Part::path(&bag), &bytes).unwrap();
        assert_eq!((open("y").1.tiles(), Part::path(&bag).exists()), (0, false));
    }
}
