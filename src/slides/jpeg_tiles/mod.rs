//! Slides that are TIFFs of JPEG tiles, read at the speed of the decoder: each stored tile is decoded once, whatever the grid.
//!
//! OpenSlide opens the same file first and its word on levels, sizes, pixel size and bounds is taken; this reader only
//! brings the pixels, where every level is a plain grid of JPEG tiles. Whatever is not is left to OpenSlide, with the reason.
//!
//! Beside OpenSlide: it asks the same library for the same transform, so pixels are the same. Where a place is not a whole
//! pixel of a coarser level, OpenSlide blends four neighbours; here the nearest whole pixels are taken, unblurred.

mod cache;
mod decode;
mod stream;

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use image::RgbImage;

use self::cache::{Cache, Decoded};
use super::openslide::OpenSlideReader;
use super::tiff::{self, Directory, FileBytes, Grid, JpegTiles};
use super::{Slide, display_name};
use crate::ground::reader::Reader;
use crate::ground::units::{Coord, Geometry, LevelGeometry, Size};

/// Scales offered where a tile's sides are whole multiples of 16 pixels, so that no block reaches past its tile.
const SCALES: [u32; 4] = [1, 2, 4, 8];

/// OpenSlide's names of formats whose levels are plain grids of stored tiles.
const PLAIN_GRIDS: [&str; 2] = ["aperio", "generic-tiff"];

/// A slide whose stored tiles are read by us.
///
/// Memory: 16 bytes a stored tile (a slide of 100,000² px: 3 MB), the cache of decoded ones, and what is asked for.
pub(super) struct JpegTilesReader {
    name: String,
    bytes: FileBytes,
    geometry: Geometry,
    levels: Vec<Level>,
    background: [u8; 3],
    cache: Cache,
}

struct Level {
    stored: JpegTiles,
    tables: Vec<u8>,
    downsample: f64,
}

impl JpegTilesReader {
    /// A reader of the slide that `opened` describes.
    ///
    /// # Errors
    /// Why this file is OpenSlide's to read: no plain grid of JPEG tiles, or anything that this reader is not sure of.
    pub(super) fn open(path: &Path, opened: &OpenSlideReader, cache_bytes: usize) -> Result<Self> {
        let mut geometry = opened.geometry().clone();
        ensure!(PLAIN_GRIDS.contains(&geometry.vendor.as_str()), "the format {} is not a plain grid of tiles", geometry.vendor);
        let bytes = FileBytes::open(path)?;
        let directories = tiff::directories(&bytes)?;
        let tiled = tiled(&bytes, &directories)?;
        let mut levels = Vec::new();
        for (level, described) in geometry.levels.iter().enumerate() {
            let directory = directory_of(opened, level, described.size, &tiled).with_context(|| format!("level {level}"))?;
            levels.push(Level::new(&bytes, directory, described.downsample).with_context(|| format!("level {level}"))?);
        }
        ensure!(
            geometry.vendor != "aperio" || levels.iter().flat_map(|level| &level.stored.tiles).all(|tile| tile.length > 0),
            "an Aperio slide with empty tiles, which OpenSlide fills from other levels"
        );
        if levels.len() == 1 && geometry.vendor == "generic-tiff" {
            add_levels_below(&bytes, tiled[0].1, &mut geometry, &mut levels)?;
        }
        geometry.reader = Reader::JpegTiles;
        let whole_blocks =
            |level: &Level| level.stored.grid.tile_width.is_multiple_of(16) && level.stored.grid.tile_height.is_multiple_of(16);
        if levels.iter().all(whole_blocks) {
            geometry.decode_scales = SCALES.to_vec();
        }
        let background = opened.background();
        Ok(Self { name: display_name(path), bytes, geometry, levels, background, cache: Cache::new(cache_bytes) })
    }
}

/// Directories of tiled pictures; what is stored in strips (thumbnail, label, macro image) is not looked at.
fn tiled<'a>(bytes: &FileBytes, directories: &'a [Directory]) -> Result<Vec<(Grid, &'a Directory)>> {
    let mut found = Vec::new();
    for directory in directories {
        if let Some(grid) = directory.grid(bytes)? {
            found.push((grid, directory));
        }
    }
    Ok(found)
}

/// The one directory that has a level's size and OpenSlide's tile size of it.
fn directory_of<'a>(opened: &OpenSlideReader, level: usize, size: Size, tiled: &[(Grid, &'a Directory)]) -> Result<&'a Directory> {
    let tile = opened.tile_size(level);
    let same = |grid: &Grid| (grid.width, grid.height) == (size.width, size.height) && tile == Some((grid.tile_width, grid.tile_height));
    let matching: Vec<_> = tiled.iter().filter(|(grid, _)| same(grid)).collect();
    match matching[..] {
        [(_, directory)] => Ok(directory),
        [] => bail!("no stored picture has the size that OpenSlide tells"),
        _ => bail!("{} stored pictures have the same size", matching.len()),
    }
}

