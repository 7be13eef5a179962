//! A stored tile made a whole JPEG stream: the picture's shared tables in front, and a marker that says what its colours are.
//!
//! TIFF Technical Note 2: tables that all tiles share stand once, in the tag `JPEGTables`, and the tiles' streams leave
//! them out. What the colours are is said by the TIFF (`PhotometricInterpretation`); the stream's own word (JFIF, Adobe)
//! is often missing or wrong, so it is replaced by an Adobe marker. Written to be given any bytes.

use anyhow::{Result, bail, ensure};

use super::super::tiff::Colour;

const START: [u8; 2] = [0xFF, 0xD8];
const END: u8 = 0xD9;
const SCAN: u8 = 0xDA;
const QUANTISATION: u8 = 0xDB;
const HUFFMAN: u8 = 0xC4;
const ARITHMETIC: u8 = 0xCC;
const RESTART_INTERVAL: u8 = 0xDD;
const ADOBE: u8 = 0xEE;

/// One marker with what belongs to it: `FF`, its code, two bytes of length, the rest.
struct Segment<'a> {
    code: u8,
    /// From `FF` on.
    whole: &'a [u8],
    /// What follows in the stream.
    rest: &'a [u8],
}

/// The segment at the start of `bytes`.
fn segment(bytes: &[u8]) -> Result<Segment<'_>> {
    let [0xFF, ..] = bytes else { bail!("no JPEG marker where one must be") };
    let fill = bytes.iter().take_while(|&&byte| byte == 0xFF).count() - 1;
    let bytes = &bytes[fill..];
    let Some(&code) = bytes.get(1) else { bail!("the JPEG stream ends in a marker") };
    let length = match (code, bytes.get(2..4)) {
        (0x01 | 0xD0..=END, _) => 2, // these stand alone
        (_, Some(&[high, low])) => 2 + usize::from(u16::from_be_bytes([high, low])),
        _ => bail!("the JPEG stream ends in a marker"),
    };
    ensure!(length == 2 || length >= 4, "a JPEG segment is shorter than its own length");
    let Some((whole, rest)) = bytes.split_at_checked(length) else { bail!("the JPEG stream ends in segment {code:02X}") };
    Ok(Segment { code, whole, rest })
}

/// The segments of a `JPEGTables` value that a tile's stream may need; nothing of an empty value.
///
/// # Errors
/// It is no table stream.
pub(crate) fn tables(stored: &[u8]) -> Result<Vec<u8>> {
    let mut kept = Vec::new();
    if stored.is_empty() {
        return Ok(kept);
    }
    let Some(mut rest) = stored.strip_prefix(&START) else { bail!("the JPEG tables do not begin as JPEG does") };
    while !rest.is_empty() {
        let segment = segment(rest)?;
        match segment.code {
            END => break,
            QUANTISATION | HUFFMAN | ARITHMETIC | RESTART_INTERVAL => kept.extend_from_slice(segment.whole),
            SCAN => bail!("the JPEG tables hold a picture"),
            _ => {}
        }
        rest = segment.rest;
    }
    Ok(kept)
}

/// Writes the tile `stored` to `whole` as a stream of its own, with `tables` from [`tables`]. The tile must be `size` pixels
/// (width, height) of three colours of 8 bits. `whole` is emptied first and holds at most both inputs and 18 bytes.
///
/// # Errors
/// No JPEG, one of another size or kind; says what is there.
pub(crate) fn whole(tables: &[u8], colour: Colour, size: (u32, u32), stored: &[u8], whole: &mut Vec<u8>) -> Result<()> {
    let Some(mut rest) = stored.strip_prefix(&START) else { bail!("the stored tile does not begin as JPEG does") };
    whole.clear();
    whole.reserve(stored.len() + tables.len() + 18);
    whole.extend_from_slice(&START);
    let transform = u8::from(colour == Colour::YCbCr);
    whole.extend_from_slice(&[0xFF, ADOBE, 0, 14, b'A', b'd', b'o', b'b', b'e', 0, 100, 0, 0, 0, 0, transform]);
    whole.extend_from_slice(tables);
    let mut framed = false;
    loop {
        let segment = segment(rest)?;
        match segment.code {
            END => bail!("the stored tile holds no picture"),
            SCAN => {
                ensure!(framed, "the stored tile does not say its size");
                whole.extend_from_slice(rest);
                return Ok(());
            }
            // Notes of cameras and people: a browser would turn or recolour by some of them, and none is of the pixels.
            0xE0..=0xEF | 0xFE => {}
            code => {
                if matches!(code, 0xC0..=0xCF) && !matches!(code, HUFFMAN | 0xC8 | ARITHMETIC) {
                    check_frame(segment.whole, size)?;
                    framed = true;
                }
                whole.extend_from_slice(segment.whole);
            }
        }
        rest = segment.rest;
    }
}

