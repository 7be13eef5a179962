//! Who is trained on, who validates, who is tested: named, seeded, and kept as a file.
//!
//! The three parts are three types; the test rows cannot be handed to `learn::fit`. Whether a patient or a slide stands on both
//! sides is asked by [`super::leaks`], where the answer can be waived with a reason.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use rand::seq::SliceRandom;

use super::Dataset;
use crate::ground::listing::listing;
use crate::ground::seed;
use crate::store::digest;
use crate::store::scores::SplitKind;
use crate::store::table::{self, Cells};

mod bracs_official;
mod c17;
mod column;
mod file;
mod groups;
mod holdout;
mod k_fold;
mod leave_one_out;
mod monte_carlo;

pub use bracs_official::BracsOfficial;
pub use c17::{C17Acmil, C17Strict};
pub use column::Column;
pub use file::File;
pub use holdout::Holdout;
pub use k_fold::KFold;
pub use leave_one_out::LeaveOneOut;
pub use monte_carlo::MonteCarlo;

crate::registry! {
    /// Splits, by the `name` in `[split]`.
    pub enum SplitSettings {
        "k-fold" => KFold(KFold),
        "holdout" => Holdout(Holdout),
        "column" => Column(Column),
        "leave-one-out" => LeaveOneOut(LeaveOneOut),
        "monte-carlo" => MonteCarlo(MonteCarlo),
        "c17-acmil" => C17Acmil(C17Acmil),
        "c17-strict" => C17Strict(C17Strict),
        "bracs-official" => BracsOfficial(BracsOfficial),
        "file" => File(File),
    } default "k-fold"
}

/// Rows that are trained on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainRows(pub Vec<usize>);
/// Rows that validate; may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidRows(pub Vec<usize>);
/// Rows that are tested, once, by `wsi probe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestRows(pub Vec<usize>);

/// A division of a dataset's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// In words, for people.
    pub name: String,
    /// How it was made.
    pub kind: SplitKind,
    /// Which part is tested, or which draw this is, from 0.
    pub fold: usize,
    /// Number of parts or draws; 1 where there is one test set.
    pub folds: usize,
    /// Ascending.
    pub train: TrainRows,
    /// Ascending.
    pub valid: ValidRows,
    /// Ascending.
    pub test: TestRows,
}

/// What a member decides; all other rows are trained on.
struct Parts {
    name: String,
    kind: SplitKind,
    fold: usize,
    folds: usize,
    test: BTreeSet<usize>,
    valid: BTreeSet<usize>,
}

impl Parts {
    /// Parts with one test set.
    fn single(name: String, kind: SplitKind, test: BTreeSet<usize>, valid: BTreeSet<usize>) -> Self {
        Self { name, kind, fold: 0, folds: 1, test, valid }
    }
}

impl SplitSettings {
    /// Divides the dataset. The same seed gives the same parts; folds of one seed are disjoint and complete.
    ///
    /// # Errors
    /// Classes with too few patients or without training slides, all of them named; a column or values that are not there; the
    /// member `file`, which needs one: [`SplitSettings::read`].
    pub fn divide(&self, dataset: &dyn Dataset, seed: u64) -> Result<Split> {
        let parts = match self {
            Self::KFold(settings) => settings.parts(dataset, seed)?,
            Self::Holdout(settings) => settings.parts(dataset, seed)?,
            Self::Column(settings) => settings.parts(dataset, seed)?,
            Self::LeaveOneOut(settings) => settings.parts(dataset, seed)?,
            Self::MonteCarlo(settings) => settings.parts(dataset, seed)?,
            Self::C17Acmil(settings) => settings.parts(dataset, seed)?,
            Self::C17Strict(settings) => settings.parts(dataset, seed)?,
            Self::BracsOfficial(settings) => settings.parts(dataset)?,
            Self::File(_) => bail!("split.name is 'file'; give the file with --split FILE"),
        };
        Split::new(parts, dataset)
    }

    /// Divides the dataset as the file `path` says, which the member `file` wants and no other reads.
    ///
    /// # Errors
    /// Another member; a file that is none of the known layouts, or does not put every slide into one part; all such slides.
    pub fn read(&self, dataset: &dyn Dataset, path: &Path) -> Result<Split> {
        let Self::File(settings) = self else {
            bail!("a split file was given, but split.name is '{}'; leave the file out, or set split.name=file", self.name());
        };
        Split::new(settings.parts(dataset, path)?, dataset)
    }
}

