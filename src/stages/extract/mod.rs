//! `extract`: tiles become feature vectors, one bag a slide. Threads decode ahead while the network works; bags are whole.
//!
//! A bag that is there is kept, and the rows of the slide in work are saved every so often, so that an interrupted call continues where it
//! was; the same slides, tiles and weights give the same bytes whether it was interrupted or not.

mod account;
pub(super) mod embed;
mod pipeline;
mod source;
mod writer;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, ensure};
use rayon::prelude::*;
use serde_json::json;
use tch::Kind;

use self::account::Account;
use self::embed::Embedder;
use self::pipeline::{Extraction, Outcomes};
use super::frozen::{self, Frozen};
use super::worklist::{Order, Outputs, Worklist};
use super::{Machine, Selection, write_failed};
use crate::config::{Config, ExtractSettings};
use crate::ground::interrupt;
use crate::ground::plan::Plan;
use crate::ground::progress::Progress;
use crate::ground::tile_status::StatusCounts;
use crate::slides::SlideFile;
use crate::store::leases::Leases;
use crate::store::run::{self, Opened, Recipe, Run, Summary};
use crate::store::scratch::Scratch;
use crate::store::table::{self, Cells};
use crate::store::{bag, coords, digest};
use crate::torch::autocast::exact_single;

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
    /// Where to copy slides before they are read.
    pub scratch: Option<ScratchPlace>,
}

/// A disk of the machine itself.
#[derive(Debug, Clone)]
pub struct ScratchPlace {
    /// A folder there; slides are copied into a new one below it.
    pub folder: PathBuf,
    /// Bytes that copies may take together; `None` is half of what is free.
    pub most: Option<u64>,
}

/// A slide whose tiles are known.
struct Planned {
    id: String,
    path: PathBuf,
    tiles: usize,
    /// What its tiles are, for the recipe.
    content: serde_json::Value,
}

/// Writes a bag for every tiled slide that has none yet. A slide that fails is named in the summary and stops no other.
///
/// Outputs in `out`: `bags/<id>.h5`, `slides.csv`, and `failed.csv` where a slide failed. Several calls may work
/// in one folder, each with all slides or a share of them; the tables are written by the call after which nothing is open.
///
/// Memory: the network; the features of three slides at most (each 2·N·D bytes, twice that in single precision): the one in work, one that
/// waits for the disk and one being written; the tiles that `tiling::stream` reads ahead and five batches more; the reader's caches of
/// two open slides.
///
/// # Errors
/// Wrong settings, missing or wrong weights, a tile run that is not finished, a folder that cannot be written, an interruption.
pub fn run(config: &Config, inputs: &Inputs, out: &Path, machine: &Machine) -> Result<Summary> {
    let settings = &config.extract;
    ensure!(
        (0.0..=1.0).contains(&settings.max_bad_tiles),
        "extract.max-bad-tiles is {}; it wants a share from 0 to 1",
        settings.max_bad_tiles
    );
    // METHOD: on a GPU half precision; features of the published encoders differ by less than their own storage rounds.
    let kind = settings.precision.kind(machine.device, settings.encoder.gpu_precision.kind())?;
    if kind == Kind::Float {
        exact_single()?;
    }
    let save_every = super::train::save_every()?;
    let (planned, tiles_digest) = plans(inputs)?;
    let mut network = Frozen::new(config, inputs.weights.as_deref(), machine)?;
    let place = if machine.device.is_cuda() { "gpu" } else { "cpu" };
    network.origin.computed = Some(format!("{kind:?} on {place}").to_lowercase());
    let slides: BTreeMap<String, SlideFile> =
        inputs.selection.slides(&inputs.slides)?.into_iter().map(|slide| (slide.id.clone(), slide)).collect();
    let recipe = recipe_from(config, tiles_digest, network.origin.weights.clone());
    let run = match Run::open_share(out, recipe, inputs.selection.shard)? {
        Opened::Done(summary) => {
            tracing::info!("extract: nothing to do, {} slides have bags", planned.len());
            return Ok(summary);
        }
        Opened::Work(run) => run,
    };

    let scratch = inputs.scratch.as_ref().map(|place| Scratch::open(&place.folder, place.most)).transpose()?;
    let leases = Leases::open(&run.folder)?;
    let worklist = Worklist::new(
        &leases,
        planned.iter().map(|plan| (&*plan.id, plan.tiles as u64)),
        &inputs.selection,
        Outputs { folder: run.path("bags"), ending: ".h5" },
        Order::Listed,
    );
    let progress = Progress::new("tiles", worklist.own().into_iter().map(|place| planned[place].tiles).sum());
    let account = Account::new(machine.threads, machine.device.is_cuda());
    let wanted = batch_size(settings, machine);
    let embedder = Embedder::new(&network, wanted, kind, settings.dtype);
    let work = Extraction {
        run: &run,
        leases: &leases,
        scratch: scratch.as_ref(),
        settings,
        frozen: &network,
        kind,
        batch_size: embedder.whole_groups(wanted),
        threads: machine.threads,
        save_every,
    };
    let jobs: Vec<_> = planned.iter().map(|plan| (plan, slides.get(&plan.id))).collect();
    let outcomes = pipeline::extract(&work, &worklist, &jobs, &embedder, &account, &progress);
    progress.finish();
    let mut outcomes = outcomes?;
    let figures = |bags: &BTreeMap<String, StatusCounts>, slides: usize| {
        json!({
            "slides": slides,
            "done": bags.len(),
            "tiles": bags.values().map(|tiles| tiles.ok).sum::<usize>(),
            "tiles_unreadable": bags.values().map(|tiles| tiles.unreadable).sum::<usize>(),
            "tiles_embedded": account.tiles(),
            "tiles_per_second": account.rate(),
            "slides_per_hour": account.slides_per_hour(),
            "precision": format!("{kind:?}").to_lowercase(),
            "encoder": network.origin.encoder,
            "weights": network.origin.weights,
            "width": network.width,
            "time": account.figures(),
        })
    };
    let sorted = |outcomes: Outcomes| {
        let (mut bags, mut failed) = (BTreeMap::new(), BTreeMap::new());
        for (place, outcome) in outcomes {
            let id = planned[place].id.clone();
            match outcome {
                Ok(tiles) => drop(bags.insert(id, tiles)),
                Err(error) => drop(failed.insert(id, pipeline::reason(&jobs, place, &error))),
            }
        }
        (bags, failed)
    };
    if !worklist.closes(outcomes.iter().filter(|(_, outcome)| outcome.is_err()).map(|(&place, _)| place))? {
        if let Some(summary) = run.finished_by_another()? {
            tracing::info!("extract: another call has finished the folder");
            return Ok(summary);
        }
        if inputs.selection.shard.is_whole() {
            return Err(run.without_leases());
        }
        let slides = outcomes.len();
        let (bags, failed) = sorted(outcomes);
        tracing::info!(
            "extract: {} slides of share {}, {}; the last call to end finishes the folder",
            bags.len(),
            inputs.selection.shard,
            account.line()
        );
        return run.leave(figures(&bags, slides), failed);
    }
    if let Some(summary) = run.finished_by_another()? {
        return Ok(summary);
    }
    for (place, plan) in planned.iter().enumerate() {
        interrupt::check()?;
        if let Entry::Vacant(vacant) = outcomes.entry(place) {
            vacant.insert(match worklist.failure(place) {
                Some(reason) if !source::bag_path(&work, plan).exists() => Err(anyhow!(reason)),
                _ => source::stated(&work, plan),
            });
        }
    }
    let (bags, failed) = sorted(outcomes);
    tracing::info!("extract: {} of {} slides, {}", bags.len(), planned.len(), account.line());
    let close = || {
        write_table(&run.path("slides.csv"), &planned, network.width, &bags, &failed)?;
        write_failed(&run, &failed)?;
        let figures = figures(&bags, planned.len());
        run.finish(figures, failed.clone())
    };
    // A disk without room for a slide's rows may have none for the tables that would say so.
    let summary = close()
        .map_err(|error| if failed.is_empty() { error } else { error.context(format!("slides failed:\n{}", super::list(&failed))) })?;
    leases.close()?;
    Ok(summary)
}

