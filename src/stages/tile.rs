//! `tile`: slides become plans. Coordinates, a thumbnail and a picture of mask and grid per slide, one table for all.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use rayon::prelude::*;
use serde_json::json;

use super::worklist::{Order, Outputs, Worklist};
use super::{Machine, Selection, on_one_line, write_failed};
use crate::config::Config;
use crate::ground::interrupt::{self, Interrupted};
use crate::ground::plan::Plan;
use crate::ground::progress::Progress;
use crate::slides::{self, SlideFile};
use crate::store::annotations::contours;
use crate::store::leases::Leases;
use crate::store::run::{Opened, Recipe, Run, Summary};
use crate::store::table::{self, Cells};
use crate::store::{coords, digest, files};
use crate::tiling::TileSettings;
use crate::tiling::fingerprint::fingerprint;
use crate::tiling::picture;
use crate::tiling::roi::{self, Roi, Skipped};
use crate::tiling::survey::survey;

/// What `tile` reads.
pub struct Inputs {
    /// A folder of slides, one slide, or a CSV table that names them.
    pub slides: PathBuf,
    /// Annotations of the region of interest: a folder of files named by slide, or one file for one slide.
    pub roi: Option<PathBuf>,
    /// Which of the slides.
    pub selection: Selection,
}

/// What identifies a tile run: its settings, and the names, bytes and given pixel sizes of its slides.
///
/// # Errors
/// Settings that make no grid, no slides, two slides of one id.
pub fn recipe(config: &Config, inputs: &Inputs) -> Result<Recipe> {
    recipe_for(config, inputs, &listed(inputs)?)
}

/// Tiles every slide that has no coordinates yet, the largest files first. A slide that fails is named in the summary and stops no
/// other. Several calls may work in one folder, each with all slides or a share of them.
///
/// Outputs in `out`: `patches/<id>_patches.h5`, `thumbnails/<id>.jpg`, `visualization/<id>.jpg`, `contours_geojson/<id>.geojson`,
/// `slides.csv`, and `failed.csv` where a slide failed. The tables are written by the call after which nothing is open.
///
/// Memory: at most `threads` slides are in work at a time, whatever their number and size on disk. Each holds its overview at 8 µm/px
/// or finer and the mask's working copies of it, about 40 bytes a pixel of at most 16 million (a scan of 25 × 25 mm: 10 million), and
/// the reader's cache of 256 MiB: 1.1 GB a thread at most.
///
/// # Errors
/// As [`recipe`], a folder that cannot be written, an interruption.
pub fn run(config: &Config, inputs: &Inputs, out: &Path, machine: &Machine) -> Result<Summary> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(machine.threads).build().context("cannot start the worker threads")?;
    let slides = pool.install(|| listed(inputs))?;
    let recipe = recipe_for(config, inputs, &slides)?;
    let run = match Run::open_share(out, recipe, inputs.selection.shard)? {
        Opened::Done(summary) => {
            tracing::info!("tile: nothing to do, {} slides are tiled", slides.len());
            return Ok(summary);
        }
        Opened::Work(run) => run,
    };

    let leases = Leases::open(&run.folder)?;
    let worklist = Worklist::new(
        &leases,
        slides.iter().map(|slide| (&*slide.file.id, slide.bytes)),
        &inputs.selection,
        Outputs { folder: run.path("patches"), ending: "_patches.h5" },
        Order::HeaviestFirst,
    );
    let work = Work { run: &run, slides: &slides, settings: &config.tile, drawn: inputs.roi.as_deref(), pool: &pool, leases: &leases };
    let mut outcomes = work.tile_all(&worklist, machine.threads)?;
    let failed = |outcomes: &Outcomes| -> BTreeMap<usize, String> {
        let failures = outcomes.iter().filter_map(|(&place, outcome)| Some((place, outcome.as_ref().err()?)));
        failures.filter(|(_, error)| !error.is::<Skipped>()).map(|(place, error)| (place, reason(&slides[place], error))).collect()
    };
    let by_id =
        |failed: BTreeMap<usize, String>| failed.into_iter().map(|(place, reason)| (slides[place].file.id.clone(), reason)).collect();
    if !worklist.closes(outcomes.iter().filter(|(_, outcome)| outcome.is_err()).map(|(&place, _)| place))? {
        if let Some(summary) = run.finished_by_another()? {
            tracing::info!("tile: another call has finished the folder");
            return Ok(summary);
        }
        if inputs.selection.shard.is_whole() {
            return Err(run.without_leases());
        }
        let (done, tiles) = counts(outcomes.values());
        tracing::info!("tile: {done} slides of share {}, {tiles} tiles; the last call to end finishes the folder", inputs.selection.shard);
        return run.leave(json!({ "slides": outcomes.len(), "done": done, "tiles": tiles }), by_id(failed(&outcomes)));
    }
    if let Some(summary) = run.finished_by_another()? {
        return Ok(summary);
    }
    for place in 0..slides.len() {
        interrupt::check()?;
        if let Entry::Vacant(vacant) = outcomes.entry(place) {
            vacant.insert(work.settled(place, worklist.failure(place)));
        }
    }
    let failed: BTreeMap<String, String> = by_id(failed(&outcomes));
    let outcomes: Vec<Result<Plan>> = outcomes.into_values().collect();
    let (done, tiles) = counts(&outcomes);
    write_table(&run.path("slides.csv"), &slides, &outcomes)?;
    write_failed(&run, &failed)?;
    tracing::info!("tile: {done} of {} slides, {tiles} tiles; see slides.csv", slides.len());
    let summary = run.finish(json!({ "slides": slides.len(), "done": done, "tiles": tiles }), failed)?;
    leases.close()?;
    Ok(summary)
}

