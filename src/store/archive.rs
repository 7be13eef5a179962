//! The directory of a zip archive as `torch.save` writes it: members that are stored as they are, one after the other.
//!
//! Everything that makes a zip file ambiguous or larger than it is is refused: compressed and encrypted members, members that overlap, two of
//! one name, names that lead out of a folder. What is left is never larger than the file. Memory: the directory, [`MOST_DIRECTORY`] at most.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, Result, anyhow, bail, ensure};
use flate2::Crc;

use super::pickle::shown;

/// A directory of a million members is smaller.
const MOST_DIRECTORY: u64 = 64 << 20;
/// The end record with the longest comment.
const END_REACH: u64 = 22 + 0xffff;
const DAMAGED: &str = "the archive is damaged or cut short";

/// A member: bytes of the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    /// From the beginning of the file.
    pub(super) at: u64,
    /// Bytes.
    pub(super) size: u64,
    crc: u32,
}

/// Members by name.
///
/// # Errors
/// What the module refuses, by the member's name.
pub(super) fn members(source: &mut (impl Read + Seek)) -> Result<BTreeMap<String, Member>> {
    let (start, length, count) = directory(source)?;
    let mut bytes = vec![0; usize::try_from(length)?];
    source.seek(SeekFrom::Start(start))?;
    source.read_exact(&mut bytes).context(DAMAGED)?;
    let mut rest = Bytes(&bytes);
    let mut members = BTreeMap::new();
    for _ in 0..count {
        let (name, member) = entry(&mut rest, source)?;
        if members.insert(name.clone(), member).is_some() {
            bail!("the archive has two members '{}'", shown(&name));
        }
    }
    ensure!(rest.0.is_empty(), DAMAGED);
    let mut places: Vec<(&Member, &String)> = members.iter().map(|(name, member)| (member, name)).collect();
    places.sort_by_key(|(member, _)| (member.at, member.size));
    for (place, (member, name)) in places.iter().enumerate() {
        let limit = places.get(place + 1).map_or(start, |(next, _)| next.at);
        let inside = member.at.checked_add(member.size).is_some_and(|end| end <= limit);
        ensure!(inside, "member '{}' reaches into what follows it", shown(name));
    }
    Ok(members)
}

impl Member {
    /// Its content.
    ///
    /// # Errors
    /// More than `most` bytes; not the content that it was written with.
    pub(super) fn read(&self, source: &mut (impl Read + Seek), most: u64) -> Result<Vec<u8>> {
        ensure!(self.size <= most, "{} bytes, where {most} are the most", self.size);
        let mut content = Vec::new();
        source.seek(SeekFrom::Start(self.at))?;
        source.take(self.size).read_to_end(&mut content)?;
        let mut crc = Crc::new();
        crc.update(&content);
        ensure!(content.len() as u64 == self.size && crc.sum() == self.crc, DAMAGED);
        Ok(content)
    }

    /// Compares the content with its checksum.
    ///
    /// # Errors
    /// They differ, or the file cannot be read.
    pub(super) fn check(&self, source: &mut (impl Read + Seek)) -> Result<()> {
        let (mut crc, mut left, mut piece) = (Crc::new(), self.size, vec![0; 1 << 20]);
        source.seek(SeekFrom::Start(self.at))?;
        while left > 0 {
            let part = left.min(piece.len() as u64) as usize;
            source.read_exact(&mut piece[..part]).context(DAMAGED)?;
            crc.update(&piece[..part]);
            left -= part as u64;
        }
        ensure!(crc.sum() == self.crc, "its checksum is another: the file is damaged");
        Ok(())
    }
}