/// Tiles that the device is given at once where the settings leave it open.
pub(super) fn batch_size(settings: &ExtractSettings, machine: &Machine) -> usize {
    match settings.batch_size {
        0 if machine.device.is_cuda() => 256,
        0 => (8 * machine.threads).max(32), // enough for every thread not to wait long for the last
        given => given,
    }
}

/// What identifies an extract run: the settings, every square of every slide, the weights.
///
/// # Errors
/// The tile folder is no finished run; the weight file is missing.
pub fn recipe(config: &Config, inputs: &Inputs) -> Result<Recipe> {
    let weights = frozen::weights_name(config, inputs.weights.as_deref())?;
    Ok(recipe_from(config, plans(inputs)?.1, weights))
}

pub(super) fn recipe_from(config: &Config, tiles: String, weights: String) -> Recipe {
    let mut settings = json!({ "extract": config.extract });
    settings["extract"]["encoder"] = config.extract.encoder.identity();
    // A matter of the machine: whoever runs out of memory goes on with less.
    settings["extract"].as_object_mut().map(|settings| settings.remove("batch-size"));
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
        planned.push(Planned { content: content(&plan), id: plan.slide_id, path, tiles: plan.coords.len() });
    }
    if planned.is_empty() {
        return Err(none());
    }
    let planned = inputs.selection.narrow(planned, |plan| &plan.id)?;
    let digest = tiles_digest(planned.iter().map(|plan| &plan.content))?;
    Ok((planned, digest))
}

/// What a plan asks for.
pub(super) fn content(plan: &Plan) -> serde_json::Value {
    json!([plan.slide_id, plan.slide_digest, plan.window, coords::digest(plan)])
}

/// One digest of all that plans ask for, in the order of their files.
pub(super) fn tiles_digest<'a>(contents: impl Iterator<Item = &'a serde_json::Value>) -> Result<String> {
    Ok(digest::bytes(serde_json::to_string(&contents.collect::<Vec<_>>())?.as_bytes()))
}

fn write_table(
    path: &Path,
    planned: &[Planned],
    width: usize,
    bags: &BTreeMap<String, StatusCounts>,
    failed: &BTreeMap<String, String>,
) -> Result<()> {
    let status = |plan: &Planned| if failed.contains_key(&plan.id) { "failed" } else { "done" }.to_owned();
    let reason = |plan: &Planned| failed.get(&plan.id).cloned().unwrap_or_default();
    // Bags of other calls are among them.
    let seal = |plan: &Planned| match bags.contains_key(&plan.id) {
        true => bag::seal(&path.with_file_name(format!("bags/{}.h5", plan.id))).map(Option::unwrap_or_default),
        false => Ok(String::new()),
    };
    let seals = planned.par_iter().map(seal).collect::<Result<Vec<String>>>()?;
    let count = |of: fn(&StatusCounts) -> usize| Cells::Whole(planned.iter().map(|plan| bags.get(&plan.id).map_or(0, of) as i64).collect());
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
            ("seal", Cells::Text(seals)),
            ("status", Cells::Text(planned.iter().map(status).collect())),
            ("reason", Cells::Text(planned.iter().map(reason).collect())),
        ],
    )
}
