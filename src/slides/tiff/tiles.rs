//! A picture that is stored as JPEG tiles: its grid, and where each tile lies.

use anyhow::{Result, bail, ensure};

use super::field::{
    BITS_PER_SAMPLE, COMPRESSION, HEIGHT, JPEG_TABLES, PHOTOMETRIC, PLANAR_CONFIGURATION, SAMPLE_FORMAT, SAMPLES_PER_PIXEL,
    TILE_BYTE_COUNTS, TILE_HEIGHT, TILE_OFFSETS, TILE_WIDTH, WIDTH,
};
use super::{Bytes, Directory};

/// Longest side of a stored tile, pixels: a decoded one then takes 48 MiB at most.
const LONGEST_TILE: u32 = 4096;
/// Quantisation and Huffman tables take a few hundred bytes; more than this is no table.
const MOST_TABLE_BYTES: u64 = 1 << 16;

/// Numbers a pixel of any picture that is looked at.
const MOST_SAMPLES: u64 = 64;

/// A picture and the tiles it is cut into, pixels; the last column and row of tiles reach past the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) tile_width: u32,
    pub(crate) tile_height: u32,
}

impl Grid {
    /// Tiles in a row.
    pub(crate) fn columns(self) -> u32 {
        self.width.div_ceil(self.tile_width)
    }

    /// Tiles in a column.
    pub(crate) fn rows(self) -> u32 {
        self.height.div_ceil(self.tile_height)
    }
}

/// What the three numbers of a stored pixel are, whatever the JPEG stream says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Red, green, blue, as some scanners store them.
    Rgb,
    /// Luminance and two colour differences, as JPEG usually has.
    YCbCr,
}

/// Where one tile's stream lies in the file, bytes. Length 0: never scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredTile {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// A picture of 8-bit colour pixels in JPEG tiles.
pub(crate) struct JpegTiles {
    pub(crate) grid: Grid,
    pub(crate) colour: Colour,
    /// The tables that the tiles' streams leave out (a JPEG stream of its own), or nothing.
    pub(crate) tables: Vec<u8>,
    /// Row by row, `columns · rows` of them, 16 bytes each.
    pub(crate) tiles: Vec<StoredTile>,
}

impl Directory {
    /// The grid of a tiled picture; `None` for one in strips.
    ///
    /// # Errors
    /// Sides of 0, or larger than any slide's.
    pub(crate) fn grid(&self, bytes: &(impl Bytes + ?Sized)) -> Result<Option<Grid>> {
        let side = |tag: u16, most: u32| match self.number(bytes, tag)? {
            None => Ok(None),
            Some(side) if (1..=u64::from(most)).contains(&side) => Ok(Some(side as u32)),
            Some(side) => bail!("tag {tag} is a side of {side} pixels"),
        };
        let Some(tile_width) = side(TILE_WIDTH, LONGEST_TILE)? else { return Ok(None) };
        let (Some(tile_height), Some(width), Some(height)) =
            (side(TILE_HEIGHT, LONGEST_TILE)?, side(WIDTH, i32::MAX as u32)?, side(HEIGHT, i32::MAX as u32)?)
        else {
            bail!("a tiled picture does not say its size");
        };
        Ok(Some(Grid { width, height, tile_width, tile_height }))
    }

    /// The JPEG tiles of this picture.
    ///
    /// Memory: 16 bytes a tile, and their arrays in the file while they are read.
    ///
    /// # Errors
    /// A picture that is stored in another way, or an array that has not one value a tile; says which.
    pub(crate) fn jpeg_tiles(&self, bytes: &(impl Bytes + ?Sized)) -> Result<JpegTiles> {
        let Some(grid) = self.grid(bytes)? else { bail!("it is stored in strips, not in tiles") };
        let number = |tag: u16, usual: u64| Ok::<_, anyhow::Error>(self.number(bytes, tag)?.unwrap_or(usual));
        match number(COMPRESSION, 1)? {
            7 => {}
            other => bail!("its tiles are stored by compression {other}, not as JPEG (7)"),
        }
        let samples = number(SAMPLES_PER_PIXEL, 1)?;
        ensure!(samples == 3, "its pixels have {samples} numbers instead of 3");
        let bits = self.numbers(bytes, BITS_PER_SAMPLE, MOST_SAMPLES)?.unwrap_or_else(|| vec![1]);
        if let Some(other) = bits.iter().find(|&&bits| bits != 8) {
            bail!("its colours have {other} bits instead of 8");
        }
        let formats = self.numbers(bytes, SAMPLE_FORMAT, MOST_SAMPLES)?.unwrap_or_default();
        ensure!(formats.iter().all(|&format| format == 1), "its pixels are not unsigned whole numbers");
        ensure!(number(PLANAR_CONFIGURATION, 1)? == 1, "its colours are stored apart");
        let colour = match number(PHOTOMETRIC, 0)? {
            2 => Colour::Rgb,
            6 => Colour::YCbCr,
            other => bail!("its colours are of kind {other}, neither RGB (2) nor YCbCr (6)"),
        };
        let tables = self.raw(bytes, JPEG_TABLES, MOST_TABLE_BYTES)?.unwrap_or_default();

        let wanted = u64::from(grid.columns()) * u64::from(grid.rows());
        let array = |tag: u16| self.numbers(bytes, tag, wanted);
        let (Some(offsets), Some(lengths)) = (array(TILE_OFFSETS)?, array(TILE_BYTE_COUNTS)?) else {
            bail!("it does not say where its tiles lie");
        };
        ensure!(
            offsets.len() as u64 == wanted && lengths.len() as u64 == wanted,
            "it names {} places and {} lengths for {wanted} tiles",
            offsets.len(),
            lengths.len()
        );
        let tiles = offsets.into_iter().zip(lengths).map(|(offset, length)| StoredTile { offset, length }).collect();
        Ok(JpegTiles { grid, colour, tables, tiles })
    }
}