/// The coarser levels of an OME-TIFF, which stand below the first directory and which OpenSlide does not list.
fn add_levels_below(bytes: &FileBytes, first: &Directory, geometry: &mut Geometry, levels: &mut Vec<Level>) -> Result<()> {
    let canvas = geometry.canvas();
    for directory in &tiff::below(bytes, first)? {
        let Some(grid) = directory.grid(bytes)? else { continue };
        let across = f64::from(canvas.width) / f64::from(grid.width);
        let down = f64::from(canvas.height) / f64::from(grid.height);
        let finer = geometry.levels.last().map_or(1.0, |level| level.downsample);
        // A pyramid: each level coarser than the one before, of the same shape but for the rounding of its last pixel.
        let rounding = 2.0 * across.max(down) / f64::from(grid.width.min(grid.height));
        ensure!(
            across > finer && (across - down).abs() <= rounding,
            "a picture of {}x{} px below the first is no level of it",
            grid.width,
            grid.height
        );
        let downsample = (across + down) / 2.0;
        levels.push(Level::new(bytes, directory, downsample)?);
        geometry.levels.push(LevelGeometry { size: Size { width: grid.width, height: grid.height }, downsample });
    }
    Ok(())
}

impl Level {
    fn new(bytes: &FileBytes, directory: &Directory, downsample: f64) -> Result<Self> {
        let stored = directory.jpeg_tiles(bytes)?;
        let tables = stream::tables(&stored.tables)?;
        Ok(Self { stored, tables, downsample })
    }
}

impl Slide for JpegTilesReader {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn read(&self, at: Coord, size: Size, level: usize) -> Result<RgbImage> {
        self.read_scaled(at, size, level, 1)
    }

    fn read_scaled(&self, at: Coord, size: Size, level: usize, scale: u32) -> Result<RgbImage> {
        let place = || format!("'{}' at x={} y={} ({}x{} px of level {level})", self.name, at.x, at.y, size.width, size.height);
        let stored = self.levels.get(level).ok_or_else(|| anyhow!("{}: there are {} levels", place(), self.levels.len()))?;
        ensure!(self.geometry.decode_scales.contains(&scale), "{}: its tiles cannot be decoded at 1/{scale}", place());
        ensure!(at.x >= 0 && at.y >= 0, "{}: the place is outside the slide", place());
        self.window(stored, at, size, level, scale)
            .with_context(|| format!("cannot read {}; the file is damaged there, copy or export it again", place()))
    }

    fn stored_tile(&self, level: usize) -> Option<Size> {
        let Grid { tile_width, tile_height, .. } = self.levels.get(level)?.stored.grid;
        Some(Size { width: tile_width, height: tile_height })
    }

    fn stored_jpeg(&self, level: usize, column: u32, row: u32) -> Result<Option<Vec<u8>>> {
        let place = || format!("'{}' at the stored tile of column {column}, row {row} of level {level}", self.name);
        let described = self.levels.get(level).ok_or_else(|| anyhow!("{}: there are {} levels", place(), self.levels.len()))?;
        let grid = described.stored.grid;
        ensure!(column < grid.columns() && row < grid.rows(), "{}: the place is outside the slide", place());
        let tile = described.stored.tiles[row as usize * grid.columns() as usize + column as usize];
        if tile.length == 0 {
            return Ok(None);
        }
        decode::stream_of(&self.bytes, &described.stored, &described.tables, tile)
            .with_context(|| format!("cannot read {}; the file is damaged there, copy or export it again", place()))
    }
}