/// Slides that were tiled, and their tiles.
fn counts<'a>(outcomes: impl IntoIterator<Item = &'a Result<Plan>>) -> (usize, usize) {
    outcomes.into_iter().flatten().fold((0, 0), |(slides, tiles), plan| (slides + 1, tiles + plan.coords.len()))
}

/// What became of slides, by their place in the list.
type Outcomes = BTreeMap<usize, Result<Plan>>;

/// What every thread works with.
struct Work<'a> {
    run: &'a Run,
    slides: &'a [Listed],
    settings: &'a TileSettings,
    drawn: Option<&'a Path>,
    pool: &'a rayon::ThreadPool,
    leases: &'a Leases,
}

impl Work<'_> {
    /// Tiles the slides that the list hands out, each thread the next. Threads of their own, so that waiting for the pool's blocks never
    /// begins another slide, and no more than `threads` are in memory.
    fn tile_all(&self, worklist: &Worklist, threads: usize) -> Result<Outcomes> {
        let progress = Progress::new("slides", worklist.own().len());
        let outcomes = Mutex::new(Outcomes::new());
        let work = || -> Result<()> {
            while let Some(place) = worklist.next()? {
                let slide = &self.slides[place];
                let outcome = tile(self, slide);
                if let Err(error) = &outcome {
                    if error.is::<Interrupted>() {
                        return Err(Interrupted.into());
                    }
                    self.leases.failed(&slide.file.id, &reason(slide, error), error.is::<Skipped>())?;
                }
                progress.add(1, &slide.file.id);
                outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert(place, outcome);
            }
            Ok(())
        };
        // Where one thread cannot go on, the others need not wait for what other calls have.
        let work = || work().inspect_err(|_| worklist.stop());
        let ended = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads.min(self.slides.len())).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        progress.finish();
        ended?;
        Ok(outcomes.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn patches(&self, slide: &Listed) -> PathBuf {
        self.run.path(&format!("patches/{}_patches.h5", slide.file.id))
    }

    /// A slide that another call has tiled, or why it has not.
    fn settled(&self, place: usize, failure: Option<String>) -> Result<Plan> {
        let slide = &self.slides[place];
        match (failure, self.drawn) {
            _ if self.patches(slide).exists() => coords::read(&self.patches(slide)),
            (None, _) => Err(anyhow!("it was not tiled, and no call has said why; run the same command again")),
            // Whether there is something drawn for it is known at once, and no failure.
            (Some(reason), Some(drawn)) => Roi::read(drawn, &slide.file, &self.settings.roi).and(Err(anyhow!(reason))),
            (Some(reason), None) => Err(anyhow!(reason)),
        }
    }
}

/// A slide, the fast digest of its file and its length.
struct Listed {
    file: SlideFile,
    digest: String,
    bytes: u64,
}

/// The slides in order, digested in parallel. A file that cannot be read has an empty digest here and its reason in the
/// table later.
fn listed(inputs: &Inputs) -> Result<Vec<Listed>> {
    let slides = inputs.selection.narrow(inputs.selection.slides(&inputs.slides)?, |slide| &slide.id)?;
    let looked_at = |file: SlideFile| Listed {
        digest: digest::files_fast(file.files()).unwrap_or_default(),
        bytes: file.files().filter_map(|path| Some(path.metadata().ok()?.len())).sum(),
        file,
    };
    Ok(slides.into_par_iter().map(looked_at).collect())
}

