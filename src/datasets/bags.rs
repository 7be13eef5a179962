//! Bags of an extract run, with their labels.
//!
//! They are read once and kept as f16, so that an epoch touches no file: 2·N·D bytes a slide (8,000 tiles of 384 features: 6 MB),
//! plus one padded f32 batch. Where that does not fit into the memory that is free, each bag is read when it is asked for instead,
//! a few ahead; batches are the same to the bit. `WSI_BAGS` = `memory` or `stream` overrides the choice.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use half::f16;
use rand::seq::index::sample;
use rayon::prelude::*;
use tch::Device;

use super::cohort::{Cohort, Labelled, Roll};
use super::read_ahead::{ReadAhead, Stored};
use super::{Augment, Dataset, padding};
use crate::ground::batch::{Batch, Input};
use crate::ground::listing::listing;
use crate::ground::memory;
use crate::ground::tile_filter::TileFilter;
use crate::store::bag;

/// What is left free for the model and its batch when bags are kept in memory.
const RESERVE: u64 = 1 << 30;

/// Where the features are while they are trained on. A matter of the machine, not of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// In memory if they fit, else on disk.
    Automatic,
    /// In memory; refused if they do not fit.
    Memory,
    /// On disk.
    Stream,
}

impl Keep {
    /// What `WSI_BAGS` says.
    ///
    /// # Errors
    /// A value that is neither `memory` nor `stream`.
    pub fn from_environment() -> Result<Self> {
        match std::env::var("WSI_BAGS").as_deref() {
            Err(_) => Ok(Self::Automatic),
            Ok("memory") => Ok(Self::Memory),
            Ok("stream") => Ok(Self::Stream),
            Ok(other) => bail!("WSI_BAGS is '{other}'; it can be 'memory' or 'stream', or be unset"),
        }
    }

    /// Whether `bytes` of features are kept in memory, of which `free` bytes are free, where that is known.
    fn in_memory(self, bytes: u64, free: Option<u64>) -> Result<bool> {
        let fits = free.is_none_or(|free| bytes.saturating_add(RESERVE) <= free);
        match self {
            Self::Stream => Ok(false),
            Self::Automatic => Ok(fits),
            Self::Memory => {
                let free = free.unwrap_or_default() >> 20;
                ensure!(
                    fits,
                    "WSI_BAGS=memory: the bags need {} MB and {} MB are left for the model, but {free} MB are free; unset it to read bags from disk",
                    bytes >> 20,
                    RESERVE >> 20
                );
                Ok(true)
            }
        }
    }
}

/// Bags of one extract run with their labels, sorted by slide id.
pub struct Bags {
    classes: Vec<String>,
    slides: Vec<Labelled>,
    features: Kept,
    width: usize,
    ids: Vec<String>,
    groups: Vec<String>,
    targets: Vec<i64>,
    roll: Roll,
}

/// The features of every slide.
enum Kept {
    Memory(Vec<Vec<f16>>),
    Disk(ReadAhead),
}

impl Bags {
    /// Reads `folder/<slide>.h5` for every labelled slide, whether or not all are kept, without the tiles that the filter leaves out.
    ///
    /// # Errors
    /// As [`Cohort::join`]. One error names every labelled slide (at most 20, then their number) whose bag has no tiles, a value that
    /// is not finite, another width than most, or a file that cannot be read.
    pub fn read(folder: &Path, cohort: Cohort, tiles: TileFilter, keep: Keep) -> Result<Self> {
        let (cohort, roll) = cohort.join(&bag_ids(folder)?, &folder.display().to_string())?;
        let paths: Vec<_> = cohort.slides.iter().map(|slide| folder.join(format!("{}.h5", slide.slide))).collect();
        let shapes: Vec<_> = paths.iter().map(|path| shape(path, tiles)).collect();
        let width = usual_width(shapes.iter().flatten());
        let bytes: usize = shapes.iter().flatten().map(|(tiles, width)| size_of::<f16>() * tiles * width).sum();
        let in_memory = keep.in_memory(bytes as u64, memory::free())?;
        let read: Vec<Result<Vec<f16>, String>> = paths
            .par_iter()
            .zip(shapes.par_iter().cloned())
            .map(|(path, shape)| {
                let (_, own) = shape?;
                if own != width {
                    return Err(format!("its bag has {own} features a tile, most have {width}; extract all with one encoder"));
                }
                let values = bag::read_kept(path, tiles).map_err(|error| format!("{error:#}"))?.values;
                Ok(if in_memory { values } else { Vec::new() })
            })
            .collect();
        refuse(&cohort, &read)?;
        let features = if in_memory {
            Kept::Memory(read.into_iter().flatten().collect())
        } else {
            tracing::info!("{} MB of bags are read from disk in every epoch", bytes >> 20);
            Kept::Disk(ReadAhead::new(
                paths.into_iter().zip(shapes.into_iter().flatten()).map(|(path, shape)| Stored { path, shape, tiles }).collect(),
            ))
        };
        Ok(Self::new(cohort, features, width, roll))
    }

    /// Bags that are in memory already: for each slide of the cohort its features, `[N,D]` row by row, with D = `width`.
    ///
    /// # Errors
    /// More or fewer bags than slides; a bag that is no such matrix or has no tiles, by its slide.
    pub fn in_memory(cohort: Cohort, features: Vec<Vec<f16>>, width: usize) -> Result<Self> {
        ensure!(features.len() == cohort.slides.len(), "{} bags for {} labelled slides", features.len(), cohort.slides.len());
        for (values, slide) in features.iter().zip(&cohort.slides) {
            ensure!(
                !values.is_empty() && values.len().is_multiple_of(width),
                "slide '{}': {} values are no bag of width {width}",
                slide.slide,
                values.len()
            );
        }
        let ids: Vec<String> = cohort.slides.iter().map(|slide| slide.slide.clone()).collect();
        let (cohort, roll) = cohort.join(&ids, "memory")?;
        Ok(Self::new(cohort, Kept::Memory(features), width, roll))
    }

