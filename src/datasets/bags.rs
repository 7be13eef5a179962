//! Bags in memory: every feature read once, f16, so that an epoch touches no file.
//!
//! Memory: 2·N·D bytes a slide (8,000 tiles of 384 features: 6 MB), plus one padded f32 batch. Checked before reading
//! against what the machine has free.

use std::borrow::Cow;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use half::f16;
use rand::seq::index::sample;
use rayon::prelude::*;
use tch::Device;

use super::cohort::{Cohort, Labelled};
use super::{Augment, Dataset, padding};
use crate::ground::batch::{Batch, Input};
use crate::store::bag;

/// Bags of one extract run with their labels, sorted by slide id.
pub struct Bags {
    classes: Vec<String>,
    slides: Vec<Labelled>,
    features: Vec<Vec<f16>>,
    width: usize,
    ids: Vec<String>,
    groups: Vec<String>,
    targets: Vec<i64>,
}

impl Bags {
    /// Reads `folder/<slide>.h5` for every labelled slide.
    ///
    /// # Errors
    /// A labelled slide without a bag, a bag without tiles, bags of different widths: each by its name.
    pub fn read(folder: &Path, cohort: Cohort) -> Result<Self> {
        let paths: Vec<_> = cohort.slides.iter().map(|slide| folder.join(format!("{}.h5", slide.slide))).collect();
        let missing: Vec<&str> =
            cohort.slides.iter().zip(&paths).filter(|(_, path)| !path.is_file()).map(|(s, _)| s.slide.as_str()).collect();
        if let Some(first) = missing.first() {
            bail!(
                "slide '{first}' is in the labels but has no bag in '{}' ({} such slides of {}); extract it, or remove its row",
                folder.display(),
                missing.len(),
                paths.len()
            );
        }
        let bytes: u64 = paths.iter().filter_map(|path| path.metadata().ok()).map(|m| m.len()).sum();
        if let Some(free) = free_memory() {
            ensure!(bytes < free, "the bags are {} MB, this machine has {} MB free; train on a larger machine", bytes >> 20, free >> 20);
        }
        let read = paths.par_iter().map(|path| bag::read_features(path)).collect::<Result<Vec<_>>>()?;
        let width = read.first().map(|features| features.width).context("the labels name no slide")?;
        for (features, slide) in read.iter().zip(&cohort.slides) {
            ensure!(
                !features.values.is_empty(),
                "the bag of slide '{}' has no tiles; remove its row from the labels or tile it again",
                slide.slide
            );
            ensure!(
                features.width == width,
                "the bag of slide '{}' has {} features a tile, the others have {width}; extract all with one encoder",
                slide.slide,
                features.width
            );
        }
        Ok(Self {
            ids: cohort.slides.iter().map(|s| s.slide.clone()).collect(),
            groups: cohort.slides.iter().map(|s| s.patient.clone()).collect(),
            targets: cohort.slides.iter().map(|s| s.target).collect(),
            classes: cohort.classes,
            slides: cohort.slides,
            features: read.into_iter().map(|features| features.values).collect(),
            width,
        })
    }
}

impl Dataset for Bags {
    fn ids(&self) -> &[String] {
        &self.ids
    }

    fn groups(&self) -> &[String] {
        &self.groups
    }

    fn targets(&self) -> &[i64] {
        &self.targets
    }

    fn column(&self, name: &str) -> Option<Vec<String>> {
        self.slides.iter().map(|slide| slide.columns.get(name).cloned()).collect()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn input(&self) -> Input {
        Input::Bags(self.width as i64)
    }

    /// Augmented, a bag is a random half of its tiles (rounded up), in their own order.
    ///
    /// METHOD: tiles cannot be re-drawn from features; a subset is the one change that leaves a slide's label plausible.
    fn batch(&self, rows: &[usize], augment: Option<Augment>, device: Device) -> Result<Batch> {
        let features = |(place, &row): (usize, &usize)| {
            let Some(augment) = augment else { return Cow::Borrowed(self.features[row].as_slice()) };
            let tiles = self.features[row].len() / self.width;
            let mut kept = sample(&mut augment.stream(place, rows.len(), row), tiles, tiles.div_ceil(2)).into_vec();
            kept.sort_unstable();
            Cow::Owned(kept.iter().flat_map(|tile| &self.features[row][tile * self.width..][..self.width]).copied().collect())
        };
        let bags: Vec<Cow<[f16]>> = rows.iter().enumerate().map(features).collect();
        Ok(padding::padded(&bags, self.width, rows, &self.targets, device))
    }
}

/// Bytes this process may still take: the smaller of the machine's and the control group's, where they can be read.
fn free_memory() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
    });
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let group = number("/sys/fs/cgroup/memory.max").map(|limit| limit.saturating_sub(number("/sys/fs/cgroup/memory.current").unwrap_or(0)));
    [machine, group].into_iter().flatten().min()
}