fn recipe_for(config: &Config, inputs: &Inputs, slides: &[Listed]) -> Result<Recipe> {
    config.tile.validate()?;
    let named: Vec<_> = slides.iter().map(|slide| (&slide.file.file, &slide.digest, slide.file.mpp)).collect();
    let mut digests = BTreeMap::from([("slides".into(), digest::bytes(serde_json::to_string(&named)?.as_bytes()))]);
    if let Some(given) = &inputs.roi {
        let digest = roi::digest(given, slides.iter().map(|slide| &slide.file));
        digests.insert(
            "roi".into(),
            digest.map_err(|error| match inputs.selection.salt {
                // Annotations are named by their slides.
                Some(_) => anyhow!("the annotations cannot be used; the same call without --pseudonymise says which and why"),
                None => error,
            })?,
        );
    }
    Ok(recipe_from(config, digests))
}

pub(super) fn recipe_from(config: &Config, inputs: BTreeMap<String, String>) -> Recipe {
    Recipe { stage: "tile".into(), settings: json!({ "tile": config.tile }), inputs }
}

/// Tiles one slide, unless its coordinates are there already: they are written last.
fn tile(work: &Work, listed: &Listed) -> Result<Plan> {
    let Work { run, settings, pool, .. } = work;
    let file = &listed.file;
    let patches = work.patches(listed);
    if patches.exists() {
        return coords::read(&patches);
    }
    let roi = work.drawn.map(|given| Roi::read(given, file, &settings.roi)).transpose()?;
    let slide = slides::open_with(&file.path, settings.reader)?;
    let survey = pool.install(|| survey(slide.as_ref(), file, &listed.digest, settings, roi))?;
    let thumbnail = picture::thumbnail(&survey)?;
    for (folder, image) in [("thumbnails", &thumbnail), ("visualization", &picture::visualization(&survey, &thumbnail))] {
        files::write_bytes(&run.path(&format!("{folder}/{}.jpg", file.id)), &picture::jpeg(image)?)?;
    }
    contours::write(&run.path(&format!("contours_geojson/{}.geojson", file.id)), &survey.mask.contours(survey.plan.canvas))?;
    let plan = Plan { fingerprint: fingerprint(&thumbnail, &survey.mask), ..survey.plan };
    if survey.squares == 0 {
        return Err(anyhow!(
            "the slide ({}x{} px) is smaller than one tile ({side}x{side} px of level 0); ask for smaller tiles",
            plan.canvas.width,
            plan.canvas.height,
            side = plan.window.side_level0_px,
        ));
    }
    if let (true, Some((_, left_out @ 1..))) = (plan.coords.is_empty(), &survey.roi) {
        return Err(anyhow!(
            "none of {left_out} squares with tissue has {} of the region of interest; look at visualization/{}.jpg, then lower \
             tile.roi.min-share, choose other classes or set tile.roi.origin",
            settings.roi.min_share,
            file.id
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
    work.leases.check()?;
    coords::write(&patches, &plan)?;
    Ok(plan)
}

/// Why a slide failed, on one line.
fn reason(slide: &Listed, error: &anyhow::Error) -> String {
    // Before spaces go, so that names with several are found.
    on_one_line(&slide.file.disguise(&format!("{error:#}")))
}

fn write_table(path: &Path, slides: &[Listed], outcomes: &[Result<Plan>]) -> Result<()> {
    let planned = |cell: &dyn Fn(&Plan) -> String| {
        Cells::Text(outcomes.iter().map(|outcome| outcome.as_ref().map_or_else(|_| String::new(), cell)).collect())
    };
    let status = |outcome: &Result<Plan>| match outcome {
        Ok(_) => "done".to_owned(),
        Err(error) => if error.is::<Skipped>() { "skipped" } else { "failed" }.to_owned(),
    };
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
            ("reader", planned(&|plan| plan.window.reader.to_string())),
            ("decode_scale", planned(&|plan| plan.window.decode_scale.to_string())),
            ("residual", planned(&|plan| format!("{:.6}", plan.window.residual))),
            ("tiles", planned(&|plan| plan.coords.len().to_string())),
            ("coords_digest", planned(&coords::digest)),
            ("seal", planned(&|plan| coords::seal(plan).unwrap_or_default())),
            ("status", Cells::Text(outcomes.iter().map(status).collect())),
            (
                "reason",
                Cells::Text(
                    slides
                        .iter()
                        .zip(outcomes)
                        .map(|(slide, outcome)| outcome.as_ref().err().map_or_else(String::new, |error| reason(slide, error)))
                        .collect(),
                ),
            ),
        ],
    )
}
