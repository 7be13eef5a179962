//! The limit: libjpeg-turbo decodes every stored tile under the squares once, and nothing else is done.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use rayon::prelude::*;
use turbojpeg::{Decompressor, Image, PixelFormat, ScalingFactor};

use super::{Spent, tiff, timed};

#[path = "../../../src/slides/jpeg_tiles/stream.rs"]
#[allow(dead_code, unused_imports)] // its tests, which are run with the program's
mod stream;

/// Those under whole windows of `window` px, at one over `scale` of the stored size.
pub(super) fn decode(slides: &[PathBuf], window: u32, scale: u32, repeats: usize) -> Result<Spent> {
    let mut spent = Spent { wall: 0.0, cpu: 0.0 };
    for path in slides {
        let file = std::fs::read(path)?;
        let directories = tiff::directories(file.as_slice())?;
        let stored = directories[0].jpeg_tiles(file.as_slice())?;
        let tables = stream::tables(&stored.tables)?;
        let (width, height) = (stored.grid.tile_width, stored.grid.tile_height);
        let mut streams = Vec::new();
        let grid = stored.grid;
        let under = |length: u32, side: u32| (length / window * window).div_ceil(side) as usize;
        let (columns, rows) = (under(grid.width, width), under(grid.height, height));
        let read = stored.tiles.chunks(grid.columns() as usize).take(rows).flat_map(|row| &row[..columns]);
        for tile in read.filter(|tile| tile.length > 0) {
            let mut whole = Vec::new();
            let bytes = &file[tile.offset as usize..(tile.offset + tile.length) as usize];
            stream::whole(&tables, stored.colour, (width, height), bytes, &mut whole)?;
            streams.push(whole);
        }
        ensure!(!streams.is_empty(), "'{}' has no stored tiles", path.display());
        let (width, height) = ((width / scale) as usize, (height / scale) as usize);
        let part = timed(|| {
            for _ in 0..repeats {
                let fresh = || {
                    let mut decoder = Decompressor::new()?;
                    decoder.set_scaling_factor(ScalingFactor::new(1, scale as usize))?;
                    Ok::<_, turbojpeg::Error>((decoder, vec![0; width * height * 3]))
                };
                streams.par_iter().try_for_each_init(fresh, |kept, stream| {
                    let (decoder, pixels) = kept.as_mut().map_err(|error| anyhow::anyhow!("{error}"))?;
                    let image = Image { pixels: pixels.as_mut_slice(), width, pitch: width * 3, height, format: PixelFormat::RGB };
                    Ok::<_, anyhow::Error>(decoder.decompress(stream, image)?)
                })?;
            }
            Ok(())
        })?;
        spent = Spent { wall: spent.wall + part.wall, cpu: spent.cpu + part.cpu };
    }
    Ok(spent)
}
