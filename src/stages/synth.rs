//! `synth`: a synthetic cohort on disk, in the layout of the real one: slides, label files, annotations where it has them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use rayon::prelude::*;
use serde_json::json;

use super::Machine;
use crate::ground::interrupt;
use crate::ground::progress::Progress;
use crate::store::files;
use crate::store::run::{Opened, Recipe, Run, Summary};
use crate::synth::{self, CohortSettings};

/// Writes the cohort into `out`, unless it is there.
///
/// # Errors
/// A size that the cohort cannot have, a folder that cannot be written, an interruption.
pub fn run(settings: &CohortSettings, out: &Path, machine: &Machine) -> Result<Summary> {
    let slides = synth::cohort(settings)?;
    // Without the name, as before there were others: a folder of the default cohort stays what it is.
    let recorded = match settings {
        CohortSettings::Demo(demo) => json!(demo),
        named => json!(named),
    };
    let recipe = Recipe { stage: "synth".into(), settings: json!({ "synth": recorded }), inputs: BTreeMap::new() };
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
            let path = run.path(&slide.path);
            if !path.exists() {
                files::write_bytes(&path, &synth::render(slide, settings.seed())?)?;
            }
            if let (Some(path), Some(xml)) = (&slide.annotation, synth::outlines(slide, settings.seed())) {
                files::write_bytes(&run.path(path), xml.as_bytes())?;
            }
            progress.add(1, &slide.slide_id);
            anyhow::Ok(())
        })
    })?;
    progress.finish();

    let labels = settings.label_file(&slides);
    files::write_bytes(&run.path(&labels.path), labels.text.as_bytes())?;
    let patients: BTreeSet<&str> = slides.iter().map(|slide| slide.patient_id.as_str()).collect();
    tracing::info!("synth: {} slides of {} patients; see {}", slides.len(), patients.len(), labels.path);
    run.finish(json!({ "slides": slides.len() }), BTreeMap::new())
}
