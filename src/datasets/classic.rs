//! The five classic sets of multiple-instance learning: MUSK1 and MUSK2 (Dietterich et al. 1997), Elephant, Fox and Tiger
//! (Andrews et al. 2002), as `<set>.csv.gz` without a header: bag label 0 or 1, bag id, features.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};
use tch::Device;

use super::{Augment, Dataset, padding};
use crate::ground::batch::{Batch, Input};

/// Settings of `[train.classic]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ClassicSettings {
    /// Which of the sets.
    pub set: Set,
}

impl ClassicSettings {
    /// The set's file in the folder of all sets.
    pub fn file(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.csv.gz", self.set.name()))
    }
}

/// One of the classic sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Set {
    /// 92 molecules, 47 of them musks; instances are shapes a molecule takes, 166 features.
    #[default]
    Musk1,
    /// 102 molecules, 39 of them musks.
    Musk2,
    /// 200 pictures, 100 with an elephant; instances are segments, 230 features.
    Elephant,
    /// 200 pictures, 100 with a fox.
    Fox,
    /// 200 pictures, 100 with a tiger.
    Tiger,
}

impl Set {
    /// As in the settings and in the file's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Musk1 => "musk1",
            Self::Musk2 => "musk2",
            Self::Elephant => "elephant",
            Self::Fox => "fox",
            Self::Tiger => "tiger",
        }
    }
}

/// One set in memory, in the file's order of bags; every bag is its own group.
pub struct Classic {
    classes: Vec<String>,
    ids: Vec<String>,
    targets: Vec<i64>,
    /// A flat `[n,D]` a bag, standardised.
    bags: Vec<Vec<f32>>,
    width: usize,
}

impl Classic {
    /// Reads a set's file and standardises its features.
    ///
    /// METHOD: mean and standard deviation are those of all instances of the set, training and test, as in the literature that
    /// the published accuracies come from; no label takes part. A feature that never changes becomes 0.
    ///
    /// # Errors
    /// A file that is no gzip, a line with another number of cells, a label but 0 and 1, a cell that is no finite number, a bag
    /// with two labels, a set of one class: each names the file and the line.
    pub fn read(path: &Path) -> Result<Self> {
        let file =
            std::fs::File::open(path).with_context(|| format!("cannot read '{}'; give the folder of the classic sets", path.display()))?;
        let mut bags: Vec<Raw> = Vec::new();
        let mut place_of: BTreeMap<String, usize> = BTreeMap::new();
        let mut width = None;
        for (index, line) in BufReader::new(GzDecoder::new(file)).lines().enumerate() {
            let at = || format!("'{}', line {}", path.display(), index + 1);
            let line = line.with_context(|| format!("{}: not the text of a whole gzip file; copy it again", at()))?;
            let (label, id, features) = cells(&line).with_context(at)?;
            let width = *width.get_or_insert(features.len());
            ensure!(
                features.len() == width,
                "{}: {} features, the lines before have {width}; correct or remove the line",
                at(),
                features.len()
            );
            let place = *place_of.entry(id.to_owned()).or_insert_with(|| {
                bags.push(Raw { id: id.to_owned(), label, features: Vec::new() });
                bags.len() - 1
            });
            let bag = &mut bags[place];
            ensure!(
                bag.label == label,
                "{}: bag '{id}' has the label {label}, a line before says {}; a bag has one label",
                at(),
                bag.label
            );
            bag.features.extend(features);
        }
        for label in 0..2 {
            ensure!(
                bags.iter().any(|bag| bag.label == label),
                "'{}': no bag has the label {label}; both labels are needed",
                path.display()
            );
        }
        let width = width.context("a file with bags has features")?;
        standardise(&mut bags, width);
        Ok(Self {
            classes: ["negative", "positive"].map(str::to_owned).to_vec(),
            ids: bags.iter().map(|bag| bag.id.clone()).collect(),
            targets: bags.iter().map(|bag| bag.label).collect(),
            bags: bags.into_iter().map(|bag| bag.features.into_iter().map(|value| value as f32).collect()).collect(),
            width,
        })
    }
}

/// A bag as the file has it.
struct Raw {
    id: String,
    label: i64,
    features: Vec<f64>,
}

/// Label, bag id and features of one line.
fn cells(line: &str) -> Result<(i64, &str, Vec<f64>)> {
    let mut cells = line.split(',').map(str::trim);
    let label = match cells.next() {
        Some("0") => 0,
        Some("1") => 1,
        other => bail!("the first cell is '{}', but a bag's label is 0 or 1", other.unwrap_or_default()),
    };
    let id = cells.next().filter(|id| !id.is_empty()).context("the second cell, the bag's id, is missing")?;
    let features = cells
        .enumerate()
        .map(|(index, cell)| {
            let value = cell.parse().ok().filter(|value: &f64| value.is_finite());
            value.with_context(|| format!("cell {} is '{cell}', which is no finite number", index + 3))
        })
        .collect::<Result<Vec<_>>>()?;
    ensure!(!features.is_empty(), "there are no features after the bag's id");
    Ok((label, id, features))
}

/// Every feature to mean 0 and standard deviation 1 over all instances.
fn standardise(bags: &mut [Raw], width: usize) {
    let instances = || bags.iter().flat_map(|bag| bag.features.chunks_exact(width));
    let count = instances().count() as f64;
    let (mut mean, mut deviation) = (vec![0.0; width], vec![0.0; width]);
    for instance in instances() {
        mean.iter_mut().zip(instance).for_each(|(mean, value)| *mean += value / count);
    }
    for instance in instances() {
        deviation.iter_mut().zip(instance.iter().zip(&mean)).for_each(|(sum, (value, mean))| *sum += (value - mean).powi(2) / count);
    }
    deviation.iter_mut().for_each(|square| *square = square.sqrt());
    for instance in bags.iter_mut().flat_map(|bag| bag.features.chunks_exact_mut(width)) {
        for (value, (mean, deviation)) in instance.iter_mut().zip(mean.iter().zip(&deviation)) {
            // Rounding leaves a deviation of about 1e-15 of the mean where every value is the same.
            let still = *deviation <= 1e-12 * mean.abs();
            *value = if still { 0.0 } else { (*value - mean) / deviation };
        }
    }
}

impl Dataset for Classic {
    fn ids(&self) -> &[String] {
        &self.ids
    }

    fn groups(&self) -> &[String] {
        &self.ids
    }

    fn targets(&self) -> &[i64] {
        &self.targets
    }

    fn column(&self, _name: &str) -> Option<Vec<String>> {
        None
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn input(&self) -> Input {
        Input::Bags(self.width as i64)
    }

    /// Instances are few and are not changed at random.
    fn batch(&self, rows: &[usize], _augment: Option<Augment>, device: Device) -> Result<Batch> {
        let bags: Vec<&[f32]> = rows.iter().map(|&row| self.bags[row].as_slice()).collect();
        Ok(padding::padded(&bags, self.width, rows, &self.targets, device))
    }
}
