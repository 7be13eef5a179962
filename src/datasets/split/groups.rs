//! Patients as a split sees them, and the two ways in which they are drawn: dealt into folds, or taken as a share.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use rand::seq::SliceRandom;

use super::Dataset;
use crate::ground::listing::listing;
use crate::ground::seed;

/// A patient as the split sees it.
pub(super) struct Group {
    /// What it is stratified by.
    class: usize,
    rows: Vec<usize>,
}

/// Patients sorted by name; every class needs `needed` patients who have it.
///
/// METHOD: a patient with slides of several classes is stratified by the rarest of them in the cohort. By the most frequent one,
/// the isolated tumour cells of CAMELYON17 (36 of 500 slides, at most a few a patient) would be no stratum at all, and chance
/// alone would decide whether a part has any.
///
/// # Errors
/// Every class with fewer patients.
pub(super) fn groups(dataset: &dyn Dataset, needed: usize, what: &str) -> Result<Vec<Group>> {
    let classes = dataset.classes().len();
    let targets = dataset.targets();
    let mut slides = vec![0usize; classes];
    targets.iter().for_each(|&target| slides[target as usize] += 1);
    let mut rows: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (row, group) in dataset.groups().iter().enumerate() {
        rows.entry(group).or_default().push(row);
    }
    let mut patients = vec![0usize; classes];
    let mut groups = Vec::with_capacity(rows.len());
    for rows in rows.into_values() {
        let present: BTreeSet<usize> = rows.iter().map(|&row| targets[row] as usize).collect();
        present.iter().for_each(|&class| patients[class] += 1);
        let class = present.into_iter().min_by_key(|&class| (slides[class], class)).unwrap_or(0);
        groups.push(Group { class, rows });
    }
    let named = dataset.classes().iter().zip(&patients);
    let few: Vec<String> =
        named.filter(|(_, found)| **found < needed).map(|(name, found)| format!("class '{name}' has {found} patient(s)")).collect();
    ensure!(
        few.is_empty(),
        "{}; {what} needs at least {needed} in every class; add patients, leave the class out, or use another split",
        listing(&few, ", ")
    );
    Ok(groups)
}

/// Deals patients to `hands` test sets, class by class in random order; the deal goes on where the former class ended.
pub(super) fn deal(groups: &[Group], hands: usize, seed: u64) -> Vec<BTreeSet<usize>> {
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
pub(super) fn share(groups: &[Group], share: f64, seed: u64, stream: &str) -> BTreeSet<usize> {
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

/// The patients without any of `rows`.
pub(super) fn without(groups: Vec<Group>, rows: &BTreeSet<usize>) -> Vec<Group> {
    groups.into_iter().filter(|group| !group.rows.iter().any(|row| rows.contains(row))).collect()
}

/// The cells of a column of the labels.
///
/// # Errors
/// There is no such column.
pub(super) fn cells(dataset: &dyn Dataset, column: &str) -> Result<Vec<String>> {
    dataset.column(column).with_context(|| format!("split: the labels have no column '{column}'"))
}

/// A share of the rest must leave something of it.
///
/// # Errors
/// Names the setting.
pub(super) fn check_share(name: &str, share: f64) -> Result<()> {
    ensure!((0.0..1.0).contains(&share), "split.{name} is {share}; it wants a share from 0 to below 1");
    Ok(())
}
