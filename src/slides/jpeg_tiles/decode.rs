//! One stored tile, decoded by libjpeg-turbo, at full size or scaled in the transform. Reading, this is the only file that names `turbojpeg`.

use std::cell::RefCell;

use anyhow::{Context, Result, anyhow, ensure};
use turbojpeg::{Decompressor, Image, PixelFormat, ScalingFactor};

use super::stream;
use crate::slides::tiff::{Bytes, JpegTiles, StoredTile};

/// No stream of `n` pixels is longer than this many bytes each, with room for headers; a longer one is not what was stored.
const MOST_BYTES_A_PIXEL: u64 = 8;
const MOST_HEADER_BYTES: u64 = 1 << 16;

/// A thread's decoder and its two buffers, kept from tile to tile.
struct Decoder {
    turbo: Decompressor,
    stored: Vec<u8>,
    whole: Vec<u8>,
}

thread_local! {
    static DECODER: RefCell<Option<Decoder>> = const { RefCell::new(None) };
}

/// RGB pixels of a tile that is there, `[tile_height / scale, tile_width / scale, 3]`. `tables` are [`stream::tables`] of the picture.
///
/// A `scale` of 2, 4 or 8 keeps the lowest 4, 2 or 1 frequencies of each block of 8 pixels.
///
/// METHOD: the accurate integer transform and smooth colour upsampling, as OpenSlide asks of the same library; a stream
/// that the library warns of is an error here, because the pixels it would go on with are invented.
///
/// Memory, per thread: the stored bytes twice.
///
/// # Errors
/// What is wrong with the tile, without its place.
pub(super) fn decode(bytes: &impl Bytes, tiles: &JpegTiles, tables: &[u8], tile: StoredTile, scale: u32) -> Result<Vec<u8>> {
    with_stream(bytes, tiles, tables, tile, |turbo, whole| pixels(turbo, whole, tiles, scale))
}

/// A tile as a JPEG stream of its own; `None` where it is of a kind that only libraries know. `tables` are [`stream::tables`] of the picture.
///
/// METHOD: whether the stream is sound is seen by decoding it at the smallest scale, which reads all of it and transforms nearly nothing.
///
/// # Errors
/// As [`decode`].
pub(super) fn stream_of(bytes: &impl Bytes, tiles: &JpegTiles, tables: &[u8], tile: StoredTile) -> Result<Option<Vec<u8>>> {
    with_stream(bytes, tiles, tables, tile, |turbo, whole| {
        if !stream::is_common(whole) {
            return Ok(None);
        }
        pixels(turbo, whole, tiles, SMALLEST_SCALE)?;
        Ok(Some(whole.to_vec()))
    })
}

/// Decoding at 1/8 computes one frequency of each block of 8 pixels.
const SMALLEST_SCALE: u32 = 8;

/// Does `work` with this thread's decoder and the tile's whole stream.
fn with_stream<T>(
    bytes: &impl Bytes,
    tiles: &JpegTiles,
    tables: &[u8],
    tile: StoredTile,
    work: impl FnOnce(&mut Decompressor, &[u8]) -> Result<T>,
) -> Result<T> {
    let (width, height) = (tiles.grid.tile_width, tiles.grid.tile_height);
    let most = u64::from(width) * u64::from(height) * MOST_BYTES_A_PIXEL + MOST_HEADER_BYTES;
    ensure!(tile.length <= most, "its stored length is {} bytes, more than {width}x{height} px can take", tile.length);
    DECODER.with_borrow_mut(|slot| {
        let decoder = match slot {
            Some(decoder) => decoder,
            none => none.insert(Decoder { turbo: Decompressor::new()?, stored: Vec::new(), whole: Vec::new() }),
        };
        decoder.stored.resize(tile.length as usize, 0);
        bytes
            .read_at(tile.offset, &mut decoder.stored)
            .with_context(|| format!("{} bytes at byte {} of a file of {} cannot be read", tile.length, tile.offset, bytes.length()))?;
        stream::whole(tables, tiles.colour, (width, height), &decoder.stored, &mut decoder.whole)?;
        work(&mut decoder.turbo, &decoder.whole)
    })
}

fn pixels(turbo: &mut Decompressor, whole: &[u8], tiles: &JpegTiles, scale: u32) -> Result<Vec<u8>> {
    // Scales are offered for whole blocks only; elsewhere the library rounds up.
    let (width, height) = (tiles.grid.tile_width.div_ceil(scale) as usize, tiles.grid.tile_height.div_ceil(scale) as usize);
    turbo.set_scaling_factor(ScalingFactor::new(1, scale as usize))?;
    let mut pixels = vec![0; width * height * 3];
    let image = Image { pixels: pixels.as_mut_slice(), width, pitch: width * 3, height, format: PixelFormat::RGB };
    turbo.decompress(whole, image).map_err(|error| anyhow!("libjpeg-turbo: {error}"))?;
    Ok(pixels)
}