    fn new(cohort: Cohort, features: Kept, width: usize, roll: Roll) -> Self {
        Self {
            ids: cohort.slides.iter().map(|s| s.slide.clone()).collect(),
            groups: cohort.slides.iter().map(|s| s.patient.clone()).collect(),
            targets: cohort.slides.iter().map(|s| s.target).collect(),
            classes: cohort.classes,
            slides: cohort.slides,
            features,
            width,
            roll,
        }
    }

    fn features(&self, row: usize) -> Result<Cow<'_, [f16]>> {
        match &self.features {
            Kept::Memory(bags) => Ok(Cow::Borrowed(&bags[row])),
            Kept::Disk(bags) => bags.bag(row).map(Cow::Owned),
        }
    }
}

/// N and D of a bag, or what is wrong with it.
fn shape(path: &Path, tiles: TileFilter) -> Result<(usize, usize), String> {
    if !path.is_file() {
        return Err("it is in the labels but has no bag; extract it, or remove its row".to_owned());
    }
    match bag::read_kept_shape(path, tiles) {
        Ok((0, _)) if !tiles.is_open() => Err("train.tiles leaves none of its tiles; widen the bounds".to_owned()),
        Ok((0, _) | (_, 0)) => Err("its bag has no tiles; remove its row from the labels, or tile it again".to_owned()),
        Ok(shape) => Ok(shape),
        Err(error) => Err(format!("{error:#}")),
    }
}

/// The width that most bags have; of several, the smallest. 0 without a bag.
fn usual_width<'a>(shapes: impl Iterator<Item = &'a (usize, usize)>) -> usize {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for (_, width) in shapes {
        *counts.entry(*width).or_default() += 1;
    }
    counts.iter().rev().max_by_key(|(_, count)| **count).map_or(0, |(width, _)| *width)
}

/// One error for every slide whose bag cannot be trained on.
fn refuse<T>(cohort: &Cohort, read: &[Result<T, String>]) -> Result<()> {
    ensure!(!read.is_empty(), "the labels name no slide; add rows to the table");
    let wrong: Vec<String> = cohort
        .slides
        .iter()
        .zip(read)
        .filter_map(|(slide, read)| read.as_ref().err().map(|why| format!("slide '{}': {why}", slide.slide)))
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{} of {} labelled slides cannot be trained on:\n  {}", wrong.len(), read.len(), listing(&wrong, "\n  "))
}

/// The ids of the bags in a folder, in any order.
fn bag_ids(folder: &Path) -> Result<Vec<String>> {
    let context = || format!("cannot read the folder of bags '{}'", folder.display());
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(context)? {
        let name = entry.with_context(context)?.file_name().to_string_lossy().into_owned();
        ids.extend(name.strip_suffix(".h5").filter(|id| !id.starts_with('.')).map(str::to_owned));
    }
    Ok(ids)
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

    fn roll(&self) -> Option<&Roll> {
        Some(&self.roll)
    }

    fn input(&self) -> Input {
        Input::Bags(self.width as i64)
    }

    /// Augmented, a bag is a random half of its tiles (rounded up), in their own order.
    ///
    /// METHOD: tiles cannot be re-drawn from features; a subset is the one change that leaves a slide's label plausible.
    fn batch(&self, rows: &[usize], augment: Option<Augment>, device: Device) -> Result<Batch> {
        // A row that stands in the batch several times, once a view, is read once.
        let mut whole: BTreeMap<usize, Cow<[f16]>> = BTreeMap::new();
        for &row in rows {
            if let Entry::Vacant(place) = whole.entry(row) {
                place.insert(self.features(row)?);
            }
        }
        let bags: Vec<Cow<[f16]>> = rows
            .iter()
            .enumerate()
            .map(|(place, row)| {
                let Some(augment) = augment else { return Cow::Borrowed(&*whole[row]) };
                let tiles = whole[row].len() / self.width;
                let mut kept = sample(&mut augment.stream(place, rows.len(), *row), tiles, tiles.div_ceil(2)).into_vec();
                kept.sort_unstable();
                Cow::Owned(kept.iter().flat_map(|tile| &whole[row][tile * self.width..][..self.width]).copied().collect())
            })
            .collect();
        Ok(padding::padded(&bags, self.width, rows, &self.targets, device))
    }

    fn announce(&self, rows: &[usize]) {
        if let Kept::Disk(bags) = &self.features {
            bags.announce(rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_kept_where_they_fit() {
        let gigabytes = |number: u64| number << 30;
        for (keep, bytes, free, expected) in [
            (Keep::Automatic, 3, Some(4), Some(true)),
            (Keep::Automatic, 3, Some(3), Some(false)),
            (Keep::Automatic, 3, None, Some(true)),
            (Keep::Stream, 3, Some(9), Some(false)),
            (Keep::Memory, 3, Some(4), Some(true)),
            (Keep::Memory, 3, Some(3), None),
        ] {
            assert_eq!(keep.in_memory(gigabytes(bytes), free.map(gigabytes)).ok(), expected, "{keep:?} {bytes} of {free:?}");
        }
    }

    #[test]
    fn the_usual_width_is_that_of_most() {
        assert_eq!(usual_width([(9, 4), (1, 3), (1, 3), (1, 5)].iter()), 3);
        assert_eq!(usual_width([(1, 4), (1, 3)].iter()), 3);
        assert_eq!(usual_width([].iter()), 0);
    }
}
