//! `wsi show`: what a run, a bag, a slide, a checkpoint or any other file of the program is, on one screen.

mod bag;
mod coordinates;
mod pipeline;
mod run;
mod slide;
mod tensors;

use std::path::Path;

use anyhow::{Result, bail, ensure};

use crate::render::facts::Facts;

/// Looks at something; `None` where it is of another kind.
type Kind = fn(&Path) -> Result<Option<Facts>>;

/// What is known, in the order in which it is tried. A new kind is one file and one line.
const KINDS: [(&str, Kind); 6] = [
    ("a pipeline's folder", pipeline::show),
    ("a run, or a folder with some", run::show),
    ("a coordinates file", coordinates::show),
    ("a bag", bag::show),
    ("a checkpoint or weights", tensors::show),
    ("a slide", slide::show),
];

/// What `path` is.
///
/// # Errors
/// Nothing there, nothing known, or damaged; the last names what it looked like.
pub fn show(path: &Path) -> Result<Facts> {
    ensure!(path.exists(), "'{}' does not exist", path.display());
    // Layouts are told by the folders above a file, too.
    let whole = path.canonicalize()?;
    for (what, kind) in KINDS {
        match kind(&whole) {
            Ok(Some(facts)) => return Ok(facts),
            Ok(None) => {}
            Err(error) => return Err(error.context(format!("'{}' looks like {what}", path.display()))),
        }
    }
    let known: Vec<&str> = KINDS.iter().map(|(what, _)| *what).collect();
    bail!("'{}' is nothing that this program knows; it shows: {}", path.display(), known.join(", "))
}

/// A file's or folder's own name; outputs hold no paths of a machine.
fn name(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.is_file() && path.extension().is_some_and(|ending| endings.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

/// The first digits of a digest, which are enough to compare by eye.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
