//! Who is trained on, who validates, who is tested: by patient, stratified by class, seeded, and kept as a file.
//!
//! The three parts are three types; the test rows cannot be handed to `learn::fit`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, bail, ensure};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::Dataset;
use crate::ground::seed;
use crate::store::digest;
use crate::store::scores::SplitKind;
use crate::store::table::{self, Cells};

crate::registry! {
    /// Splits, by the `name` in `[split]`.
    pub enum SplitSettings {
        "k-fold" => KFold(KFold),
        "holdout" => Holdout(Holdout),
        "column" => Column(Column),
    } default "k-fold"
}

/// Each of `folds` parts is the test set once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct KFold {
    /// Number of parts.
    pub folds: usize,
    /// The part that is tested, from 0.
    pub fold: usize,
    /// Share of the other patients that validate; 0 for none.
    pub validation: f64,
}

impl Default for KFold {
    fn default() -> Self {
        Self { folds: 4, fold: 0, validation: 0.2 }
    }
}

/// One test set drawn at random.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Holdout {
    /// Share of patients that are tested.
    pub test: f64,
    /// Share of the other patients that validate; 0 for none.
    pub validation: f64,
}

impl Default for Holdout {
    fn default() -> Self {
        Self { test: 0.25, validation: 0.2 }
    }
}

/// The parts are named by a column of the labels table: a centre, an official split.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Column {
    /// The column.
    pub column: String,
    /// Values that are tested.
    pub test: Vec<String>,
    /// Values that validate.
    pub valid: Vec<String>,
    /// Share of the remaining patients that validate where `valid` is empty; 0 for none.
    pub validation: f64,
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
    /// Which part is tested, from 0.
    pub fold: usize,
    /// Number of parts; 1 unless the kind is k-fold.
    pub folds: usize,
    /// Ascending.
    pub train: TrainRows,
    /// Ascending.
    pub valid: ValidRows,
    /// Ascending.
    pub test: TestRows,
}

/// A patient as the split sees it.
struct Group {
    class: usize,
    rows: Vec<usize>,
}

