//! Tiles as a stream: many threads read and shrink, one thread consumes, in order, in bounded memory.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use half::f16;
use image::RgbImage;

use super::shrink::shrink;
use crate::ground::plan::Plan;
use crate::ground::tile_status::TileStatus;
use crate::ground::units::{Coord, Size};
use crate::slides::Slide;
use crate::tissue::quality::Quality;

/// What was read of consecutive tiles of a plan.
#[derive(Debug, Default)]
pub struct TileBatch {
    /// Position of the first tile in the plan.
    pub first: usize,
    /// What became of each tile, in the plan's order.
    pub status: Vec<TileStatus>,
    /// Tiles with pixels, `B`: those whose status is ok.
    pub count: usize,
    /// Their pixels, RGB, `[B, P, P, 3]`, row by row.
    pub pixels: Vec<u8>,
    /// What the tiles with pixels look like: the columns of `store::bag::QUALITY`, as half-precision numbers.
    pub quality: Vec<[f16; 5]>,
    /// Tiles that could not be read: position in the plan, and the reader's reason.
    pub faults: Vec<(usize, String)>,
    /// Thread seconds that reading and decoding took.
    pub read: Duration,
    /// Thread seconds that shrinking and judging the pixels took.
    pub shrink: Duration,
}

/// Reads every tile of `plan` and hands them to `consume`, on the calling thread, in batches of `batch_size` tiles of the plan (the
/// last may be smaller) in the plan's order whatever the number of threads. A tile that cannot be read is no error here: it has no
/// pixels, and its batch says why.
///
/// Memory: at most `max(2, ⌈2·threads / batch_size⌉)` batches are read ahead of the one being consumed, each
/// `batch_size · 3 · tile_px²` bytes (32 tiles of 224 px: 4.6 MiB); besides, each thread holds one window of
/// `7 · read_px²` bytes, and the reader its own cache.
///
/// # Errors
/// Those of `consume`. The threads have stopped when this returns.
pub fn for_each_batch(
    slide: &dyn Slide,
    plan: &Plan,
    batch_size: usize,
    threads: usize,
    consume: impl FnMut(TileBatch) -> Result<()>,
) -> Result<()> {
    for_each_batch_from(slide, plan, 0, batch_size, threads, consume)
}

/// [`for_each_batch`] without the first `from` tiles of the plan.
///
/// # Errors
/// As [`for_each_batch`].
pub fn for_each_batch_from(
    slide: &dyn Slide,
    plan: &Plan,
    from: usize,
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
        let mut batches = plan.coords[from..].chunks(batch_size).enumerate();
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
                pending.push_back(Pending { first: from + index * batch_size, tiles, of: coords.len() });
            }
            let Some(next) = pending.pop_front() else { break Ok(()) };
            let tissue = &plan.tissue[next.first..];
            if let Err(error) = next.complete(tissue).and_then(&mut consume) {
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
    of: usize,
    tiles: mpsc::Receiver<(usize, Result<Timed>)>,
}

/// What was found at one place, and how long reading and shrinking took.
struct Timed {
    tile: Tile,
    read: Duration,
    shrink: Duration,
}

enum Tile {
    /// `[P, P, 3]`, and what they look like.
    Pixels(Vec<u8>, Quality),
    Unreadable(String),
    Outside,
    Blank,
}

impl Pending {
    /// Waits for every tile and puts each in its place.
    fn complete(self, tissue: &[f32]) -> Result<TileBatch> {
        let mut tiles: Vec<Option<Tile>> = (0..self.of).map(|_| None).collect();
        let mut batch = TileBatch { first: self.first, ..TileBatch::default() };
        for _ in 0..self.of {
            let (slot, tile) = self.tiles.recv().map_err(|_| anyhow!("a decoding thread stopped early"))?;
            let Timed { tile, read, shrink } = tile?;
            tiles[slot] = Some(tile);
            batch.read += read;
            batch.shrink += shrink;
        }
        for (slot, tile) in tiles.into_iter().flatten().enumerate() {
            batch.status.push(match tile {
                Tile::Pixels(pixels, Quality { blur, pen, whiteness, darkness }) => {
                    batch.pixels.extend(pixels);
                    batch.quality.push([tissue[slot], blur, pen, whiteness, darkness].map(f16::from_f32));
                    batch.count += 1;
                    TileStatus::Ok
                }
                Tile::Unreadable(reason) => {
                    batch.faults.push((self.first + slot, reason));
                    TileStatus::Unreadable
                }
                Tile::Outside => TileStatus::Outside,
                Tile::Blank => TileStatus::Blank,
            });
        }
        Ok(batch)
    }
}

/// One tile: read at its level, shrunk to `tile_px` where the window is larger.
fn tile(slide: &dyn Slide, plan: &Plan, at: Coord) -> Result<Timed> {
    let started = Instant::now();
    let found = read(slide, plan, at);
    let read = started.elapsed();
    let tile = match found {
        Err(without_pixels) => without_pixels,
        Ok(pixels) => {
            let side = plan.window.tile_px;
            let pixels = shrink(Cow::Owned(pixels), Size { width: side, height: side })?.into_owned().into_raw();
            let quality = Quality::of(&pixels, side as usize, plan.window.mpp_true);
            Tile::Pixels(pixels, quality)
        }
    };
    Ok(Timed { tile, read, shrink: started.elapsed() - read })
}

