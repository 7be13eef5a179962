//! `tile`: slides become plans. Coordinates, a thumbnail and a picture of mask and grid per slide, one table for all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use rayon::prelude::*;
use serde_json::json;

use super::Machine;
use crate::config::Config;
use crate::ground::interrupt::{self, Interrupted};
use crate::ground::plan::Plan;
use crate::ground::progress::Progress;
use crate::slides::{self, SlideFile};
use crate::store::run::{Opened, Recipe, Run, Summary};
use crate::store::table::{self, Cells};
use crate::store::{coords, digest, files};
use crate::tiling::TileSettings;
use crate::tiling::fingerprint::fingerprint;
use crate::tiling::picture;
use crate::tiling::survey::survey;

/// What `tile` reads.
pub struct Inputs {
    /// A folder of slides, one slide, or a CSV table that names them.
    pub slides: PathBuf,
}

/// What identifies a tile run: its settings, and the names, bytes and given pixel sizes of its slides.
///
/// # Errors
/// Settings that make no grid, no slides, two slides of one id.
pub fn recipe(config: &Config, inputs: &Inputs) -> Result<Recipe> {
    recipe_for(config, &listed(inputs)?)
}

/// Tiles every slide that has no coordinates yet. A slide that fails is named in the summary and stops no other.
///
/// Outputs in `out`: `patches/<id>_patches.h5`, `thumbnails/<id>.jpg`, `visualization/<id>.jpg`, `slides.csv`.
///
/// # Errors
/// As [`recipe`], a folder that cannot be written, an interruption.
pub fn run(config: &Config, inputs: &Inputs, out: &Path, machine: &Machine) -> Result<Summary> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(machine.threads).build().context("cannot start the worker threads")?;
    let slides = pool.install(|| listed(inputs))?;
    let recipe = recipe_for(config, &slides)?;
    let run = match Run::open(out, recipe)? {
        Opened::Done(summary) => {
            tracing::info!("tile: nothing to do, {} slides are tiled", slides.len());
            return Ok(summary);
        }
        Opened::Work(run) => run,
    };

    let progress = Progress::new("slides", slides.len());
    let outcomes: Vec<Result<Plan>> = pool.install(|| {
        let one = |slide: &Listed| {
            interrupt::check()?;
            let outcome = tile(&run, slide, &config.tile);
            progress.add(1, &slide.file.id);
            outcome
        };
        slides.par_iter().map(one).collect()
    });
    progress.finish();
    if outcomes.iter().any(|outcome| outcome.as_ref().is_err_and(|error| error.is::<Interrupted>())) {
        return Err(Interrupted.into());
    }

    write_table(&run.path("slides.csv"), &slides, &outcomes)?;
    let tiles: usize = outcomes.iter().flatten().map(|plan| plan.coords.len()).sum();
    let failed: BTreeMap<String, String> = slides
        .iter()
        .zip(&outcomes)
        .filter_map(|(slide, outcome)| Some((slide.file.id.clone(), one_line(outcome.as_ref().err()?))))
        .collect();
    let done = slides.len() - failed.len();
    tracing::info!("tile: {done} of {} slides, {tiles} tiles; see slides.csv", slides.len());
    run.finish(json!({ "slides": slides.len(), "done": done, "tiles": tiles }), failed)
}

/// A slide and the fast digest of its file.
struct Listed {
    file: SlideFile,
    digest: String,
}

/// The slides in order, digested in parallel. A file that cannot be read has an empty digest here and its reason in the
/// table later.
fn listed(inputs: &Inputs) -> Result<Vec<Listed>> {
    let digested = |file: SlideFile| Listed { digest: digest::file_fast(&file.path).unwrap_or_default(), file };
    Ok(slides::list(&inputs.slides)?.into_par_iter().map(digested).collect())
}

fn recipe_for(config: &Config, slides: &[Listed]) -> Result<Recipe> {
    config.tile.validate()?;
    let named: Vec<_> = slides.iter().map(|slide| (&slide.file.file, &slide.digest, slide.file.mpp)).collect();
    Ok(Recipe {
        stage: "tile".into(),
        settings: json!({ "tile": config.tile }),
        inputs: BTreeMap::from([("slides".into(), digest::bytes(serde_json::to_string(&named)?.as_bytes()))]),
    })
}

/// Tiles one slide, unless its coordinates are there already: they are written last.
fn tile(run: &Run, listed: &Listed, settings: &TileSettings) -> Result<Plan> {
    let file = &listed.file;
    let patches = run.path(&format!("patches/{}_patches.h5", file.id));
    if patches.exists() {
        return coords::read(&patches);
    }
    let slide = slides::open_with(&file.path, settings.reader)?;
    let survey = survey(slide.as_ref(), file, &listed.digest, settings)?;
    let thumbnail = picture::thumbnail(&survey)?;
    for (folder, image) in [("thumbnails", &thumbnail), ("visualization", &picture::visualization(&survey, &thumbnail))] {
        files::write_bytes(&run.path(&format!("{folder}/{}.jpg", file.id)), &picture::jpeg(image)?)?;
    }
    let plan = Plan { fingerprint: fingerprint(&thumbnail, &survey.mask), ..survey.plan };
    if survey.squares == 0 {
        return Err(anyhow!(
            "the slide ({}x{} px) is smaller than one tile ({side}x{side} px of level 0); ask for smaller tiles",
            plan.canvas.width,
            plan.canvas.height,
            side = plan.window.side_level0_px,
        ));
    }
    if plan.coords.is_empty() {
        return Err(anyhow!(
            "no tissue: none of {} squares has {} of it; look at visualization/{}.jpg, then lower --min-tissue or try --tissue otsu or none",
            survey.squares,
            settings.min_tissue,
            file.id
        ));
    }
    coords::write(&patches, &plan)?;
    Ok(plan)
}

fn write_table(path: &Path, slides: &[Listed], outcomes: &[Result<Plan>]) -> Result<()> {
    let planned = |cell: &dyn Fn(&Plan) -> String| {
        Cells::Text(outcomes.iter().map(|outcome| outcome.as_ref().map_or_else(|_| String::new(), cell)).collect())
    };
    let status = |outcome: &Result<Plan>| if outcome.is_ok() { "done" } else { "failed" }.to_owned();
    let reason = |outcome: &Result<Plan>| outcome.as_ref().err().map_or_else(String::new, one_line);
    table::write(
        path,
        vec![
            ("slide_id", Cells::Text(slides.iter().map(|slide| slide.file.id.clone()).collect())),
            ("file", Cells::Text(slides.iter().map(|slide| slide.file.file.clone()).collect())),
            ("digest", Cells::Text(slides.iter().map(|slide| slide.digest.clone()).collect())),
            ("width", planned(&|plan| plan.canvas.width.to_string())),
            ("height", planned(&|plan| plan.canvas.height.to_string())),
            ("mpp", planned(&|plan| plan.mpp.mean().to_string())),
            ("mpp_source", planned(&|plan| plan.mpp_source.clone())),
            ("level", planned(&|plan| plan.window.level.to_string())),
            ("residual", planned(&|plan| format!("{:.6}", plan.window.residual))),
            ("tiles", planned(&|plan| plan.coords.len().to_string())),
            ("coords_digest", planned(&coords::digest)),
            ("status", Cells::Text(outcomes.iter().map(status).collect())),
            ("reason", Cells::Text(outcomes.iter().map(reason).collect())),
        ],
    )
}

fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}
