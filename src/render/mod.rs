//! Scores as people look at them: one self-contained page with charts, and a plain table for a terminal.
//!
//! The page needs no network and no script; every chart has the numbers it was drawn from in a table behind it.

use crate::store::history::Epoch;
use crate::store::pooled::Pooled;
use blocks::Section;

mod bands;
pub mod blocks;
mod charts;
mod course;
pub mod exhibit;
pub mod facts;
pub mod figures;
mod flow;
mod grid;
pub mod heatmap;
mod lettering;
mod matrix;
pub mod names;
mod page;
mod reliability;
pub mod sheet;
pub mod status;
mod tables;
pub mod text;
mod training;

pub use bands::{Banded, Chance, bands};
pub use course::training_curves;
pub use flow::{Step, flow};
pub use page::{Rendered, page};
pub use reliability::{Bar, reliability};

/// All that the page shows.
#[derive(Debug)]
pub struct Page<'a> {
    /// What the report asks; the page's title.
    pub question: &'a str,
    /// Verdict, rows, comparisons, notes.
    pub pooled: &'a Pooled,
    /// Number of runs read.
    pub runs: usize,
    /// Training curves by recipe.
    pub curves: &'a [Curves],
    /// How well the models judge: after the confusion matrices.
    pub judged: &'a [Section],
    /// What they learnt, and where they look: after the training curves.
    pub learnt: &'a [Section],
    /// Who was in it.
    pub cohort: &'a [Section],
    /// What it rests on: after the methods.
    pub sources: &'a [Section],
    /// How the numbers were made, a paragraph each.
    pub methods: &'a [String],
    /// Where each number comes from.
    pub origins: &'a [Origin],
    /// Of this program.
    pub version: &'a str,
}

/// Training curves of the runs of one recipe.
#[derive(Debug)]
pub struct Curves {
    /// The recipe.
    pub title: String,
    /// Each run's epochs.
    pub runs: Vec<Vec<Epoch>>,
}

/// A slide's thumbnail.
#[derive(Debug)]
pub struct Picture {
    /// The slide.
    pub slide_id: String,
    /// Its class.
    pub label: String,
    /// The class that was chosen for it.
    pub predicted: String,
    /// What else there is to say of it; may be empty.
    pub remark: String,
    /// What it shows, for those who do not see it.
    pub alt: String,
    /// JPEG, base64.
    pub jpeg: String,
}

/// Provenance of one run.
#[derive(Debug)]
pub struct Origin {
    /// The run's folder, relative.
    pub run: String,
    /// Name of the split.
    pub split: String,
    /// Digest of the split.
    pub split_digest: String,
    /// Seed of the training.
    pub seed: u64,
    /// Role and digest of each input.
    pub inputs: Vec<(String, String)>,
    /// Of the program that probed; may be empty.
    pub version: String,
}
