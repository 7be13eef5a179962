//! Family `tile`: tiles read by us, by OpenSlide through Python and through `openslide-rs`, and what libjpeg-turbo alone allows.
//!
//! Rates are tiles for a second of processor time, so that other work on the machine does not move them; the note has
//! the clock's. All sides read the same squares of the same slides; each slide is opened anew before the clock runs.

mod giant;
mod limit;
#[path = "../../../src/slides/tiff/mod.rs"]
#[allow(dead_code, unused_imports)] // what only the reader asks of it
mod tiff;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;
use rayon::prelude::*;
use serde_json::{Value, json};
use wsi::ground::units::{Coord, Size};
use wsi::slides::{self, ReaderChoice, Slide};

use crate::peer::Peer;
pub(super) use giant::{MEMORY, print_memory};

/// Side of a tile, pixels.
const TILE_PX: u32 = 256;
/// Turns of all sides, taken one after the other; the best of each is shown.
const TURNS: usize = 5;

/// What is read, and how often in a turn.
struct Case {
    id: &'static str,
    slides: Vec<PathBuf>,
    /// Level-0 pixels of a tile's side.
    window: u32,
    repeats: usize,
}

/// Seconds for all tiles of a turn.
#[derive(Clone, Copy)]
struct Spent {
    wall: f64,
    cpu: f64,
}

/// Rows of the family; without OpenSlide for Python or without test data, those of the synthetic slide only.
pub(super) fn rows() -> Result<Vec<Value>> {
    let mut rows = giant::rows()?;
    let Some(packages) = std::env::var_os("WSI_BENCH_SLIDES") else {
        println!("tile.read: skipped, there is no OpenSlide for Python to compare with; start it with ./run bench tile");
        return Ok(rows);
    };
    let data =
        std::env::var_os("WSI_TEST_DATA").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    if !data.is_dir() {
        println!("tile.read: skipped, no test data");
        return Ok(rows);
    }
    let small = vec![data.join("slides/CMU-1-Small-Region.svs")];
    // Every sixth of the 48 lung slides: both centres, all classes.
    let mut lung: Vec<_> = std::fs::read_dir(data.join("lung-mil/slides"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    lung.sort();
    let lung: Vec<_> = lung.into_iter().step_by(6).collect();
    let cases = [
        Case { id: "tile.read.native", slides: small.clone(), window: TILE_PX, repeats: 10 },
        Case { id: "tile.read.half", slides: small, window: 2 * TILE_PX, repeats: 20 },
        Case { id: "tile.read.lung", slides: lung, window: TILE_PX, repeats: 1 },
    ];
    for case in &cases {
        let paths: Vec<_> = case.slides.iter().map(|path| path.display().to_string()).collect();
        let mut peer = Peer::start(&packages, "tile.py", &paths)?;
        for threads in [1, 2] {
            rows.push(row(case, threads, &mut peer)?);
        }
    }
    Ok(rows)
}

fn row(case: &Case, threads: usize, peer: &mut Peer) -> Result<Value> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let tiles = count(case)? as f64;
    let (mut ours, mut python, mut bound, mut limit) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        python.push(ask(peer, threads, case)?);
        bound.push(pool.install(|| read(case, ReaderChoice::OpenSlide, &shrunk))?);
        ours.push(pool.install(|| read(case, ReaderChoice::JpegTiles, &scaled))?);
        limit.push(pool.install(|| limit::decode(&case.slides, case.window, case.window / TILE_PX, case.repeats))?);
    }
    let best = |turns: &[Spent], of: fn(&Spent) -> f64| tiles / turns.iter().map(of).min_by(f64::total_cmp).unwrap_or(f64::NAN);
    let cpu = |turns: &[Spent]| best(turns, |spent| spent.cpu);
    let wall = |turns: &[Spent]| best(turns, |spent| spent.wall);
    let note = format!(
        "{TILE_PX}-px tiles of {} px, {threads} threads, per second of processor time: OpenSlide through Python {:.0}, through openslide-rs {:.0}, ours {:.0}, libjpeg-turbo alone on the same stored tiles {:.0}; by the clock {:.0}, {:.0}, {:.0}, {:.0}; best of {TURNS} turns",
        case.window,
        cpu(&python),
        cpu(&bound),
        cpu(&ours),
        cpu(&limit),
        wall(&python),
        wall(&bound),
        wall(&ours),
        wall(&limit),
    );
    let id = if threads == 1 { case.id.to_owned() } else { format!("{}.{threads}-threads", case.id) };
    Ok(json!({"id": id, "ours": cpu(&ours), "reference": cpu(&python), "unit": "tiles/s", "ratio": cpu(&ours) / cpu(&python),
        "limit_ratio": cpu(&ours) / cpu(&limit), "note": note}))
}

