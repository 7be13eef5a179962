//! What somebody sees who only looks.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Result;
use serde::Serialize;

use super::{FOLDER, holder, lease_name, owner};
use crate::store::files;

/// One item that somebody holds, or held.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sight {
    /// The item.
    pub item: String,
    /// Who has it, in words: a Slurm job or a process.
    pub holder: String,
    /// Slurm's number of the job, `<array>_<task>` within an array.
    pub job: Option<String>,
    /// Whether it lives, as far as the clocks agree; without a holder's sign of life there is none.
    pub alive: bool,
    /// Seconds since its last sign of life.
    pub silent: Option<f64>,
}

/// Every lease in the run folder `run` as it stands now, by item; nothing is written. Items that are done have leases too, until the run is
/// finished, and those whose holder ended well have none that lives.
///
/// # Errors
/// A folder that cannot be read.
pub fn look(run: &Path) -> Result<Vec<Sight>> {
    let folder = run.join(FOLDER);
    let now = SystemTime::now();
    let mut sights = Vec::new();
    for (item, generation) in leases(&folder)? {
        let Some((token, written)) = holder(&folder.join(lease_name(&item, generation)))? else { continue };
        let owner = if token.is_empty() { None } else { owner::read(&folder, &token)? };
        let alive = owner::alive(&folder, &token, written, now)?.is_some();
        let silent = owner.as_ref().map(|(_, seen)| now.duration_since(*seen).unwrap_or_default().as_secs_f64());
        let holder = owner.as_ref().map_or_else(|| "a process that has ended".to_owned(), |(owner, _)| owner.name());
        sights.push(Sight { item, holder, job: owner.and_then(|(owner, _)| owner.job), alive, silent });
    }
    Ok(sights)
}

/// The highest number of each item's leases.
pub(super) fn leases(folder: &Path) -> Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for name in files::names_in(folder)? {
        if let Some((item, generation)) = name.rsplit_once('@').and_then(|(item, number)| Some((item, number.parse::<u64>().ok()?))) {
            let highest = found.entry(item.to_owned()).or_insert(generation);
            *highest = generation.max(*highest);
        }
    }
    Ok(found)
}
