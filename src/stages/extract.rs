//! `extract`: tiles become feature vectors, one bag a slide. Threads decode ahead while the network works; bags are whole.
//!
//! A bag that is there is kept, so that an interrupted call continues; the same slides, tiles and weights give the same
//! bytes whether it was interrupted or not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};
use serde_json::json;

use super::Machine;
use super::frozen::{self, Frozen};
use crate::config::{Config, ExtractSettings};
use crate::ground::interrupt::{self, Interrupted};
use crate::ground::progress::Progress;
use crate::slides::{self, SlideFile};
use crate::store::bag::{self, Features};
use crate::store::run::{self, Opened, Recipe, Run, Summary};
use crate::store::table::{self, Cells};
use crate::store::{coords, digest};
use crate::tiling::stream;

/// What `extract` reads.
pub struct Inputs {
    /// A folder of slides, one slide, or a CSV table that names them.
    pub slides: PathBuf,
    /// A finished `tile` run.
    pub tiles: PathBuf,
    /// The weight file; `None` takes the encoder's own from the folder of weight files.
    pub weights: Option<PathBuf>,
}

/// A slide whose tiles are known.
struct Planned {
    id: String,
    path: PathBuf,
    tiles: usize,
}

/// Writes a bag for every tiled slide that has none yet. A slide that fails is named in the summary and stops no other.
///
/// Outputs in `out`: `bags/<id>.h5`, `slides.csv`.
///
/// # Errors
/// Wrong settings, missing or wrong weights, a tile run that is not finished, a folder that cannot be written, an interruption.
pub fn run(config: &Config, inputs: &Inputs, out: &Path, machine: &Machine) -> Result<Summary> {
    ensure!(config.extract.batch_size > 0, "extract.batch-size is 0; it wants at least one tile");
    let (planned, tiles_digest) = plans(&inputs.tiles)?;
    let network = Frozen::new(config, inputs.weights.as_deref(), machine)?;
    let slides: BTreeMap<String, SlideFile> = slides::list(&inputs.slides)?.into_iter().map(|slide| (slide.id.clone(), slide)).collect();
    let recipe = recipe_from(config, tiles_digest, network.origin.weights.clone());
    let run = match Run::open(out, recipe)? {
        Opened::Done(summary) => {
            tracing::info!("extract: nothing to do, {} slides have bags", planned.len());
            return Ok(summary);
        }
        Opened::Work(run) => run,
    };

    let progress = Progress::new("tiles", planned.iter().map(|plan| plan.tiles).sum());
    let started = Instant::now();
    let mut embedded = 0;
    let mut failed = BTreeMap::new();
    for plan in &planned {
        interrupt::check()?;
        match extract(&run, plan, slides.get(&plan.id), &network, &config.extract, machine.threads, &progress) {
            Ok(tiles) => embedded += tiles,
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => drop(failed.insert(plan.id.clone(), one_line(&error))),
        }
    }
    progress.finish();

    write_table(&run.path("slides.csv"), &planned, network.width, &failed)?;
    let tiles_per_second = (embedded as f64 / started.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    tracing::info!("extract: {} of {} slides, {embedded} tiles at {tiles_per_second}/s", planned.len() - failed.len(), planned.len());
    let figures = json!({
        "slides": planned.len(),
        "done": planned.len() - failed.len(),
        "tiles": planned.iter().filter(|plan| !failed.contains_key(&plan.id)).map(|plan| plan.tiles).sum::<usize>(),
        "tiles_per_second": tiles_per_second,
        "encoder": network.origin.encoder,
        "weights": network.origin.weights,
        "width": network.width,
    });
    run.finish(figures, failed)
}

/// What identifies an extract run: the settings, every square of every slide, the weights.
///
/// # Errors
/// The tile folder is no finished run; the weight file is missing.
pub fn recipe(config: &Config, inputs: &Inputs) -> Result<Recipe> {
    let weights = frozen::weights_name(config, inputs.weights.as_deref())?;
    Ok(recipe_from(config, plans(&inputs.tiles)?.1, weights))
}

fn recipe_from(config: &Config, tiles: String, weights: String) -> Recipe {
    let mut settings = json!({ "extract": config.extract });
    if config.extract.random_weights {
        settings["seed"] = json!(config.seed);
    }
    Recipe { stage: "extract".into(), settings, inputs: BTreeMap::from([("tiles".into(), tiles), ("weights".into(), weights)]) }
}

/// The coordinates files of a tile run, sorted, and one digest of all that they ask for.
fn plans(tiles: &Path) -> Result<(Vec<Planned>, String)> {
    run::finished(tiles, "tile")?;
    let folder = tiles.join("patches");
    let none = || anyhow!("'{}' holds no coordinates; no slide of that tile run succeeded", folder.display());
    let entries = std::fs::read_dir(&folder).map_err(|_| none())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("_patches.h5")));
    paths.sort();
    let (mut planned, mut contents) = (Vec::new(), Vec::new());
    for path in paths {
        let plan = coords::read(&path)?;
        contents.push(json!([plan.slide_id, plan.slide_digest, plan.window, coords::digest(&plan)]));
        planned.push(Planned { id: plan.slide_id, path, tiles: plan.coords.len() });
    }
    if planned.is_empty() {
        return Err(none());
    }
    Ok((planned, digest::bytes(serde_json::to_string(&contents)?.as_bytes())))
}

