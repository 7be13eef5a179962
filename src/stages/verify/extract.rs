//! Coordinates and weights → features.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Result, anyhow, ensure};
use rayon::prelude::*;

use super::found::{Found, Run};
use super::tile::whole;
use super::{Outcome, broken, not_checked};
use crate::ground::plan::Plan;
use crate::stages::{extract, frozen, one_line, settings_of};
use crate::store::bag::{self, Header};
use crate::store::{coords, table};

/// A slide that was planned, as `slides.csv` has it.
struct Row {
    id: String,
    done: bool,
    /// Empty in runs of before it was written.
    seal: String,
}

pub(super) fn links(run: &Run, found: &Found, add: &mut impl FnMut(&'static str, Outcome)) {
    match rows(run) {
        Ok(rows) => {
            add("coordinates → features", coordinates(run, found, &rows));
            add("weights → features", weights(run, &rows));
            add("features", features(run, &rows));
        }
        Err(error) => add("features", Err(error.into())),
    }
}

fn rows(run: &Run) -> Result<Vec<Row>> {
    let path = run.folder.join("slides.csv");
    let frame = table::read(&path)?;
    let (ids, status) = (table::text(&frame, "slide_id", &path)?, table::text(&frame, "status", &path)?);
    let seals = if table::has(&frame, "seal") { table::text(&frame, "seal", &path)? } else { vec![String::new(); ids.len()] };
    Ok(ids.into_iter().zip(status).zip(seals).map(|((id, status), seal)| Row { id, done: status == "done", seal }).collect())
}

fn bag_of(run: &Run, id: &str) -> PathBuf {
    run.folder.join(format!("bags/{id}.h5"))
}

fn header(run: &Run, id: &str) -> Result<Header> {
    bag::read_header(&bag_of(run, id))?.ok_or_else(|| anyhow!("the bag '{id}.h5' is not one of this program"))
}

/// The plans of the slides that were asked for; `None` where the tile run lacks one.
fn plans(tiles: &Run, rows: &[Row]) -> Option<Result<Vec<Plan>>> {
    let path = |id: &str| tiles.folder.join(format!("patches/{id}_patches.h5"));
    let all = rows.iter().all(|row| path(&row.id).is_file());
    all.then(|| rows.par_iter().map(|row| coords::read(&path(&row.id))).collect())
}

/// The recipe's digest of all tiles follows from the coordinates of a tile run among those given, and each bag names its own.
fn coordinates(run: &Run, found: &Found, rows: &[Row]) -> Outcome {
    let expected = run.inputs.get("tiles");
    let mut other = None;
    for tiles in found.of_stage("tile") {
        let plans = match plans(tiles, rows) {
            None => continue,
            Some(Ok(plans)) => plans,
            Some(Err(_)) => return not_checked(format!("{} has coordinates that cannot be read", tiles.name)),
        };
        let contents: Vec<_> = plans.iter().map(extract::content).collect();
        if Some(&extract::tiles_digest(contents.iter())?) == expected {
            return bags_follow(run, rows, &plans);
        }
        other.get_or_insert((tiles, plans));
    }
    let Some((tiles, plans)) = other else { return not_checked("no tile run of these slides is among the folders; name it, too") };
    let differs = |(row, plan): &(&Row, &Plan)| header(run, &row.id).is_ok_and(|header| follows(&header, plan).is_err());
    let first = rows.iter().zip(&plans).find(differs).map_or(String::new(), |(row, _)| format!("; the first is {}", row.id));
    broken(format!("the coordinates in {} are not those that the features were made of{first}", tiles.name))
}

/// # Errors
/// The bag was made of another plan, by its header.
fn follows(header: &Header, plan: &Plan) -> Result<()> {
    let same = (&header.slide_digest, &header.window, header.mpp) == (&plan.slide_digest, &plan.window, plan.mpp);
    ensure!(same, "it was made of another plan");
    let planned = header.status.map_or(header.tiles, |status| status.total());
    ensure!(planned == plan.coords.len(), "it was made of {planned} tiles, the plan has {}", plan.coords.len());
    // Where every tile had pixels.
    ensure!(header.tiles < planned || header.coords_digest == coords::digest(plan), "it was made of other squares");
    Ok(())
}

fn bags_follow(run: &Run, rows: &[Row], plans: &[Plan]) -> Outcome {
    let check = |(row, plan): (&Row, &Plan)| -> Result<()> {
        if !row.done {
            return Ok(());
        }
        let bag = bag_of(run, &row.id);
        follows(&header(run, &row.id)?, plan)?;
        let planned: BTreeSet<(i64, i64)> = plan.coords.iter().map(|at| (at.x, at.y)).collect();
        let within = bag::read_coords(&bag)?.unwrap_or_default().iter().all(|at| planned.contains(&(at.x, at.y)));
        ensure!(within, "it has a tile that was not planned");
        Ok(())
    };
    let pairs: Vec<_> = rows.iter().zip(plans).collect();
    let faults = pairs.par_iter().filter_map(|&(row, plan)| Some(format!("{}: {}", row.id, one_line(&check((row, plan)).err()?))));
    whole(&faults.collect::<Vec<_>>(), || format!("{} slides", rows.len()))
}

/// Every bag names the run's weights, and the weight file that is here is theirs.
fn weights(run: &Run, rows: &[Row]) -> Outcome {
    let Some(expected) = run.inputs.get("weights") else { return broken("recipe.json names no weights") };
    let other = |row: &&Row| row.done && header(run, &row.id).is_ok_and(|header| header.origin.weights != *expected);
    if let Some(row) = rows.iter().find(other) {
        return broken(format!("{}: its bag was made with other weights than the run", row.id));
    }
    let here = settings_of(&run.folder).and_then(|config| frozen::weights_name(&config, None));
    match here {
        Ok(here) if here == *expected => Ok(expected.clone()),
        Ok(_) => not_checked(format!("the weight file that is here is another one; the run's has the sha256 {expected}")),
        Err(_) => not_checked(format!("the weight file is not here; its sha256 is {expected}")),
    }
}

/// What each bag holds, against its own header and against `slides.csv`.
fn features(run: &Run, rows: &[Row]) -> Outcome {
    let done: Vec<&Row> = rows.iter().filter(|row| row.done).collect();
    let check = |row: &&Row| -> Result<usize> {
        let path = bag_of(run, &row.id);
        let bag = bag::verify(&path)?;
        ensure!(row.seal.is_empty() || bag::seal(&path)?.as_ref() == Some(&row.seal), "it is not the bag that slides.csv names");
        Ok(bag.features.tiles)
    };
    let checked: BTreeMap<&str, Result<usize>> = done.par_iter().map(|row| (row.id.as_str(), check(row))).collect();
    let faults = checked.iter().filter_map(|(id, outcome)| Some(format!("{id}: {}", one_line(outcome.as_ref().err()?))));
    let old = done.iter().any(|row| row.seal.is_empty());
    let extent = if old { "; of their headers an older version recorded no digest" } else { "" };
    whole(&faults.collect::<Vec<_>>(), || format!("{} bags, {} tiles{extent}", done.len(), checked.values().flatten().sum::<usize>()))
}