/// Whether a stream that [`whole`] has written is of a kind that every browser shows: baseline or progressive, its codes Huffman's.
pub(crate) fn is_common(whole: &[u8]) -> bool {
    let mut rest = whole.get(START.len()..).unwrap_or_default();
    while let Ok(segment) = segment(rest) {
        match segment.code {
            0xC0..=0xC2 => return true,
            0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF | SCAN => return false,
            _ => rest = segment.rest,
        }
    }
    false
}

/// Checks a frame header: marker, length, bits, height, width, number of colours.
fn check_frame(frame: &[u8], (width, height): (u32, u32)) -> Result<()> {
    let Some(&[bits, h1, h0, w1, w0, colours]) = frame.get(4..10) else { bail!("the stored tile's size is cut short") };
    let (stored_width, stored_height) = (u32::from(u16::from_be_bytes([w1, w0])), u32::from(u16::from_be_bytes([h1, h0])));
    ensure!(bits == 8 && colours == 3, "the stored tile has {colours} colours of {bits} bits instead of 3 of 8");
    ensure!(
        (stored_width, stored_height) == (width, height),
        "the stored tile is {stored_width}x{stored_height} px instead of {width}x{height}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: [u8; 14] = [0xFF, 0xD8, 0xFF, 0xDB, 0, 4, 1, 2, 0xFF, 0xC4, 0, 2, 0xFF, 0xD9];
    const TILE: [u8; 27] = [
        0xFF, 0xD8, 0xFF, 0xE0, 0, 4, 9, 9, // JFIF: dropped
        0xFF, 0xC0, 0, 8, 8, 0, 32, 0, 64, 3, // a frame of 64 x 32 px
        0xFF, 0xDA, 0, 2, 7, 7, 7, 0xFF, 0xD9,
    ];

    #[test]
    fn tables_and_colours_come_before_the_picture() {
        let tables = tables(&TABLES).unwrap();
        assert_eq!(tables, TABLES[2..12]);
        let mut stream = Vec::new();
        whole(&tables, Colour::Rgb, (64, 32), &TILE, &mut stream).unwrap();
        let adobe = [0xFF, 0xEE, 0, 14, b'A', b'd', b'o', b'b', b'e', 0, 100, 0, 0, 0, 0, 0];
        assert_eq!(stream, [&START, adobe.as_slice(), &tables, &TILE[8..]].concat());
        whole(&tables, Colour::YCbCr, (64, 32), &TILE, &mut stream).unwrap();
        assert_eq!(stream[17], 1);
        assert!(is_common(&stream));
        let frame = stream.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
        stream[frame + 1] = 0xC9;
        assert!(!is_common(&stream), "arithmetic codes");
    }

    #[test]
    fn what_is_not_the_tile_is_refused_and_nothing_panics() {
        let mut stream = Vec::new();
        let error = whole(&[], Colour::Rgb, (32, 64), &TILE, &mut stream).unwrap_err().to_string();
        assert_eq!(error, "the stored tile is 64x32 px instead of 32x64");
        for length in 0..22 {
            assert!(whole(&[], Colour::Rgb, (64, 32), &TILE[..length], &mut stream).is_err(), "{length} bytes");
        }
        for length in [1, 3, 4, 5, 6, 7] {
            assert!(tables(&TABLES[..length]).is_err(), "{length} bytes");
        }
        assert!(tables(&[]).unwrap().is_empty());
    }
}