impl JpegTilesReader {
    /// The window, laid together row by row from the tiles under it.
    fn window(&self, level: &Level, at: Coord, size: Size, number: usize, scale: u32) -> Result<RgbImage> {
        let grid = level.stored.grid;
        let (width, height) = (grid.width / scale, grid.height / scale);
        let (tile_width, tile_height) = (grid.tile_width / scale, grid.tile_height / scale);
        let downsample = level.downsample * f64::from(scale);
        let across = Span::new(whole_pixel(at.x, downsample, size.width, width), size.width, width, tile_width);
        let down = Span::new(whole_pixel(at.y, downsample, size.height, height), size.height, height, tile_height);

        let window_row = size.width as usize;
        let mut pixels = Vec::with_capacity(window_row * size.height as usize * 3);
        for row in down.tiles() {
            let mut band = Vec::with_capacity(across.tiles().len());
            for column in across.tiles() {
                band.push((across.part(column), self.tile(level, (number, scale), column, row)?));
            }
            let tiles: Vec<_> = band.iter().map(|(part, tile)| (part, tile.as_ref().map(Decoded::pixels))).collect();
            let part = down.part(row);
            for y in part.in_tile..part.in_tile + part.length {
                for (part, tile) in &tiles {
                    match tile {
                        Some(tile) => pixels.extend_from_slice(&tile[(y * tile_width as usize + part.in_tile) * 3..][..part.length * 3]),
                        None => self.lay_background(&mut pixels, part.length),
                    }
                }
                self.lay_background(&mut pixels, window_row - across.length as usize);
            }
        }
        self.lay_background(&mut pixels, (size.height - down.length) as usize * window_row);
        RgbImage::from_raw(size.width, size.height, pixels).context("the window's rows are not whole")
    }

    /// A stored tile, decoded; `None` where nothing was scanned.
    fn tile(&self, level: &Level, (number, scale): (usize, u32), column: u32, row: u32) -> Result<Option<Decoded>> {
        let grid = level.stored.grid;
        let index = row as usize * grid.columns() as usize + column as usize;
        let tile = level.stored.tiles[index];
        if tile.length == 0 {
            return Ok(None);
        }
        let bytes = (grid.tile_width / scale) as usize * (grid.tile_height / scale) as usize * 3;
        let decode = || decode::decode(&self.bytes, &level.stored, &level.tables, tile, scale);
        self.cache
            .get((number, scale, index), bytes, decode)
            .map(Some)
            .with_context(|| format!("stored tile {index} (column {column}, row {row})"))
    }

    fn lay_background(&self, pixels: &mut Vec<u8>, count: usize) {
        pixels.extend(std::iter::repeat_n(self.background, count).flatten());
    }
}

/// The whole pixel of a level that is nearest to a level-0 place; one less where rounding up would carry a window of
/// `length` pixels, that ends inside the level, past its end.
fn whole_pixel(at: i64, downsample: f64, length: u32, level_length: u32) -> u64 {
    let exact = at as f64 / downsample;
    let (nearest, before) = (exact.round() as u64, exact.floor() as u64);
    let end = |start: u64| start + u64::from(length);
    if end(nearest) > level_length.into() && end(before) <= level_length.into() { before } else { nearest }
}

/// A window along one direction, and the tiles under it.
struct Span {
    /// First pixel, and how many of the window's are inside the level.
    start: u32,
    length: u32,
    tile: u32,
}

/// Which pixels of a tile are in the window, along one direction.
struct Part {
    in_tile: usize,
    length: usize,
}

impl Span {
    fn new(start: u64, length: u32, level_length: u32, tile: u32) -> Self {
        let start = u32::try_from(start).unwrap_or(u32::MAX).min(level_length);
        Self { start, length: length.min(level_length - start), tile }
    }

    fn tiles(&self) -> std::ops::Range<u32> {
        if self.length == 0 {
            return 0..0;
        }
        self.start / self.tile..(self.start + self.length - 1) / self.tile + 1
    }

    fn part(&self, tile: u32) -> Part {
        let first = self.start.max(tile * self.tile);
        let last = (self.start + self.length).min((tile + 1) * self.tile);
        Part { in_tile: (first - tile * self.tile) as usize, length: (last - first) as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_the_nearest_whole_pixels_inside() {
        assert_eq!(whole_pixel(447, 1.0, 10, 1000), 447);
        assert_eq!(whole_pixel(447, 2.0, 224, 1000), 224);
        assert_eq!(whole_pixel(447, 2.0, 224, 447), 223, "the window ends with the level");
        assert_eq!(whole_pixel(447, 2.0, 1000, 447), 224, "it reaches out in any case");
        assert_eq!(whole_pixel((512.0_f64 * 2.0004).round() as i64, 2.0004, 8, 1000), 512);
    }

    #[test]
    fn parts_of_tiles_make_the_window() {
        for (start, length, level_length, tile) in [(0, 10, 100, 16), (15, 40, 100, 16), (90, 40, 100, 16), (100, 5, 100, 16), (7, 1, 8, 3)]
        {
            let span = Span::new(start, length, level_length, tile);
            let mut covered = 0;
            for tile in span.tiles() {
                let part = span.part(tile);
                assert_eq!(u64::from(tile * span.tile) + part.in_tile as u64, start + covered as u64);
                covered += part.length;
            }
            assert_eq!(covered as u64, u64::from(length).min(u64::from(level_length).saturating_sub(start)));
        }
    }
}
