//! Rows `view.tiles.*`: tiles a second over HTTP, from `wsi view` and from a server in Python with OpenSlide's DeepZoomGenerator and Pillow
//! (`reference/deepzoom_server.py`): the same slides, tile sizes, JPEG quality and client. Row `view.memory`: what 100,000 requests leave.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rand::seq::SliceRandom;
use serde_json::{Value, json};
use wsi::ground::seed;
use wsi::ground::units::{Coord, Size};
use wsi::slides;
use wsi::slides::deepzoom::{JPEG_QUALITY, Place, Pyramid};
use wsi::synth::{CohortSettings, cohort, render};

use crate::bigtiff::{Levels, Picture, bigtiff};
use crate::peer::Peer;
use crate::visitor::{Viewing, Visitor};

const PROGRAM: &str = env!("CARGO_BIN_EXE_wsi");
/// Turns of both sides, taken alternately; the median is shown.
const TURNS: usize = 3;
/// Clients at once: one person, and a room full.
const CLIENTS: [usize; 2] = [1, 16];
/// Every so many-th of the 48 lung slides: both centres, all classes.
const SLIDE_STEP: usize = 6;

/// A slide's number and a place in its pyramid.
type Asked = (usize, Place);

/// One pass over all tiles.
#[derive(Clone, Copy)]
struct Pass {
    tiles_per_second: f64,
    /// Milliseconds.
    half_within: f64,
    nearly_all_within: f64,
}

pub(super) fn rows() -> Result<Vec<Value>> {
    let mut rows = vec![memory()?];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = std::env::var_os("WSI_TEST_DATA").map_or_else(|| root.join("../shared/data"), PathBuf::from);
    let (folder, Some(packages)) = (data.join("lung-mil/slides"), std::env::var_os("WSI_BENCH_SLIDES")) else {
        println!("view.tiles: skipped, there is no OpenSlide for Python to compare with; start it with ./run bench view");
        return Ok(rows);
    };
    if !folder.is_dir() {
        println!("view.tiles: skipped: no test data");
        return Ok(rows);
    }
    let slides: Vec<PathBuf> = slides::list(&folder)?.into_iter().step_by(SLIDE_STEP).map(|slide| slide.path).collect();
    let mut asked: Vec<Asked> = Vec::new();
    let mut arguments = vec![JPEG_QUALITY.to_string()];
    for (number, path) in slides.iter().enumerate() {
        let pyramid = Pyramid::of(slides::open(path)?.as_ref());
        ensure!(pyramid.tile.width == pyramid.tile.height, "the reference knows square tiles");
        arguments.extend([pyramid.tile.width.to_string(), path.display().to_string()]);
        asked.extend(places(&pyramid).map(|place| (number, place)));
    }
    asked.shuffle(&mut seed::stream(0, "bench/view"));
    let table = tempfile::NamedTempFile::with_suffix(".csv")?;
    let lines: String = slides.iter().map(|path| format!("{}\n", path.display())).collect();
    std::fs::write(table.path(), format!("slide\n{lines}"))?;

    for clients in CLIENTS {
        let (mut ours, mut theirs) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
        for _ in 0..TURNS {
            let (viewing, link) = Viewing::start(PROGRAM, &[table.path().to_str().context("a path in UTF-8")?])?;
            let visitor = viewing.enter(&link)?;
            let path = |(slide, Place { level, column, row }): Asked| format!("/api/slides/{slide}/tiles/{level}/{column}/{row}");
            for passes in &mut ours {
                passes.push(pass(&visitor, clients, &asked, path)?);
            }
            drop(viewing);
            let mut peer = Peer::start(&packages, "deepzoom_server.py", &arguments)?;
            let visitor = Visitor::new(peer.ask("port")?.parse()?);
            let path = |(slide, Place { level, column, row }): Asked| format!("/{slide}/{level}/{column}/{row}");
            for passes in &mut theirs {
                passes.push(pass(&visitor, clients, &asked, path)?);
            }
        }
        for (state, (ours, theirs)) in ["cold", "warm"].iter().zip(ours.into_iter().zip(theirs)) {
            let (ours, theirs) = (median(ours), median(theirs));
            let note = format!(
                "{} tiles of {} slides, {clients} clients, {state} caches of the servers, files in the page cache; half within {:.2} ms against {:.2}, \
                 95 % within {:.2} ms against {:.2}; median of {TURNS} alternating turns; reference: DeepZoomGenerator and Pillow behind \
                 ThreadingHTTPServer, JPEG quality {JPEG_QUALITY} on both sides where a tile is encoded anew",
                asked.len(),
                slides.len(),
                ours.half_within,
                theirs.half_within,
                ours.nearly_all_within,
                theirs.nearly_all_within
            );
            rows.push(super::row(
                &format!("view.tiles.{state}.{clients}"),
                ours.tiles_per_second,
                theirs.tiles_per_second,
                "tiles/s",
                &note,
            ));
        }
    }
    Ok(rows)
}