impl Split {
    fn new(parts: Parts, dataset: &dyn Dataset) -> Result<Self> {
        let Parts { name, kind, fold, folds, test, valid } = parts;
        let train = (0..dataset.ids().len()).filter(|row| !test.contains(row) && !valid.contains(row)).collect();
        let split = Self {
            name,
            kind,
            fold,
            folds,
            train: TrainRows(train),
            valid: ValidRows(valid.into_iter().collect()),
            test: TestRows(test.into_iter().collect()),
        };
        split.check(dataset)?;
        Ok(split)
    }

    /// No empty train or test part, every class in the training part.
    fn check(&self, dataset: &dyn Dataset) -> Result<()> {
        ensure!(!self.train.0.is_empty(), "split '{}': no slide is left to train on", self.name);
        ensure!(!self.test.0.is_empty(), "split '{}': no slide is tested", self.name);
        let present: BTreeSet<i64> = self.train.0.iter().map(|&row| dataset.targets()[row]).collect();
        let named = dataset.classes().iter().enumerate();
        let empty: Vec<String> =
            named.filter(|(class, _)| !present.contains(&(*class as i64))).map(|(_, name)| format!("'{name}'")).collect();
        ensure!(
            empty.is_empty(),
            "split '{}': no slide in the training part is of class {}; change the split or leave the class out",
            self.name,
            listing(&empty, ", ")
        );
        Ok(())
    }

    /// Trains on at most `count` samples of each class; what is left out is in no part, also of `split.csv`, which `--split` then refuses.
    ///
    /// The draw depends on the samples alone, so that seeds differ in what they make of the same training set.
    pub fn keep_per_class(&mut self, count: usize, dataset: &dyn Dataset) {
        let mut rows = self.train.0.clone();
        rows.shuffle(&mut seed::stream(0, "per-class"));
        let mut kept = vec![0; dataset.classes().len()];
        rows.retain(|&row| {
            // A label that is no class is named where training begins.
            let Some(kept) = usize::try_from(dataset.targets()[row]).ok().and_then(|class| kept.get_mut(class)) else { return true };
            *kept += 1;
            *kept <= count
        });
        rows.sort_unstable();
        self.train.0 = rows;
        self.name = format!("at most {count} training samples a class, {}", self.name);
    }

    /// The three parts by name, in the order in which they are used.
    pub fn parts(&self) -> [(&'static str, &[usize]); 3] {
        [("train", &self.train.0), ("valid", &self.valid.0), ("test", &self.test.0)]
    }

    /// Writes `split.csv` (slide_id, patient_id, label, part), in the dataset's order; `--split` reads it back.
    ///
    /// # Errors
    /// Names the file.
    pub fn write(&self, path: &Path, dataset: &dyn Dataset) -> Result<()> {
        let mut part = vec![""; dataset.ids().len()];
        for (name, rows) in self.parts() {
            rows.iter().for_each(|&row| part[row] = name);
        }
        let label = dataset.targets().iter().map(|&t| dataset.classes()[t as usize].clone()).collect();
        table::write(
            path,
            vec![
                ("slide_id", Cells::Text(dataset.ids().to_vec())),
                ("patient_id", Cells::Text(dataset.groups().to_vec())),
                ("label", Cells::Text(label)),
                ("part", Cells::Text(part.into_iter().map(str::to_owned).collect())),
            ],
        )
    }

    /// Slides of each class in each part, `[C]`.
    pub fn counts(&self, dataset: &dyn Dataset) -> BTreeMap<String, Vec<usize>> {
        let of = |rows: &[usize]| {
            let mut counts = vec![0; dataset.classes().len()];
            rows.iter().for_each(|&row| counts[dataset.targets()[row] as usize] += 1);
            counts
        };
        self.parts().into_iter().map(|(part, rows)| (part.to_owned(), of(rows))).collect()
    }

    /// 8 hexadecimal digits over who is in which part.
    ///
    /// # Errors
    /// None in practice.
    pub fn digest(&self, dataset: &dyn Dataset) -> Result<String> {
        let named = self.parts().map(|(part, rows)| (part, rows.iter().map(|&row| dataset.ids()[row].as_str()).collect::<Vec<_>>()));
        digest::settings(&named)
    }
}
