//! `extract`: tiles become feature vectors, one bag a slide. Threads decode ahead while the network works; bags are whole.
//!
//! A bag that is there is kept, so that an interrupted call continues; the same slides, tiles and weights give the same
//! bytes whether it was interrupted or not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, anyhow, bail, ensure};
use serde_json::json;

use super::frozen::{self, Frozen};
use super::{Machine, Selection, on_one_line, write_failed};
use crate::config::{Config, ExtractSettings};
use crate::ground::interrupt::{self, Interrupted};
use crate::ground::plan::Plan;
use crate::ground::progress::Progress;
use crate::ground::share;
use crate::ground::tile_status::StatusCounts;
use crate::slides::{self, SlideFile};
use crate::store::bag::{self, Features, Seen};
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
    /// Which of the tiled slides.
    pub selection: Selection,
}

/// A slide whose tiles are known.
struct Planned {
    id: String,
    path: PathBuf,
    tiles: usize,
    /// What its tiles are, for the recipe.
    content: serde_json::Value,
}

/// A bag that is there.
struct Bagged {
    /// What became of its tiles.
    tiles: StatusCounts,
    /// How many of them were embedded by this call.
    embedded: usize,
}

/// Writes a bag for every tiled slide that has none yet. A slide that fails is named in the summary and stops no other.
///
/// Outputs in `out`: `bags/<id>.h5`, `slides.csv`, and `failed.csv` where a slide failed. A call for a share of the slides leaves the
/// tables to the call for the whole.
///
/// Memory: one slide at a time, with its features (2·N·D bytes), what `tiling::stream` holds, and the network.
///
/// # Errors
/// Wrong settings, missing or wrong weights, a tile run that is not finished, a folder that cannot be written, an interruption.
pub fn run(config: &Config, inputs: &Inputs, out: &Path, machine: &Machine) -> Result<Summary> {
    let settings = &config.extract;
    ensure!(settings.batch_size > 0, "extract.batch-size is 0; it wants at least one tile");
    ensure!(
        (0.0..=1.0).contains(&settings.max_bad_tiles),
        "extract.max-bad-tiles is {}; it wants a share from 0 to 1",
        settings.max_bad_tiles
    );
    let (planned, tiles_digest) = plans(inputs)?;
    let network = Frozen::new(config, inputs.weights.as_deref(), machine)?;
    let slides: BTreeMap<String, SlideFile> =
        inputs.selection.slides(&inputs.slides)?.into_iter().map(|slide| (slide.id.clone(), slide)).collect();
    let recipe = recipe_from(config, tiles_digest, network.origin.weights.clone());
    let run = match Run::open(out, recipe)? {
        Opened::Done(summary) => {
            tracing::info!("extract: nothing to do, {} slides have bags", planned.len());
            return Ok(summary);
        }
        Opened::Work(run) => run,
    };

    let shard = inputs.selection.shard;
    let planned: Vec<Planned> =
        planned.into_iter().enumerate().filter(|(position, _)| shard.holds(*position)).map(|(_, plan)| plan).collect();
    let progress = Progress::new("tiles", planned.iter().map(|plan| plan.tiles).sum());
    let started = Instant::now();
    let mut embedded = 0;
    let (mut bags, mut failed) = (BTreeMap::new(), BTreeMap::new());
    for plan in &planned {
        interrupt::check()?;
        match extract(&run, plan, slides.get(&plan.id), &network, settings, machine.threads, &progress) {
            Ok(bag) => {
                embedded += bag.embedded;
                bags.insert(plan.id.clone(), bag);
            }
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => {
                let reason = format!("{error:#}");
                let reason = slides.get(&plan.id).map_or_else(|| reason.clone(), |slide| slide.disguise(&reason));
                failed.insert(plan.id.clone(), on_one_line(&reason));
            }
        }
    }
    progress.finish();

    let tiles_per_second = (embedded as f64 / started.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    let figures = json!({
        "slides": planned.len(),
        "done": bags.len(),
        "tiles": bags.values().map(|bag| bag.tiles.ok).sum::<usize>(),
        "tiles_unreadable": bags.values().map(|bag| bag.tiles.unreadable).sum::<usize>(),
        "tiles_per_second": tiles_per_second,
        "encoder": network.origin.encoder,
        "weights": network.origin.weights,
        "width": network.width,
    });
    if !shard.is_whole() {
        tracing::info!("extract: {} of {} slides of share {shard}; finish with the same call without --shard", bags.len(), planned.len());
        return run.leave(figures, failed);
    }
    write_table(&run.path("slides.csv"), &planned, network.width, &bags, &failed)?;
    write_failed(&run, &failed)?;
    tracing::info!("extract: {} of {} slides, {embedded} tiles at {tiles_per_second}/s", bags.len(), planned.len());
    run.finish(figures, failed)
}

/// What identifies an extract run: the settings, every square of every slide, the weights.
///
/// # Errors
/// The tile folder is no finished run; the weight file is missing.
pub fn recipe(config: &Config, inputs: &Inputs) -> Result<Recipe> {
    let weights = frozen::weights_name(config, inputs.weights.as_deref())?;
    Ok(recipe_from(config, plans(inputs)?.1, weights))
}

fn recipe_from(config: &Config, tiles: String, weights: String) -> Recipe {
    let mut settings = json!({ "extract": config.extract });
    if config.extract.random_weights {
        settings["seed"] = json!(config.seed);
    }
    Recipe { stage: "extract".into(), settings, inputs: BTreeMap::from([("tiles".into(), tiles), ("weights".into(), weights)]) }
}

/// The selected coordinates files of a tile run, sorted, and one digest of all that they ask for.
fn plans(inputs: &Inputs) -> Result<(Vec<Planned>, String)> {
    run::finished(&inputs.tiles, "tile")?;
    let folder = inputs.tiles.join("patches");
    let none = || anyhow!("'{}' holds no coordinates; no slide of that tile run succeeded", folder.display());
    let entries = std::fs::read_dir(&folder).map_err(|_| none())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("_patches.h5")));
    paths.sort();
    let mut planned = Vec::new();
    for path in paths {
        let plan = coords::read(&path)?;
        let content = json!([plan.slide_id, plan.slide_digest, plan.window, coords::digest(&plan)]);
        planned.push(Planned { id: plan.slide_id, path, tiles: plan.coords.len(), content });
    }
    if planned.is_empty() {
        return Err(none());
    }
    let planned = inputs.selection.narrow(planned, |plan| &plan.id)?;
    let contents: Vec<_> = planned.iter().map(|plan| &plan.content).collect();
    let digest = digest::bytes(serde_json::to_string(&contents)?.as_bytes());
    Ok((planned, digest))
}

