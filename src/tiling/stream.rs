//! Tiles as a stream: many threads read and shrink, one thread consumes, in order, in bounded memory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use anyhow::{Context, Result, anyhow, bail};

use super::shrink::shrink;
use crate::ground::plan::Plan;
use crate::ground::units::{Coord, Size};
use crate::slides::Slide;

/// Consecutive tiles of a plan.
#[derive(Debug)]
pub struct TileBatch {
    /// Position of the first tile in the plan.
    pub first: usize,
    /// Tiles in this batch, `B`.
    pub count: usize,
    /// RGB, `[B, P, P, 3]`, row by row.
    pub pixels: Vec<u8>,
}

/// Reads every tile of `plan` and hands them to `consume`, on the calling thread, in batches of `batch_size` (the last
/// may be smaller) in the plan's order whatever the number of threads.
///
/// Memory: at most `max(2, ⌈2·threads / batch_size⌉)` batches are read ahead of the one being consumed, each
/// `batch_size · 3 · tile_px²` bytes (32 tiles of 224 px: 4.6 MiB); besides, each thread holds one window of
/// `7 · read_px²` bytes, and the reader its own cache.
///
/// # Errors
/// A tile that cannot be read ends the stream with the slide and the place named: a tile is never replaced by a blank
/// one. An error of `consume` is passed on. Either way the threads have stopped when this returns.
pub fn for_each_batch(
    slide: &dyn Slide,
    plan: &Plan,
    batch_size: usize,
    threads: usize,
    mut consume: impl FnMut(TileBatch) -> Result<()>,
) -> Result<()> {
    if batch_size == 0 {
        bail!("the batch size is 0; it wants at least one tile");
    }
    let threads = threads.max(1);
    let ahead = (2 * threads).div_ceil(batch_size).max(2);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("cannot start the decoding threads")?;
    let stopped = AtomicBool::new(false);
    let stopped = &stopped;

    pool.in_place_scope_fifo(|scope| {
        let mut pending: VecDeque<Pending> = VecDeque::new();
        let mut batches = plan.coords.chunks(batch_size).enumerate();
        let outcome = loop {
            while pending.len() <= ahead {
                let Some((index, coords)) = batches.next() else { break };
                let (sender, tiles) = mpsc::channel();
                for (slot, &at) in coords.iter().enumerate() {
                    let sender = sender.clone();
                    scope.spawn_fifo(move |_| {
                        if !stopped.load(Ordering::Relaxed) {
                            // The receiver is gone only when the stream has ended with an error already.
                            let _ = sender.send((slot, tile(slide, plan, at)));
                        }
                    });
                }
                pending.push_back(Pending { first: index * batch_size, count: coords.len(), tiles });
            }
            let Some(next) = pending.pop_front() else { break Ok(()) };
            if let Err(error) = next.complete(plan.window.tile_px).and_then(&mut consume) {
                break Err(error);
            }
        };
        stopped.store(true, Ordering::Relaxed);
        outcome
    })
}

/// A batch whose tiles are being read.
struct Pending {
    first: usize,
    count: usize,
    tiles: mpsc::Receiver<(usize, Result<Vec<u8>>)>,
}

impl Pending {
    /// Waits for every tile and puts each in its place.
    fn complete(self, tile_px: u32) -> Result<TileBatch> {
        let tile_bytes = 3 * (tile_px as usize).pow(2);
        let mut pixels = vec![0; self.count * tile_bytes];
        for _ in 0..self.count {
            let (slot, tile) = self.tiles.recv().map_err(|_| anyhow!("a decoding thread stopped early"))?;
            pixels[slot * tile_bytes..(slot + 1) * tile_bytes].copy_from_slice(&tile?);
        }
        Ok(TileBatch { first: self.first, count: self.count, pixels })
    }
}

