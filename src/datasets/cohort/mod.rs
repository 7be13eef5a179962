//! Who is whose and shows what: slides, patients, classes, centres and official parts, from the tables and folders that hospitals
//! and benchmarks hand over.
//!
//! Three readers (`rows`, `folder`, `camelyon17`) give rows as written; `canonical` makes labelled slides of them, the same way for
//! all; `roll` joins those to bags.

mod camelyon17;
mod canonical;
mod folder;
mod ids;
mod offenders;
pub mod patient_stage;
mod roll;
mod rows;
mod settings;
mod shuffle;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};

pub use ids::{Matched, match_ids, slide_id};
pub use roll::{Entry, FILE, Roll, Status, read as read_roll};
pub use settings::{CohortSettings, Format, Names};

use crate::store::digest;

/// The column of [`Labelled::columns`] that holds the centre, in every cohort that has one.
pub const CENTRE: &str = "centre";
/// The column of [`Labelled::columns`] that holds the official part, `train`, `valid` or `test`, in every cohort that has one.
pub const PART: &str = "part";

/// One labelled slide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    /// Slide id.
    pub slide: String,
    /// Patient id.
    pub patient: String,
    /// Class index.
    pub target: i64,
    /// Every column of the table as written, for splits by column, and [`CENTRE`] and [`PART`].
    pub columns: BTreeMap<String, String>,
}

/// The labelled slides, sorted by slide id.
#[derive(Debug, Clone)]
pub struct Cohort {
    /// Class names in index order.
    pub classes: Vec<String>,
    /// Sorted by slide id.
    pub slides: Vec<Labelled>,
    /// Checks that the settings switched off, each with its reason.
    pub waivers: Vec<String>,
    /// Whether labels without bags are left out.
    pub partial: bool,
}

impl Cohort {
    /// Reads labels from `path`: a table, or a folder of class folders.
    ///
    /// # Errors
    /// A column that is missing, patients that nothing names; every row with an empty cell, a damaged or repeated slide id, an unknown
    /// class or part, at once.
    pub fn read(path: &Path, settings: &CohortSettings, seed: u64) -> Result<Self> {
        let folder = settings.format == Format::Folder;
        ensure!(
            path.is_dir() == folder || !path.exists(),
            "'{}' is {}; {}",
            path.display(),
            if folder { "a file" } else { "a folder" },
            if folder {
                "give a folder of class folders, or leave out cohort.format"
            } else {
                "give a table, or set cohort.format = 'folder'"
            }
        );
        let rows = match settings.format {
            Format::Table => rows::Table::read(path, settings)?.rows(settings)?,
            Format::Folder => folder::rows(path)?,
            Format::Camelyon17 => camelyon17::rows(path, settings)?,
        };
        let mut cohort = canonical::cohort(rows, settings, &format_args!("'{}'", path.display()))?;
        if settings.shuffle_labels > 0 {
            shuffle::shuffle(&mut cohort.slides, seed, settings.shuffle_labels);
        }
        Ok(cohort)
    }
}

/// 8 hexadecimal digits that change with the labels: over the bytes of a table, or over the paths of a folder's slides.
///
/// # Errors
/// A file or folder that cannot be read.
pub fn labels_digest(path: &Path) -> Result<String> {
    if path.is_dir() {
        let files = folder::files(path)?;
        let names: Vec<String> = files.iter().map(|file| file.to_string_lossy().into_owned()).collect();
        return digest::settings(&names);
    }
    Ok(digest::file(path)?[..8].to_owned())
}
