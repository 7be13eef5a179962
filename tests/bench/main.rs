//! `./run bench [FAMILY] [--json FILE]`: how fast we are, beside a plain loop over the same libraries in the same run.
//!
//! Rows: `{id, ours, reference, unit, ratio, limit_ratio, note}`; the note says what the reference is. `ratio` > 1: we are faster.
//! A physical limit is measured for `tile.read.*` (libjpeg-turbo alone) and `extract.*` (a large matrix product); elsewhere
//! `limit_ratio` is null.
#![allow(clippy::print_stdout)] // a benchmark's rows are data

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use image::imageops::{FilterType, resize};
use serde_json::{Value, json};
use tch::Device;
use wsi::config::Config;
use wsi::ground::memory;
use wsi::ground::plan::Plan;
use wsi::ground::units::Size;
use wsi::slides::{self, ReaderChoice};
use wsi::stages::{Machine, Selection, synth, tile};
use wsi::store::coords;
use wsi::synth::CohortSettings;
use wsi::tiling::stream;

#[allow(dead_code)] // what only the tests ask of it
mod bigtiff;
mod bootstrap;
mod extract;
mod loader;
mod losses;
mod mil;
mod peer;
mod tile_stage;
mod tiles;
mod train;
mod view;
#[allow(dead_code)] // what only the tests ask of it
mod visitor;

const BATCH: usize = 32;
const REPEATS: usize = 3;

fn main() -> Result<()> {
    memory::keep_what_is_freed();
    let given: Vec<String> = std::env::args().skip(1).collect();
    if given.first().is_some_and(|first| first == losses::MEMORY) {
        return losses::print_memory(&given[1..]);
    }
    if given.first().is_some_and(|first| first == mil::MEMORY) {
        return mil::print_memory(&given[1..]);
    }
    if given.first().is_some_and(|first| first == tiles::MEMORY) {
        return tiles::print_memory(&given[1..]);
    }
    // Cargo adds `--bench`.
    let mut arguments = given.into_iter().filter(|argument| argument != "--bench");
    let (mut family, mut json_file) = (None, None);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json_file = Some(arguments.next().context("--json wants a file")?),
            other => family = Some(other.to_owned()),
        }
    }
    let wanted = |name: &str| family.as_deref().is_none_or(|family| family == name);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut rows = Vec::new();
    if wanted("tile") {
        rows.push(stream_row(threads)?);
        rows.extend(tile_stage::rows(threads)?);
        rows.extend(tiles::rows()?);
    }
    if wanted("extract") {
        rows.extend(extract::rows(threads)?);
    }
    if wanted("train") {
        rows.extend(train::rows(threads)?);
    }
    if wanted("loader") {
        rows.extend(loader::rows()?);
    }
    if wanted("losses") {
        rows.extend(losses::rows(threads)?);
    }
    if wanted("metrics") {
        rows.extend(bootstrap::rows()?);
    }
    if wanted("mil") {
        rows.extend(mil::rows(threads)?);
    }
    if wanted("view") {
        rows.extend(view::rows()?);
    }
    for row in &rows {
        let (text, number) = (|key: &str| row[key].as_str().unwrap_or("").to_owned(), |key: &str| row[key].as_f64().unwrap_or(f64::NAN));
        let (ours, reference, ratio) = (number("ours"), number("reference"), number("ratio"));
        println!("{:34} {ours:8.1} against {reference:8.1} {}: {ratio:.2} times; {}", text("id"), text("unit"), text("note"));
    }
    if let Some(file) = json_file {
        wsi::store::files::write_bytes(Path::new(&file), serde_json::to_string_pretty(&rows)?.as_bytes())?;
    }
    Ok(())
}

fn plans(tiles: &Path) -> Result<Vec<Plan>> {
    let mut files: Vec<_> = std::fs::read_dir(tiles.join("patches"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    files.iter().map(|file| coords::read(file)).collect()
}

/// Median of a few runs, items per second.
fn rate(items: usize, mut run: impl FnMut(usize) -> Result<()>) -> Result<f64> {
    let mut rates = Vec::new();
    for repeat in 0..REPEATS {
        let started = Instant::now();
        run(repeat)?;
        rates.push(items as f64 / started.elapsed().as_secs_f64());
    }
    Ok(median(rates))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn row(id: &str, ours: f64, reference: f64, unit: &str, note: &str) -> Value {
    json!({"id": id, "ours": ours, "reference": reference, "unit": unit, "ratio": ours / reference, "limit_ratio": null, "note": note})
}

fn count(plans: &[Plan]) -> usize {
    plans.iter().map(|plan| plan.coords.len()).sum()
}

/// Pixels of every tile, one after the other: read, shrink.
fn plain_tiles(slides: &Path, plan: &Plan, mut consume: impl FnMut(Vec<u8>) -> Result<()>) -> Result<()> {
    let slide = slides::open_with(&slides.join(&plan.slide_file), ReaderChoice::OpenSlide)?;
    let window = &plan.window;
    let side = window.read_px * window.decode_scale;
    for &at in &plan.coords {
        let image = slide.read(at, Size { width: side, height: side }, window.level)?;
        consume(resize(&image, window.tile_px, window.tile_px, FilterType::Triangle).into_raw())?;
    }
    Ok(())
}

/// Tiles of the synthetic cohort, without a network.
fn stream_row(threads: usize) -> Result<Value> {
    let folder = tempfile::tempdir()?;
    let cohort = folder.path().join("cohort");
    let machine = Machine { device: Device::Cpu, threads };
    synth::run(&CohortSettings::default(), &cohort, &machine)?;
    let (slides, tiles) = (cohort.join("slides"), folder.path().join("tiles"));
    let inputs = tile::Inputs { slides: slides.clone(), roi: None, selection: Selection::default() };
    tile::run(&Config::default(), &inputs, &tiles, &machine)?;
    let plans = plans(&tiles)?;
    let ours = rate(count(&plans), |_| {
        plans.iter().try_for_each(|plan| {
            let slide = slides::open(&slides.join(&plan.slide_file))?;
            stream::for_each_batch(slide.as_ref(), plan, BATCH, threads, |_| Ok(()))
        })
    })?;
    let reference = rate(count(&plans), |_| plans.iter().try_for_each(|plan| plain_tiles(&slides, plan, |_| Ok(()))))?;
    Ok(row("tile.stream.synth", ours, reference, "tiles/s", "reference: one thread, read and shrink tile by tile"))
}