/// The window's pixels, or why there are none.
fn read(slide: &dyn Slide, plan: &Plan, at: Coord) -> Result<RgbImage, Tile> {
    let window = &plan.window;
    let side = i64::from(window.side_level0_px);
    if let Some((corner, size)) = slide.geometry().bounds {
        let apart = |at: i64, corner: i64, length: u32| at + side <= corner || at >= corner + i64::from(length);
        if apart(at.x, corner.x, size.width) || apart(at.y, corner.y, size.height) {
            return Err(Tile::Outside);
        }
    }
    let size = Size { width: window.read_px, height: window.read_px };
    let pixels = slide.read_scaled(at, size, window.level, window.decode_scale).map_err(|error| Tile::Unreadable(format!("{error:#}")))?;
    // METHOD: a tile of one colour in every pixel was never scanned: sensors have noise.
    if pixels.as_raw().windows(6).step_by(3).all(|pair| pair[..3] == pair[3..]) {
        return Err(Tile::Blank);
    }
    Ok(pixels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::plan::Window;
    use crate::ground::reader::Reader;
    use crate::ground::units::{Geometry, LevelGeometry, Mpp};
    use image::Rgb;

    /// Pixels tell their place; one place cannot be read; or all is one colour.
    struct Chart(Geometry, Option<Coord>, bool);

    impl Slide for Chart {
        fn geometry(&self) -> &Geometry {
            &self.0
        }

        fn read(&self, at: Coord, size: Size, _: usize) -> Result<RgbImage> {
            if self.1 == Some(at) {
                bail!("cannot read 'chart.tif' at x={} y={}", at.x, at.y);
            }
            Ok(RgbImage::from_fn(size.width, size.height, |x, _| match self.2 {
                true => Rgb([255; 3]),
                false => Rgb([at.x as u8, at.y as u8, x as u8]),
            }))
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
            bounds: None,
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
        (Chart(geometry, broken, false), plan)
    }

    #[test]
    fn batches_keep_the_order_of_the_plan() {
        for (threads, batch_size, read_px) in [(1, 7, 4), (4, 7, 5), (8, 1, 4), (3, 1000, 8)] {
            let (slide, plan) = chart(None, read_px);
            let mut seen = 0;
            for_each_batch(&slide, &plan, batch_size, threads, |batch| {
                assert_eq!((batch.first, batch.pixels.len(), batch.status.len()), (seen, batch.count * 48, batch.count));
                for (tile, at) in batch.pixels.chunks(48).zip(&plan.coords[batch.first..]) {
                    assert!(tile.chunks(3).all(|pixel| pixel[..2] == [at.x as u8, at.y as u8]), "{at:?}");
                }
                seen += batch.count;
                Ok(())
            })
            .unwrap();
            assert_eq!(seen, plan.coords.len());
        }
    }

    #[test]
    fn a_stream_goes_on_where_another_ended() {
        let (slide, plan) = chart(None, 4);
        let pixels = |from: usize, batch_size: usize| {
            let mut pixels = Vec::new();
            for_each_batch_from(&slide, &plan, from, batch_size, 2, |batch| {
                assert!(batch.first >= from);
                pixels.extend(batch.pixels);
                Ok(())
            })
            .unwrap();
            pixels
        };
        let whole = pixels(0, 7);
        for from in [1, 50, 99, 100] {
            assert_eq!(pixels(from, 8), whole[48 * from..]);
        }
    }

    #[test]
    fn a_tile_that_cannot_be_read_has_a_reason_and_no_pixels() {
        let (slide, plan) = chart(Some(Coord { x: 84, y: 21 }), 4);
        let (mut tiles, mut faults) = (0, Vec::new());
        for_each_batch(&slide, &plan, 10, 4, |batch| {
            assert_eq!(batch.pixels.len(), batch.count * 48);
            tiles += batch.count;
            for (position, reason) in batch.faults {
                assert_eq!(batch.status[position - batch.first], TileStatus::Unreadable);
                faults.push((position, reason));
            }
            Ok(())
        })
        .unwrap();
        assert_eq!((tiles, faults), (99, vec![(42, "cannot read 'chart.tif' at x=84 y=21".to_owned())]));
        assert!(for_each_batch(&slide, &plan, 10, 4, |_| bail!("full")).unwrap_err().to_string().contains("full"));
    }

    #[test]
    fn one_colour_is_blank_and_beyond_the_bounds_is_outside() {
        let (mut slide, plan) = chart(None, 4);
        slide.0.bounds = Some((Coord { x: 0, y: 0 }, Size { width: 100, height: 64 }));
        slide.2 = true;
        let mut status = Vec::new();
        for_each_batch(&slide, &plan, 7, 2, |batch| {
            assert_eq!(batch.count, 0);
            status.extend(batch.status);
            Ok(())
        })
        .unwrap();
        let expected = |at: &Coord| if at.x < 100 { TileStatus::Blank } else { TileStatus::Outside };
        assert!(status.iter().zip(&plan.coords).all(|(status, at)| *status == expected(at)));
    }
}