/// Every tile of a pyramid.
fn places(pyramid: &Pyramid) -> impl Iterator<Item = Place> + use<> {
    let pyramid = *pyramid;
    (0..pyramid.levels()).flat_map(move |level| {
        let Size { width, height } = pyramid.size(level);
        let (columns, rows) = (width.div_ceil(pyramid.tile.width), height.div_ceil(pyramid.tile.height));
        (0..rows).flat_map(move |row| (0..columns).map(move |column| Place { level, column, row }))
    })
}

/// Asks for every tile once, `clients` at a time, each over a connection of its own that stays open.
fn pass(visitor: &Visitor, clients: usize, asked: &[Asked], path: impl Fn(Asked) -> String + Sync) -> Result<Pass> {
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    let client = || {
        let mut visitor = visitor.clone();
        let mut waited = Vec::new();
        while let Some(&place) = asked.get(next.fetch_add(1, Ordering::Relaxed)) {
            let path = path(place);
            let began = Instant::now();
            let answer = visitor.get(&path)?;
            waited.push(began.elapsed().as_secs_f64() * 1000.0);
            ensure!(answer.status == 200 && answer.body.starts_with(&[0xFF, 0xD8]), "{path}: {} {}", answer.status, answer.text());
        }
        Ok(waited)
    };
    let waited = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        let finished = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        finished.collect::<Result<Vec<Vec<f64>>>>()
    })?;
    let seconds = started.elapsed().as_secs_f64();
    let mut waited: Vec<f64> = waited.into_iter().flatten().collect();
    waited.sort_by(f64::total_cmp);
    let within = |share: f64| waited[((waited.len() - 1) as f64 * share) as usize];
    Ok(Pass { tiles_per_second: asked.len() as f64 / seconds, half_within: within(0.5), nearly_all_within: within(0.95) })
}

/// The pass of the middle rate.
fn median(mut passes: Vec<Pass>) -> Pass {
    passes.sort_by(|a, b| a.tiles_per_second.total_cmp(&b.tiles_per_second));
    passes[passes.len() / 2]
}

/// What requests leave behind on a slide that no cache holds: 100,000 × 100,000 px, a tile in thirty encoded anew.
fn memory() -> Result<Value> {
    const SIDE: u32 = 100_000;
    const EARLY: usize = 10_000;
    const ALL: usize = 100_000;
    let folder = tempfile::tempdir()?;
    let tissue = folder.path().join("tissue.tif");
    std::fs::write(&tissue, render(&cohort(&CohortSettings::default())?[2], 0)?)?;
    let picture = slides::open(&tissue)?.read(Coord { x: 512, y: 512 }, Size { width: 1024, height: 1024 }, 0)?;
    let giant = folder.path().join("giant.tif");
    std::fs::write(&giant, bigtiff(&Picture::repeated(SIDE, SIDE, &picture), &Levels::Chained(vec![1, 4, 16]), None))?;
    let mut asked: Vec<Asked> = places(&Pyramid::of(slides::open(&giant)?.as_ref())).map(|place| (0, place)).collect();
    asked.shuffle(&mut seed::stream(0, "bench/view/memory"));
    ensure!(asked.len() >= ALL, "{} tiles", asked.len());

    let (viewing, link) = Viewing::start(PROGRAM, &[giant.to_str().context("a path in UTF-8")?])?;
    let visitor = viewing.enter(&link)?;
    let path = |(slide, Place { level, column, row }): Asked| format!("/api/slides/{slide}/tiles/{level}/{column}/{row}");
    let megabytes = || Ok::<_, anyhow::Error>(viewing.memory_kb()? as f64 / 1024.0);
    let idle = megabytes()?;
    pass(&visitor, CLIENTS[1], &asked[..EARLY], path)?;
    let early = megabytes()?;
    let rest = pass(&visitor, CLIENTS[1], &asked[EARLY..ALL], path)?;
    let all = megabytes()?;
    let note = format!(
        "resident memory after {ALL} requests for different tiles of a slide of {SIDE}x{SIDE} px, {} clients, against that after {EARLY}; {idle:.0} MB before the \
         first; {:.0} tiles/s, {} files open; a ratio of 1: it does not grow",
        CLIENTS[1],
        rest.tiles_per_second,
        viewing.open_files()?
    );
    Ok(json!({"id": "view.memory", "ours": all, "reference": early, "unit": "MB", "ratio": early / all, "limit_ratio": null, "note": note}))
}