/// Extracts one slide, unless its bag is there already.
fn extract(
    run: &Run,
    planned: &Planned,
    slide: Option<&SlideFile>,
    network: &Frozen,
    settings: &ExtractSettings,
    threads: usize,
    progress: &Progress,
) -> Result<Bagged> {
    let path = run.path(&format!("bags/{}.h5", planned.id));
    if path.exists() {
        let bag = bag::read(&path)?;
        progress.add(planned.tiles, &planned.id);
        let all = StatusCounts { ok: bag.features.tiles, ..StatusCounts::default() };
        return Ok(Bagged { tiles: bag.header.and_then(|header| header.status).unwrap_or(all), embedded: 0 });
    }
    let plan = coords::read(&planned.path)?;
    let file = slide.ok_or_else(|| anyhow!("'{}' is not among the slides; give the --slides that were tiled", plan.slide_file))?;
    ensure!(
        digest::files_fast(file.files())? == plan.slide_digest,
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
    let mut seen = Seen { status: Vec::with_capacity(plan.coords.len()), quality: Vec::new() };
    let mut faults = Vec::new();
    let read = stream::for_each_batch(slide.as_ref(), &plan, settings.batch_size, threads, |batch| {
        interrupt::check()?;
        values.extend(network.embed(&batch)?);
        progress.add(batch.status.len(), &plan.slide_id);
        seen.status.extend(batch.status);
        seen.quality.extend(batch.quality);
        faults.extend(batch.faults);
        within_budget(&faults, &plan, settings.max_bad_tiles)
    });
    for (position, reason) in &faults {
        let at = plan.coords[*position];
        run.log("unreadable", json!({"slide": plan.slide_id, "x": at.x, "y": at.y, "reason": file.disguise(reason)}))?;
    }
    read?;
    let tiles = StatusCounts::of(&seen.status);
    ensure!(
        tiles.ok > 0,
        "none of its {} tiles has pixels to embed: {} unreadable, {} outside the scanned area, {} of one colour; look at its thumbnail",
        plan.coords.len(),
        tiles.unreadable,
        tiles.outside,
        tiles.blank
    );
    bag::write(&path, &plan, &Features { values, tiles: tiles.ok, width: network.width }, &network.origin, Some(&seen))?;
    Ok(Bagged { tiles, embedded: tiles.ok })
}

/// # Errors
/// More tiles are unreadable than the share that is allowed; names the first.
fn within_budget(faults: &[(usize, String)], plan: &Plan, share: f64) -> Result<()> {
    let allowed = share::allowed(share, plan.coords.len());
    match faults {
        [(_, reason), ..] if faults.len() > allowed => bail!(
            "{} or more of its {} tiles cannot be read, {allowed} are allowed (--max-bad-tiles {}); the first: {reason}",
            faults.len(),
            plan.coords.len(),
            share::percent(share)
        ),
        _ => Ok(()),
    }
}

fn write_table(
    path: &Path,
    planned: &[Planned],
    width: usize,
    bags: &BTreeMap<String, Bagged>,
    failed: &BTreeMap<String, String>,
) -> Result<()> {
    let status = |plan: &Planned| if failed.contains_key(&plan.id) { "failed" } else { "done" }.to_owned();
    let reason = |plan: &Planned| failed.get(&plan.id).cloned().unwrap_or_default();
    let count = |of: fn(&StatusCounts) -> usize| {
        Cells::Whole(planned.iter().map(|plan| bags.get(&plan.id).map_or(0, |bag| of(&bag.tiles)) as i64).collect())
    };
    table::write(
        path,
        vec![
            ("slide_id", Cells::Text(planned.iter().map(|plan| plan.id.clone()).collect())),
            ("planned", Cells::Whole(planned.iter().map(|plan| plan.tiles as i64).collect())),
            ("tiles", count(|tiles| tiles.ok)),
            ("unreadable", count(|tiles| tiles.unreadable)),
            ("outside", count(|tiles| tiles.outside)),
            ("blank", count(|tiles| tiles.blank)),
            ("width", Cells::Whole(vec![width as i64; planned.len()])),
            ("status", Cells::Text(planned.iter().map(status).collect())),
            ("reason", Cells::Text(planned.iter().map(reason).collect())),
        ],
    )
}
