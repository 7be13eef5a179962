//! `gpu-check`: whether a device computes what the processor does, and how fast. A diagnostic: everything is made up on the spot, from
//! synthetic slides and random weights, and one JSON is left.

mod encoders;
mod training;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use super::{Machine, synth, tile};
use crate::config::Config;
use crate::ground::device;
use crate::ground::interrupt;
use crate::store::files;
use crate::synth::{CohortSettings, DemoSettings};

/// How much is checked.
pub struct Settings {
    /// Encoders by name; their weights are random.
    pub encoders: Vec<String>,
    /// Distance of the tiles of the throughput's slide, pixels at 0.5 µm/px: 16 gives about 7,000 tiles.
    pub step_px: u32,
    /// How long the loop of the encoder alone runs.
    pub loop_for: Duration,
    /// The folder of CIFAR-100's binary layout; `None` makes images up.
    pub cifar: Option<PathBuf>,
    /// Images that are made up.
    pub images: usize,
    /// After this no new check is begun; what was left out is named.
    pub limit: Duration,
    /// How the card is called, for the JSON.
    pub card: Option<String>,
}

/// What every check needs.
struct Bench<'a> {
    settings: &'a Settings,
    machine: &'a Machine,
    /// For files that are thrown away.
    folder: &'a Path,
}

type Check<'a> = Box<dyn Fn() -> Result<Value> + 'a>;

/// Checks the machine's device and writes `out`, anew after each check, so that a killed call leaves what it has found.
///
/// # Errors
/// The first check that fails, by its name; what was found before is in the file.
pub fn run(settings: &Settings, out: &Path, machine: &Machine) -> Result<()> {
    let started = Instant::now();
    let folder = tempfile::tempdir()?;
    let bench = Bench { settings, machine, folder: folder.path() };
    bench.slides()?;
    let mut found = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "device": device::name(machine.device),
        "card": settings.card,
        "threads": machine.threads,
    });
    for (name, check) in checks(&bench) {
        interrupt::check()?;
        if started.elapsed() > settings.limit {
            tracing::warn!("gpu-check: no time left for {name}");
            found["left_out"].as_array_mut().map(|left| left.push(json!(name))).unwrap_or_else(|| found["left_out"] = json!([name]));
            continue;
        }
        tracing::info!("gpu-check: {name}");
        let outcome = check();
        found[&name] = match &outcome {
            Ok(figures) => figures.clone(),
            Err(error) => json!({"error": format!("{error:#}")}),
        };
        found["seconds"] = json!((started.elapsed().as_secs_f64() * 10.0).round() / 10.0);
        files::write_bytes(out, serde_json::to_string_pretty(&found)?.as_bytes())?;
        outcome.map_err(|error| error.context(name))?;
    }
    Ok(())
}

fn checks<'a>(bench: &'a Bench) -> Vec<(String, Check<'a>)> {
    let mut checks: Vec<(String, Check)> = Vec::new();
    for encoder in &bench.settings.encoders {
        checks.push((format!("parity.{encoder}"), Box::new(move || encoders::parity(bench, encoder))));
    }
    for loss in ["cross-entropy", "ncmi"] {
        checks.push((format!("training.bags.{loss}"), Box::new(move || training::bags(bench, loss))));
        checks.push((format!("training.images.{loss}"), Box::new(move || training::images(bench, loss))));
    }
    for encoder in &bench.settings.encoders {
        checks.push((format!("throughput.{encoder}"), Box::new(move || encoders::throughput(bench, encoder))));
    }
    checks.push(("cifar.epoch".to_owned(), Box::new(move || training::cifar_epoch(bench))));
    checks
}

impl Bench<'_> {
    /// Synthetic slides, tiled without overlap, all of them and the first alone, and the first one densely.
    fn slides(&self) -> Result<()> {
        synth::run(&CohortSettings::Demo(DemoSettings { slides_per_class: 8, seed: 0 }), &self.folder.join("cohort"), self.machine)?;
        self.tile("tiles", &self.folder.join("cohort/slides"), 0)?;
        self.tile("first", &self.first_slide()?, 0)?;
        self.tile("dense", &self.first_slide()?, self.settings.step_px)
    }

    fn tile(&self, out: &str, slides: &Path, step_px: u32) -> Result<()> {
        let config = Config::load(None, &[format!("tile.step-px={step_px}")])?;
        let inputs = tile::Inputs { slides: slides.to_owned(), roi: None, selection: super::Selection::default() };
        super::complete(tile::run(&config, &inputs, &self.folder.join(out), self.machine)?).map(drop)
    }

    fn first_slide(&self) -> Result<PathBuf> {
        let entries = std::fs::read_dir(self.folder.join("cohort/slides"))?;
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths.swap_remove(0))
    }
}
