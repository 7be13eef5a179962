//! Which slides of a cohort one call works on, and under which names: all, a share of them, or those that a table names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, ensure};

use crate::ground::listing::listing;
use crate::ground::shard::Shard;
use crate::slides::{self, SlideFile};
use crate::store::pseudonym::Salt;
use crate::store::table;

/// What one call works on.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Its share of the sorted list. The run is finished by the call that leaves nothing open.
    pub shard: Shard,
    /// After its share, also what other shares have not begun.
    pub steal: bool,
    /// A table (an earlier run's `failed.csv`) that names the only slides that are meant.
    pub only: Option<PathBuf>,
    /// A file with the secret that gives slides pseudonyms, in every output and message.
    pub salt: Option<PathBuf>,
}

impl Selection {
    /// The slides of `path`, under pseudonyms where there is a salt.
    ///
    /// # Errors
    /// As [`slides::list`]; a salt file that cannot be used.
    pub(super) fn slides(&self, path: &Path) -> Result<Vec<SlideFile>> {
        let salt = self.salt.as_deref().map(Salt::read).transpose()?;
        slides::list_pseudonymous(path, salt.as_ref())
    }

    /// Leaves of `items` those that the table names.
    ///
    /// # Errors
    /// A table without a column `slide_id`, or one that names a slide which is not among the items.
    pub(super) fn narrow<T>(&self, items: Vec<T>, id: impl Fn(&T) -> &str) -> Result<Vec<T>> {
        let Some(path) = &self.only else { return Ok(items) };
        let mut wanted = ids(path)?;
        let kept: Vec<T> = items.into_iter().filter(|item| wanted.remove(id(item))).collect();
        let left: Vec<String> = wanted.into_iter().collect();
        // Under pseudonyms what is left may be true ids.
        let which = if self.salt.is_some() { format!("{} of them", left.len()) } else { listing(&left, ", ") };
        ensure!(left.is_empty(), "'{}' names slides that are not there: {which}", name(path));
        ensure!(!kept.is_empty(), "'{}' names no slide", name(path));
        Ok(kept)
    }
}

fn ids(path: &Path) -> Result<BTreeSet<String>> {
    const COLUMNS: [&str; 2] = ["slide_id", "slide"];
    let frame = table::read(path)?;
    let column = COLUMNS.into_iter().find(|column| table::has(&frame, column));
    let column = column.ok_or_else(|| anyhow!("'{}' has no column {}", name(path), COLUMNS.join(" or ")))?;
    Ok(table::text(&frame, column, path)?.into_iter().filter(|id| !id.is_empty()).collect())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
