//! Features on the device beside those of the processor, and the whole way from slide to bag beside the network alone.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use tch::Device;

use super::Bench;
use crate::config::Config;
use crate::ground::tile_status::TileStatus;
use crate::stages::extract::embed::Embedder;
use crate::stages::extract::{self, Inputs};
use crate::stages::frozen::Frozen;
use crate::stages::{Machine, Selection};
use crate::store::bag;
use crate::store::run::Summary;
use crate::tiling::stream::TileBatch;

fn config(encoder: &str, settings: &[&str]) -> Result<Config> {
    let name = format!("extract.encoder.name={encoder}");
    let all: Vec<String> = [&name, "extract.random-weights=true"].into_iter().chain(settings.iter().copied()).map(str::to_owned).collect();
    Config::load(None, &all)
}

fn extract(bench: &Bench, config: &Config, tiles: &str, out: &str, machine: &Machine) -> Result<Summary> {
    let inputs = Inputs {
        slides: bench.folder.join("cohort/slides"),
        tiles: bench.folder.join(tiles),
        weights: None,
        selection: Selection::default(),
        scratch: None,
    };
    crate::stages::complete(extract::run(config, &inputs, &bench.folder.join(out), machine)?)
}

/// Features of the first slide's tiles, `[N,D]`.
fn features(bench: &Bench, out: &str) -> Result<(Vec<f32>, usize)> {
    let slide = bench.first_slide()?;
    let id = slide.file_stem().context("a slide without a name")?.to_string_lossy();
    let path = bench.folder.join(out).join(format!("bags/{id}.h5"));
    Ok((bag::read_single(&path)?.context("not in single precision")?, bag::read_features(&path)?.width))
}

/// The same tiles through the same network on the processor in f32 and on the device in each precision that it has.
pub(super) fn parity(bench: &Bench, encoder: &str) -> Result<Value> {
    let on_processor = Machine { device: Device::Cpu, ..*bench.machine };
    let reference = format!("parity-{encoder}");
    extract(bench, &config(encoder, &["extract.dtype=f32", "extract.precision=f32"])?, "first", &reference, &on_processor)?;
    let (expected, width) = features(bench, &reference)?;
    let precisions: &[&str] = if bench.machine.device.is_cuda() { &["f32", "f16", "bf16"] } else { &["f32", "bf16"] };
    let mut found = Map::new();
    for precision in precisions {
        let out = format!("{reference}-{precision}");
        let setting = format!("extract.precision={precision}");
        extract(bench, &config(encoder, &["extract.dtype=f32", &setting])?, "first", &out, bench.machine)?;
        let (features, _) = features(bench, &out)?;
        ensure!(features.len() == expected.len(), "{} numbers instead of {}", features.len(), expected.len());
        let largest = expected.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        let deviation = features.iter().zip(&expected).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
        let cosines = features.chunks(width).zip(expected.chunks(width)).map(|(a, b)| cosine(a, b));
        found.insert(
            (*precision).to_owned(),
            json!({
                "tiles": expected.len() / width,
                "cosine_min": cosines.fold(1.0, f64::min),
                "largest_deviation": deviation / largest, // of the largest number
            }),
        );
    }
    Ok(Value::Object(found))
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Tiles a second from slide to bag, and of the network alone on tiles that are there. The slide's squares overlap: a stored tile is decoded
/// once and serves many of them, so that this measures cutting and shrinking more than decoding.
pub(super) fn throughput(bench: &Bench, encoder: &str) -> Result<Value> {
    let config = config(encoder, &[])?;
    let summary = extract(bench, &config, "dense", &format!("throughput-{encoder}"), bench.machine)?;
    let whole = summary.figures["tiles_per_second"].as_f64().unwrap_or_default();
    let (alone, batch) = alone(bench, &config)?;
    Ok(json!({
        "precision": summary.figures["precision"],
        "tiles": summary.figures["tiles"],
        "tiles_per_second": whole,
        "encoder_alone": {"batch": batch, "tiles_per_second": (alone * 10.0).round() / 10.0},
        "share": (whole / alone * 1000.0).round() / 1000.0,
        "time": summary.figures["time"],
    }))
}

/// Tiles a second of the network alone, and the tiles of a call.
fn alone(bench: &Bench, config: &Config) -> Result<(f64, usize)> {
    let frozen = Frozen::new(config, None, bench.machine)?;
    let device = bench.machine.device;
    let kind = config.extract.precision.kind(device, config.extract.encoder.gpu_precision.kind())?;
    let batch = extract::batch_size(&config.extract, bench.machine);
    let tile_bytes = 3 * (frozen.input_px as usize).pow(2);
    let pixels: Vec<u8> = (0..batch * tile_bytes).map(|byte| (byte * 31 % 251) as u8).collect();
    if !device.is_cuda() {
        let embedder = Embedder::new(&frozen, batch, kind, config.extract.dtype);
        let tiles = TileBatch { status: vec![TileStatus::Ok; batch], count: batch, pixels, ..TileBatch::default() };
        return Ok((rate(bench, batch, || embedder.embed(&tiles).map(drop))?, batch));
    }
    let images = frozen.prepare(&pixels, batch)?;
    // Reading one number waits for all that was asked of the device before.
    let rate = rate(bench, batch, || {
        let _first = frozen.encode(&images, kind)?.double_value(&[0, 0]);
        Ok(())
    })?;
    Ok((rate, batch))
}

/// Tiles a second of calls of `tiles` each, after one that does not count.
fn rate(bench: &Bench, tiles: usize, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    call()?;
    let started = Instant::now();
    let mut calls = 0;
    while calls == 0 || started.elapsed() < bench.settings.loop_for {
        call()?;
        calls += 1;
    }
    Ok((calls * tiles) as f64 / started.elapsed().as_secs_f64())
}
