//! Slides → coordinates.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use rayon::prelude::*;

use super::found::Run;
use super::{Failure, Inputs, Outcome, broken, not_checked};
use crate::ground::listing::listing;
use crate::slides::SlideFile;
use crate::stages::{Selection, one_line};
use crate::store::{coords, digest, table};

/// A slide that was tiled, as `slides.csv` has it.
struct Row {
    id: String,
    /// Of the slide's files.
    slide: String,
    coords: String,
    /// Empty in runs of before it was written.
    seal: String,
}

/// # Errors
/// Slides that cannot be listed: a mistake of the call, not of the run.
pub(super) fn links(run: &Run, inputs: &Inputs, add: &mut impl FnMut(&'static str, Outcome)) -> Result<()> {
    let slides = match &inputs.slides {
        Some(path) => Some(Selection { salt: inputs.salt.clone(), ..Selection::default() }.slides(path)?),
        None => None,
    };
    match rows(run) {
        Ok(rows) => {
            add("slides", slides_of(&rows, slides));
            add("coordinates", coordinates(run, &rows));
        }
        Err(error) => add("coordinates", Err(error.into())),
    }
    if run.inputs.contains_key("roi") {
        add("annotations", not_checked("regions of interest are not compared"));
    }
    Ok(())
}

fn rows(run: &Run) -> Result<Vec<Row>> {
    let path = run.folder.join("slides.csv");
    let frame = table::read(&path)?;
    let text = |name: &str| table::text(&frame, name, &path);
    let (ids, slides, coords, status) = (text("slide_id")?, text("digest")?, text("coords_digest")?, text("status")?);
    let seals = if table::has(&frame, "seal") { text("seal")? } else { vec![String::new(); ids.len()] };
    let rows = ids.into_iter().zip(slides).zip(coords).zip(seals).zip(status);
    let done = rows.filter(|(_, status)| status == "done");
    Ok(done.map(|((((id, slide), coords), seal), _)| Row { id, slide, coords, seal }).collect())
}

/// The slides' fast digests: size, first and last MiB of each file.
fn slides_of(rows: &[Row], slides: Option<Vec<SlideFile>>) -> Outcome {
    let Some(slides) = slides else { return not_checked("no --slides: the chain begins at the coordinates") };
    let slides: BTreeMap<String, SlideFile> = slides.into_iter().map(|slide| (slide.id.clone(), slide)).collect();
    let fault = |row: &Row| -> Option<String> {
        let Some(slide) = slides.get(&row.id) else { return Some(format!("{}: it is not among the slides", row.id)) };
        match digest::files_fast(slide.files()) {
            Ok(digest) if digest == row.slide => None,
            Ok(_) => Some(format!("{}: it is not the file that was tiled", row.id)),
            Err(error) => Some(format!("{}: {}", row.id, slide.disguise(&one_line(&error)))),
        }
    };
    let wrong: Vec<String> = rows.par_iter().filter_map(fault).collect();
    whole(&wrong, || format!("{} slides, by size, first and last MiB", rows.len()))
}

/// What each coordinates file holds, against its own header and against `slides.csv`.
fn coordinates(run: &Run, rows: &[Row]) -> Outcome {
    let check = |row: &Row| -> Result<usize> {
        let plan = coords::read(&run.folder.join(format!("patches/{}_patches.h5", row.id)))?;
        let same = (&plan.slide_digest, &coords::digest(&plan)) == (&row.slide, &row.coords);
        if !same || !row.seal.is_empty() && coords::seal(&plan)? != row.seal {
            return Err(anyhow!("its coordinates file is not the one that slides.csv names"));
        }
        Ok(plan.coords.len())
    };
    let checked: Vec<Result<usize>> = rows.par_iter().map(check).collect();
    let faults = rows.iter().zip(&checked).filter_map(|(row, outcome)| Some((row, outcome.as_ref().err()?)));
    let wrong: Vec<String> = faults.map(|(row, error)| format!("{}: {}", row.id, one_line(error))).collect();
    let old = rows.iter().any(|row| row.seal.is_empty());
    let extent = if old { "; of their headers an older version recorded no digest" } else { "" };
    whole(&wrong, || format!("{} slides, {} tiles{extent}", rows.len(), checked.iter().flatten().sum::<usize>()))
}

/// What is right where nothing is wrong.
pub(super) fn whole(wrong: &[String], right: impl FnOnce() -> String) -> Result<String, Failure> {
    if wrong.is_empty() { Ok(right()) } else { broken(listing(wrong, "; ")) }
}