/// One tile, `[P, P, 3]`: read at its level, shrunk to `tile_px` where the window is larger.
fn tile(slide: &dyn Slide, plan: &Plan, at: Coord) -> Result<Vec<u8>> {
    let window = &plan.window;
    let size = Size { width: window.read_px, height: window.read_px };
    let pixels = slide.read_scaled(at, size, window.level, window.decode_scale).with_context(|| format!("slide '{}'", plan.slide_id))?;
    Ok(shrink(pixels, Size { width: window.tile_px, height: window.tile_px })?.into_raw())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::plan::Window;
    use crate::ground::reader::Reader;
    use crate::ground::units::{Geometry, LevelGeometry, Mpp};
    use image::{Rgb, RgbImage};

    /// Pixels tell their place; one place cannot be read.
    struct Chart(Geometry, Option<Coord>);

    impl Slide for Chart {
        fn geometry(&self) -> &Geometry {
            &self.0
        }

        fn read(&self, at: Coord, size: Size, _: usize) -> Result<RgbImage> {
            if self.1 == Some(at) {
                bail!("cannot read 'chart.tif' at x={} y={}", at.x, at.y);
            }
            Ok(RgbImage::from_fn(size.width, size.height, |_, _| Rgb([at.x as u8, at.y as u8, 7])))
        }
    }

    fn chart(broken: Option<Coord>, read_px: u32) -> (Chart, Plan) {
        let canvas = Size { width: 256, height: 64 };
        let levels = vec![LevelGeometry { size: canvas, downsample: 1.0 }];
        let geometry =
            Geometry { levels, mpp: None, bounds: None, vendor: "chart".into(), reader: Reader::OpenSlide, decode_scales: vec![1] };
        let coords: Vec<Coord> = (0..100).map(|i| Coord { x: 2 * i, y: i / 2 }).collect();
        let plan = Plan {
            slide_id: "chart".into(),
            slide_file: "chart.tif".into(),
            slide_digest: String::new(),
            canvas,
            mpp: Mpp::square(0.5),
            mpp_source: "slide".into(),
            window: Window {
                level: 0,
                level_downsample: 1.0,
                decode_scale: 1,
                read_px,
                tile_px: 4,
                side_level0_px: read_px,
                step_level0_px: read_px,
                mpp_requested: 0.5,
                mpp_true: 0.5,
                residual: 0.0,
                reader: Reader::OpenSlide,
            },
            fingerprint: None,
            tissue: vec![1.0; coords.len()],
            coords,
        };
        (Chart(geometry, broken), plan)
    }

    #[test]
    fn batches_keep_the_order_of_the_plan() {
        for (threads, batch_size, read_px) in [(1, 7, 4), (4, 7, 5), (8, 1, 4), (3, 1000, 8)] {
            let (slide, plan) = chart(None, read_px);
            let mut seen = 0;
            for_each_batch(&slide, &plan, batch_size, threads, |batch| {
                assert_eq!((batch.first, batch.pixels.len()), (seen, batch.count * 48));
                for (tile, at) in batch.pixels.chunks(48).zip(&plan.coords[batch.first..]) {
                    assert!(tile.chunks(3).all(|pixel| pixel == [at.x as u8, at.y as u8, 7]), "{at:?}");
                }
                seen += batch.count;
                Ok(())
            })
            .unwrap();
            assert_eq!(seen, plan.coords.len());
        }
    }

    #[test]
    fn a_tile_that_cannot_be_read_ends_the_stream() {
        let broken = Coord { x: 84, y: 21 };
        let (slide, plan) = chart(Some(broken), 4);
        let mut seen = 0;
        let error = for_each_batch(&slide, &plan, 10, 4, |batch| {
            seen += batch.count;
            Ok(())
        })
        .unwrap_err();
        assert_eq!(format!("{error:#}"), "slide 'chart': cannot read 'chart.tif' at x=84 y=21");
        assert_eq!(seen, 40, "the batches before it were whole");
        assert!(for_each_batch(&slide, &plan, 10, 4, |_| bail!("full")).unwrap_err().to_string().contains("full"));
    }
}