/// Where the directory is, its length in bytes, and how many members it lists.
fn directory(source: &mut (impl Read + Seek)) -> Result<(u64, u64, u64)> {
    let length = source.seek(SeekFrom::End(0))?;
    let reach = length.min(END_REACH);
    source.seek(SeekFrom::Start(length - reach))?;
    let mut tail = Vec::new();
    source.take(reach).read_to_end(&mut tail)?;
    let place = tail.windows(4).rposition(|bytes| bytes == b"PK\x05\x06").context(DAMAGED)?;
    let end = length - reach + place as u64;
    let mut record = Bytes(&tail[place + 4..]);
    record.skip(6)?;
    let (mut count, mut size, mut start) = (u64::from(record.u16()?), u64::from(record.u32()?), u64::from(record.u32()?));
    let comment = usize::from(record.u16()?);
    ensure!(record.0.len() == comment, DAMAGED);
    // Large archives: the numbers do not fit, and a record with wide ones stands before this one.
    if count == 0xffff || size == 0xffff_ffff || start == 0xffff_ffff {
        let before = end.checked_sub(20).context(DAMAGED)?;
        let locator = exactly::<20>(source, before)?;
        let mut locator = Bytes(&locator);
        ensure!(locator.u32()? == 0x0706_4b50, DAMAGED);
        locator.skip(4)?;
        let wide = exactly::<56>(source, locator.u64()?)?;
        let mut wide = Bytes(&wide);
        ensure!(wide.u32()? == 0x0606_4b50, DAMAGED);
        wide.skip(28)?;
        (count, size, start) = (wide.u64()?, wide.u64()?, wide.u64()?);
    }
    ensure!(start.checked_add(size).is_some_and(|stop| stop <= end) && size <= MOST_DIRECTORY, DAMAGED);
    ensure!(count.checked_mul(46).is_some_and(|least| least <= size), DAMAGED);
    Ok((start, size, count))
}

/// One entry of the directory, and where its content begins.
fn entry(rest: &mut Bytes, source: &mut (impl Read + Seek)) -> Result<(String, Member)> {
    ensure!(rest.u32()? == 0x0201_4b50, DAMAGED);
    rest.skip(4)?;
    let (flags, method) = (rest.u16()?, rest.u16()?);
    rest.skip(4)?;
    let (crc, packed, size) = (rest.u32()?, rest.u32()?, rest.u32()?);
    let (name, extra, comment) = (rest.u16()?, rest.u16()?, rest.u16()?);
    rest.skip(8)?;
    let header = rest.u32()?;
    let name = std::str::from_utf8(rest.take(usize::from(name))?).context("a member whose name is not UTF-8")?.to_owned();
    let [size, packed, header] = widened([size, packed, header], rest.take(usize::from(extra))?)?;
    rest.skip(usize::from(comment))?;
    let said = shown(&name);
    let leads_out = name.starts_with('/') || name.contains(['\\', '\0', ':']) || name.split('/').any(|part| part == "..");
    ensure!(!name.is_empty() && !leads_out, "a member is called '{said}'");
    ensure!(method == 0 && packed == size, "member '{said}' is compressed; torch.save stores its members as they are");
    ensure!(flags & 1 == 0, "member '{said}' is encrypted");
    let local = exactly::<30>(source, header)?;
    let mut local = Bytes(&local);
    ensure!(local.u32()? == 0x0403_4b50, DAMAGED);
    local.skip(22)?;
    let skipped = u64::from(local.u16()?) + u64::from(local.u16()?);
    let at = header.checked_add(30 + skipped).context(DAMAGED)?;
    Ok((name, Member { at, size, crc }))
}

/// Numbers that did not fit stand in the extra field of kind 1, in this order.
fn widened(numbers: [u32; 3], extra: &[u8]) -> Result<[u64; 3]> {
    let mut rest = Bytes(extra);
    let mut wide = Bytes(&[]);
    while rest.0.len() >= 4 {
        let (kind, length) = (rest.u16()?, rest.u16()?);
        let field = rest.take(usize::from(length))?;
        if kind == 1 {
            wide = Bytes(field);
        }
    }
    let mut widened = numbers.map(u64::from);
    for number in &mut widened {
        if *number == 0xffff_ffff {
            *number = wide.u64()?;
        }
    }
    Ok(widened)
}

fn exactly<const N: usize>(source: &mut (impl Read + Seek), at: u64) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    source.seek(SeekFrom::Start(at))?;
    source.read_exact(&mut bytes).context(DAMAGED)?;
    Ok(bytes)
}

/// Little-endian numbers from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or_else(|| anyhow!(DAMAGED))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn skip(&mut self, count: usize) -> Result<()> {
        self.take(count).map(drop)
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.take(2)?.try_into()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into()?))
    }
}