impl SplitSettings {
    /// Divides the dataset. The same seed gives the same parts; folds of one seed are disjoint and complete.
    ///
    /// # Errors
    /// A class with too few patients, named; a column or value that is not there; a patient in two parts.
    pub fn divide(&self, dataset: &dyn Dataset, seed: u64) -> Result<Split> {
        let (name, kind, fold, folds, test, valid) = match self {
            Self::KFold(s) => {
                ensure!(
                    s.folds >= 2 && s.fold < s.folds,
                    "split: fold {} of {} folds; folds count from 0 and are at least 2",
                    s.fold,
                    s.folds
                );
                let name = format!("{}-fold by patient, fold {} of {}, seed {seed}", s.folds, s.fold, s.folds);
                let needed = s.folds.max(2 + usize::from(s.validation > 0.0));
                let groups = groups(dataset, needed, &format!("{}-fold by patient", s.folds))?;
                let test = deal(&groups, s.folds, seed).remove(s.fold);
                let valid = share(&without(groups, &test), s.validation, seed, "split/validation");
                (name, SplitKind::KFold, s.fold, s.folds, test, valid)
            }
            Self::Holdout(s) => {
                let name = format!("holdout by patient, {:.0} % tested, seed {seed}", s.test * 100.0);
                let groups = groups(dataset, 2 + usize::from(s.validation > 0.0), "holdout by patient")?;
                let test = share(&groups, s.test, seed, "split/test");
                let valid = share(&without(groups, &test), s.validation, seed, "split/validation");
                (name, SplitKind::Holdout, 0, 1, test, valid)
            }
            Self::Column(s) => {
                let test = by_column(dataset, &s.column, &s.test)?;
                let rest = without(groups(dataset, 1, "split by column")?, &test);
                let valid = if s.valid.is_empty() {
                    share(&rest, s.validation, seed, "split/validation")
                } else {
                    by_column(dataset, &s.column, &s.valid)?
                };
                (format!("column '{}', tested: {}, seed {seed}", s.column, s.test.join(", ")), SplitKind::Column, 0, 1, test, valid)
            }
        };
        let train = (0..dataset.ids().len()).filter(|row| !test.contains(row) && !valid.contains(row)).collect();
        let split = Split {
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
}

impl Split {
    /// No patient in two parts, no empty train or test part, every class in the training part.
    fn check(&self, dataset: &dyn Dataset) -> Result<()> {
        ensure!(!self.train.0.is_empty(), "split '{}': no slide is left to train on", self.name);
        ensure!(!self.test.0.is_empty(), "split '{}': no slide is tested", self.name);
        let mut part_of: BTreeMap<&str, &str> = BTreeMap::new();
        for (part, rows) in self.parts() {
            for &row in rows {
                let group = &dataset.groups()[row];
                if let Some(other) = part_of.insert(group, part).filter(|other| *other != part) {
                    bail!("split '{}': patient '{group}' would be in '{other}' and in '{part}'; a patient must be in one part", self.name);
                }
            }
        }
        for (class, name) in dataset.classes().iter().enumerate() {
            ensure!(
                self.train.0.iter().any(|&row| dataset.targets()[row] == class as i64),
                "split '{}': class '{name}' has no slide in the training part; change the split or leave the class out",
                self.name
            );
        }
        Ok(())
    }

    fn parts(&self) -> [(&'static str, &[usize]); 3] {
        [("train", &self.train.0), ("valid", &self.valid.0), ("test", &self.test.0)]
    }

    /// Writes `split.csv` (slide_id, patient_id, label, part), in the dataset's order.
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

    /// 8 hexadecimal digits over who is in which part.
    ///
    /// # Errors
    /// None in practice.
    pub fn digest(&self, dataset: &dyn Dataset) -> Result<String> {
        let named = self.parts().map(|(part, rows)| (part, rows.iter().map(|&row| dataset.ids()[row].as_str()).collect::<Vec<_>>()));
        digest::settings(&named)
    }
}

/// Patients sorted by name, each with its most frequent class; every class needs `needed` patients.
fn groups(dataset: &dyn Dataset, needed: usize, what: &str) -> Result<Vec<Group>> {
    let mut rows: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (row, group) in dataset.groups().iter().enumerate() {
        rows.entry(group).or_default().push(row);
    }
    let classes = dataset.classes().len();
    let groups: Vec<Group> = rows
        .into_values()
        .map(|rows| {
            let mut counts = vec![0usize; classes];
            rows.iter().for_each(|&row| counts[dataset.targets()[row] as usize] += 1);
            let class = (0..classes).max_by_key(|&class| (counts[class], std::cmp::Reverse(class))).unwrap_or(0);
            Group { class, rows }
        })
        .collect();
    for (class, name) in dataset.classes().iter().enumerate() {
        let found = groups.iter().filter(|group| group.class == class).count();
        ensure!(
            found >= needed,
            "class '{name}' has {found} patient(s), {what} needs at least {needed} in every class; add patients, leave the class out, or use another split"
        );
    }
    Ok(groups)
}

/// Deals patients to `hands` test sets, class by class in random order; the deal goes on where the former class ended.
fn deal(groups: &[Group], hands: usize, seed: u64) -> Vec<BTreeSet<usize>> {
    let mut random = seed::stream(seed, "split/folds");
    let mut dealt = vec![BTreeSet::new(); hands];
    let mut next = 0;
    for class in 0..=groups.iter().map(|g| g.class).max().unwrap_or(0) {
        let mut of_class: Vec<&Group> = groups.iter().filter(|g| g.class == class).collect();
        of_class.shuffle(&mut random);
        for group in of_class {
            dealt[next % hands].extend(&group.rows);
            next += 1;
        }
    }
    dealt
}

/// A stratified share of the patients: at least one of each class and never all of them; nothing for a share of 0.
fn share(groups: &[Group], share: f64, seed: u64, stream: &str) -> BTreeSet<usize> {
    let mut random = seed::stream(seed, stream);
    let mut taken = BTreeSet::new();
    if share <= 0.0 {
        return taken;
    }
    for class in 0..=groups.iter().map(|g| g.class).max().unwrap_or(0) {
        let mut of_class: Vec<&Group> = groups.iter().filter(|g| g.class == class).collect();
        of_class.shuffle(&mut random);
        let most = of_class.len().saturating_sub(1);
        let count = ((share * of_class.len() as f64).round() as usize).max(1).min(most);
        of_class.iter().take(count).for_each(|group| taken.extend(&group.rows));
    }
    taken
}

fn without(groups: Vec<Group>, rows: &BTreeSet<usize>) -> Vec<Group> {
    groups.into_iter().filter(|group| !group.rows.iter().any(|row| rows.contains(row))).collect()
}

fn by_column(dataset: &dyn Dataset, column: &str, values: &[String]) -> Result<BTreeSet<usize>> {
    let Some(cells) = dataset.column(column) else { bail!("split: the labels have no column '{column}'") };
    for value in values {
        if !cells.contains(value) {
            let known: BTreeSet<&String> = cells.iter().collect();
            bail!(
                "split: no slide has '{value}' in column '{column}'; it holds: {}",
                known.into_iter().cloned().collect::<Vec<_>>().join(", ")
            );
        }
    }
    Ok((0..cells.len()).filter(|&row| values.contains(&cells[row])).collect())
}