fn ask(peer: &mut Peer, threads: usize, case: &Case) -> Result<Spent> {
    let answer = peer.ask(&format!("read {threads} {} {TILE_PX} {}", case.window, case.repeats))?;
    let (wall, cpu) = answer.split_once(' ').context("two numbers")?;
    Ok(Spent { wall: wall.parse()?, cpu: cpu.parse()? })
}

/// Corners of whole windows, row by row.
fn corners(canvas: Size, window: u32) -> Vec<Coord> {
    let starts = |length: u32| (0..=i64::from(length) - i64::from(window)).step_by(window as usize);
    starts(canvas.height).flat_map(|y| starts(canvas.width).map(move |x| Coord { x, y })).collect()
}

fn count(case: &Case) -> Result<usize> {
    let in_slide = |path: &PathBuf| Ok::<_, anyhow::Error>(corners(slides::open(path)?.geometry().canvas(), case.window).len());
    Ok(case.slides.iter().map(in_slide).sum::<Result<usize>>()? * case.repeats)
}

type ReadTile<'a> = &'a (dyn Fn(&dyn Slide, Coord, u32) -> Result<RgbImage> + Sync);

fn read(case: &Case, reader: ReaderChoice, tile: ReadTile) -> Result<Spent> {
    let mut spent = Spent { wall: 0.0, cpu: 0.0 };
    for path in case.slides.iter().cycle().take(case.slides.len() * case.repeats) {
        let slide = slides::open_with(path, reader)?;
        let corners = corners(slide.geometry().canvas(), case.window);
        let part = timed(|| {
            corners.par_iter().try_for_each(|&at| {
                let image = tile(slide.as_ref(), at, case.window)?;
                ensure!(image.dimensions() == (TILE_PX, TILE_PX), "a tile of another size");
                Ok(())
            })
        })?;
        spent = Spent { wall: spent.wall + part.wall, cpu: spent.cpu + part.cpu };
    }
    Ok(spent)
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Spent> {
    let (started, used) = (Instant::now(), processor_seconds());
    work()?;
    Ok(Spent { wall: started.elapsed().as_secs_f64(), cpu: processor_seconds() - used })
}

/// Processor time of all threads of this process so far.
fn processor_seconds() -> f64 {
    unsafe extern "C" {
        fn clock() -> i64;
    }
    // SAFETY: the C library's function without arguments; POSIX fixes its unit at a millionth of a second.
    unsafe { clock() as f64 * 1e-6 }
}

/// Read whole, then shrunk by the same kernels as ours: a short program over `openslide-rs`.
fn shrunk(slide: &dyn Slide, at: Coord, window: u32) -> Result<RgbImage> {
    let image = slide.read(at, Size { width: window, height: window }, 0)?;
    if window == TILE_PX {
        return Ok(image);
    }
    let source = ImageRef::new(window, window, image.as_raw(), PixelType::U8x3)?;
    let mut pixels = RgbImage::new(TILE_PX, TILE_PX);
    let mut target = Image::from_slice_u8(TILE_PX, TILE_PX, pixels.as_mut(), PixelType::U8x3)?;
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom)).use_alpha(false);
    Resizer::new().resize(&source, &mut target, &options)?;
    Ok(pixels)
}

/// Decoded at the size wanted, as `wsi tile` plans it.
fn scaled(slide: &dyn Slide, at: Coord, window: u32) -> Result<RgbImage> {
    slide.read_scaled(at, Size { width: TILE_PX, height: TILE_PX }, 0, window / TILE_PX)
}