/// Extracts one slide, unless its bag is there already; returns the number of tiles that were embedded.
fn extract(
    run: &Run,
    planned: &Planned,
    slide: Option<&SlideFile>,
    network: &Frozen,
    settings: &ExtractSettings,
    threads: usize,
    progress: &Progress,
) -> Result<usize> {
    let path = run.path(&format!("bags/{}.h5", planned.id));
    if path.exists() {
        bag::read(&path)?;
        progress.add(planned.tiles, &planned.id);
        return Ok(0);
    }
    let plan = coords::read(&planned.path)?;
    let file = slide.ok_or_else(|| anyhow!("'{}' is not among the slides; give the --slides that were tiled", plan.slide_file))?;
    ensure!(
        digest::file_fast(&file.path)? == plan.slide_digest,
        "'{}' is not the file that was tiled; tile the slides again",
        plan.slide_file
    );
    ensure!(
        settings.resize || plan.window.tile_px == network.input_px,
        "its tiles are {} px, {} wants {}; tile with --tile-px {}, or allow --resize",
        plan.window.tile_px,
        network.origin.encoder,
        network.input_px,
        network.input_px
    );
    let slide = slides::open_with(&file.path, plan.window.reader.into())?;
    let mut values = Vec::with_capacity(plan.coords.len() * network.width);
    stream::for_each_batch(slide.as_ref(), &plan, settings.batch_size, threads, |batch| {
        interrupt::check()?;
        values.extend(network.embed(&batch)?);
        progress.add(batch.count, &plan.slide_id);
        Ok(())
    })?;
    bag::write(&path, &plan, &Features { values, tiles: plan.coords.len(), width: network.width }, &network.origin)?;
    Ok(plan.coords.len())
}

fn write_table(path: &Path, planned: &[Planned], width: usize, failed: &BTreeMap<String, String>) -> Result<()> {
    let status = |plan: &Planned| if failed.contains_key(&plan.id) { "failed" } else { "done" }.to_owned();
    let reason = |plan: &Planned| failed.get(&plan.id).cloned().unwrap_or_default();
    table::write(
        path,
        vec![
            ("slide_id", Cells::Text(planned.iter().map(|plan| plan.id.clone()).collect())),
            ("tiles", Cells::Whole(planned.iter().map(|plan| plan.tiles as i64).collect())),
            ("width", Cells::Whole(vec![width as i64; planned.len()])),
            ("status", Cells::Text(planned.iter().map(status).collect())),
            ("reason", Cells::Text(planned.iter().map(reason).collect())),
        ],
    )
}

fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}
