//! `pseudonymise`: a table whose ids are those that `tile` and `extract` gave the slides with the same salt.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::datasets::cohort::slide_id;
use crate::store::pseudonym::Salt;
use crate::store::table::{self, Cells};

/// Writes `from` to `to` with pseudonyms in the columns that are named, everything else as it is.
///
/// # Errors
/// A table or salt file that cannot be read, a column that is not there, a file that is there already.
pub fn run(from: &Path, salt: &Path, columns: &[String], to: &Path) -> Result<()> {
    ensure!(!to.exists(), "'{}' is there already; choose another --out", to.display());
    let salt = Salt::read(salt)?;
    let frame = table::read(from)?;
    let missing: Vec<&str> = columns.iter().map(String::as_str).filter(|column| !table::has(&frame, column)).collect();
    ensure!(missing.is_empty(), "'{}' has no column {}; name the columns with ids by --columns", from.display(), missing.join(", "));
    let names = table::names(&frame);
    let cells = names
        .iter()
        .map(|name| {
            let mut cells = table::text(&frame, name, from)?;
            if columns.contains(name) {
                cells.iter_mut().filter(|cell| !cell.is_empty()).for_each(|cell| *cell = salt.pseudonym(&slide_id(cell)));
            }
            Ok((name.as_str(), Cells::Text(cells)))
        })
        .collect::<Result<Vec<_>>>()?;
    table::write(to, cells)
}
