//! `synth`: a synthetic cohort on disk, in the layout of a real one: `slides/<id>.tif` and `labels.csv`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use rayon::prelude::*;
use serde_json::json;

use super::Machine;
use crate::ground::interrupt;
use crate::ground::progress::Progress;
use crate::store::files;
use crate::store::run::{Opened, Recipe, Run, Summary};
use crate::store::table::{self, Cells};
use crate::synth::{self, CohortSettings};

/// Writes the cohort into `out`, unless it is there.
///
/// # Errors
/// A number of slides that cannot be balanced, a folder that cannot be written, an interruption.
pub fn run(settings: &CohortSettings, out: &Path, machine: &Machine) -> Result<Summary> {
    let slides = synth::cohort(settings)?;
    let recipe = Recipe { stage: "synth".into(), settings: json!({ "synth": settings }), inputs: BTreeMap::new() };
    let run = match Run::open(out, recipe)? {
        Opened::Done(summary) => {
            tracing::info!("synth: nothing to do, the cohort of {} slides is there", slides.len());
            return Ok(summary);
        }
        Opened::Work(run) => run,
    };

    let progress = Progress::new("slides", slides.len());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(machine.threads).build().context("cannot start the worker threads")?;
    pool.install(|| {
        slides.par_iter().try_for_each(|slide| {
            interrupt::check()?;
            let path = run.path(&format!("slides/{}.tif", slide.slide_id));
            if !path.exists() {
                files::write_bytes(&path, &synth::render(slide, settings.seed)?)?;
            }
            progress.add(1, &slide.slide_id);
            anyhow::Ok(())
        })
    })?;
    progress.finish();

    let column = |cell: &dyn Fn(&synth::SyntheticSlide) -> String| Cells::Text(slides.iter().map(cell).collect());
    table::write(
        &run.path("labels.csv"),
        vec![
            ("slide_id", column(&|slide| slide.slide_id.clone())),
            ("patient_id", column(&|slide| slide.patient_id.clone())),
            ("label", column(&|slide| slide.lesion.label().to_owned())),
            ("centre", column(&|slide| format!("centre_{}", slide.centre))),
            ("mpp", Cells::Real(slides.iter().map(synth::SyntheticSlide::mpp).collect())),
        ],
    )?;
    tracing::info!("synth: {} slides of {} patients; see labels.csv", slides.len(), slides.len() / 2);
    run.finish(json!({ "slides": slides.len() }), BTreeMap::new())
}
