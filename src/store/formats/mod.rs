//! Bags as other programs lay them out: read into one shape, written from it. One layout a file.
//!
//! Only layouts are shared with those programs, no code. Facts: Lu et al. 2021 (CLAM), Zhang et al. 2025 (TRIDENT), El Nahhas et al. 2024
//! (STAMP), Zhang et al. 2024 (ACMIL), Alagha et al. 2025 (AtlasPatch), and what their readers accept (`docs/formats.md`).

mod acmil;
mod atlaspatch;
mod clam;
mod hdf;
mod lint;
mod native;
mod stamp;
mod torch;
mod trident;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, ensure};

use crate::ground::units::{Coord, Mpp, Size};
use crate::store::bag::{Fault, Header};

pub use super::values::Values;
pub use lint::{Severity, Violation, lint};

/// What is known of a bag, whoever wrote it; `None` where its layout does not say it.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    /// Slide id.
    pub id: String,
    /// `[N,D]`
    pub values: Values,
    /// D
    pub width: usize,
    /// Top-left corners, level-0 pixels of the full canvas, `[N]`.
    pub coords: Vec<Coord>,
    /// What made the features.
    pub encoder: Option<String>,
    /// µm per level-0 pixel.
    pub mpp: Option<Mpp>,
    /// Side of a tile's footprint, level-0 pixels.
    pub side_level0_px: Option<u32>,
    /// Distance of neighbouring tiles, level-0 pixels.
    pub step_level0_px: Option<u32>,
    /// Side of the tile that the encoder was given, pixels.
    pub tile_px: Option<u32>,
    /// Canvas of level 0.
    pub canvas: Option<Size>,
    /// Class index.
    pub label: Option<i64>,
    /// The class by name, and the patient: from a table of labels, never from a bag.
    pub labelled: Option<Labelled>,
    /// Everything that this program wrote of it.
    pub header: Option<Header>,
}

/// What a table of labels says of a slide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    /// Patient id.
    pub patient: String,
    /// Class name.
    pub class: String,
}

/// What the user says of bags whose layout does not.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// The encoder's name; chooses one where a folder holds several.
    pub encoder: Option<String>,
    /// µm per level-0 pixel.
    pub slide_mpp: Option<f64>,
    /// Side of the tiles that the encoder was given, pixels.
    pub tile_px: Option<u32>,
    /// Side of a tile's footprint, level-0 pixels.
    pub side_level0_px: Option<u32>,
}

impl Given {
    /// Refuses sizes that no slide has.
    ///
    /// # Errors
    /// Names the flag and the value.
    pub fn check(&self) -> Result<()> {
        if let Some(mpp) = self.slide_mpp {
            ensure!(mpp.is_finite() && mpp > 0.0, "--slide-mpp is {mpp}; a pixel is some part of a micrometre, such as 0.25");
        }
        for (flag, size) in [("--tile-px", self.tile_px), ("--side-level0", self.side_level0_px)] {
            ensure!(size != Some(0), "{flag} is 0; a tile has at least one pixel");
        }
        Ok(())
    }
}

impl Exchange {
    /// Distance of neighbouring tiles in level-0 pixels: as the bag says, else as its coordinates do, else the footprint's side.
    ///
    /// METHOD: the commonest distance between neighbours in a row, the smaller of two that are as common. Gaps between pieces of tissue
    /// are rarer than neighbours, and grids of several contours (CLAM) need not agree on where they begin.
    fn step_level0_px(&self, side: u32) -> u32 {
        let measured = || {
            let mut sorted: Vec<(i64, i64)> = self.coords.iter().map(|at| (at.y, at.x)).collect();
            sorted.sort_unstable();
            let mut counts = BTreeMap::<i64, usize>::new();
            for pair in sorted.windows(2).filter(|pair| pair[0].0 == pair[1].0 && pair[0].1 < pair[1].1) {
                *counts.entry(pair[1].1.saturating_sub(pair[0].1)).or_default() += 1;
            }
            let (step, _) = counts.into_iter().rev().max_by_key(|(_, count)| *count)?;
            u32::try_from(step).ok()
        };
        self.step_level0_px.or_else(measured).unwrap_or(side)
    }

    /// Canvas of level 0: as the bag says, else as far as its tiles of that side reach.
    ///
    /// # Errors
    /// Coordinates that no slide has.
    fn canvas(&self, side: u32) -> Result<Size> {
        let edge = |of: fn(&Coord) -> i64| {
            let farthest = self.coords.iter().map(of).max().unwrap_or(0);
            let end = u32::try_from(farthest).ok().and_then(|at| at.checked_add(side));
            end.ok_or_else(|| anyhow!("a coordinate is {farthest}, which lies on no slide"))
        };
        self.canvas.map_or_else(|| Ok(Size { width: edge(|at| at.x)?, height: edge(|at| at.y)? }), Ok)
    }

    /// N
    pub fn tiles(&self) -> usize {
        self.coords.len()
    }

    /// Fills in what the user says; what the file says wins.
    #[must_use]
    pub fn with(mut self, given: &Given) -> Self {
        self.encoder = self.encoder.or_else(|| given.encoder.clone());
        self.mpp = self.mpp.or_else(|| given.slide_mpp.map(Mpp::square));
        self.tile_px = self.tile_px.or(given.tile_px);
        self.side_level0_px = self.side_level0_px.or(given.side_level0_px);
        self
    }

    /// Checks that rows and coordinates belong together.
    fn checked(self) -> Result<Self> {
        let rows = self.values.len().checked_div(self.width).unwrap_or(0);
        ensure!(
            rows == self.coords.len() && self.values.len() == rows * self.width,
            Fault::RowsDiffer { features: rows, coords: self.coords.len() }
        );
        Ok(self)
    }
}

/// One layout of a folder (or file) of bags.
pub trait Format: Sync {
    /// As on the command line.
    fn name(&self) -> &'static str;

    /// Whether the folder or file looks like it.
    fn recognises(&self, root: &Path) -> bool;

    /// Ids of the bags, sorted.
    ///
    /// # Errors
    /// A folder that cannot be read; several encoders of which none was chosen.
    fn ids(&self, root: &Path, given: &Given) -> Result<Vec<String>>;

    /// One bag.
    ///
    /// # Errors
    /// A file that is missing, damaged or short; without the file's path.
    fn read(&self, root: &Path, id: &str, given: &Given) -> Result<Exchange>;

    /// Where a bag's datasets and attributes are, of those places that are there; what `lint` looks at beside the content.
    fn places(&self, root: &Path, id: &str, given: &Given) -> Vec<hdf5::Group>;

    /// Something to write bags with; `None` for a layout that is read only.
    ///
    /// # Errors
    /// The place cannot be written.
    fn writer(&self, root: &Path) -> Result<Option<Box<dyn Writer>>>;
}

/// Writes a cohort in one layout.
pub trait Writer {
    /// Writes one bag, whole or not at all.
    ///
    /// # Errors
    /// What the layout needs and the bag does not say, by the flag that says it.
    fn add(&mut self, bag: &Exchange) -> Result<()>;

    /// Writes what belongs to the cohort as a whole.
    ///
    /// # Errors
    /// A file that cannot be written.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Every layout, in the order in which a folder is tried.
pub const FORMATS: [&dyn Format; 6] =
    [&native::Native, &trident::Trident, &clam::Clam, &stamp::Stamp, &acmil::Acmil, &atlaspatch::AtlasPatch];

/// The layout of that name.
///
/// # Errors
/// No such layout; names all.
pub fn named(name: &str) -> Result<&'static dyn Format> {
    let known = || FORMATS.map(Format::name).join(", ");
    FORMATS.into_iter().find(|format| format.name() == name).ok_or_else(|| anyhow!("no layout is called '{name}'; there are: {}", known()))
}

/// The layout that a folder or file has.
///
/// # Errors
/// None of them; says how to name one.
pub fn detect(root: &Path) -> Result<&'static dyn Format> {
    ensure!(root.exists(), "'{}' does not exist", root.display());
    FORMATS.into_iter().find(|format| format.recognises(root)).ok_or_else(|| {
        anyhow!("'{}' has none of the layouts {}; name one with --from", root.display(), FORMATS.map(Format::name).join(", "))
    })
}

/// What a layout needs and a bag does not say.
fn missing<T>(value: Option<T>, what: &str, flag: &str) -> Result<T> {
    value.ok_or_else(|| anyhow!("its {what} is not known and is never guessed; give {flag}"))
}

/// The sorted names of the files in a folder that end so, without the ending.
fn stems(folder: &Path, ending: &str) -> Result<Vec<String>> {
    let context = |error| anyhow!("cannot read the folder '{}': {error}", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(context)? {
        let name = entry.map_err(context)?.file_name().to_string_lossy().into_owned();
        found.extend(name.strip_suffix(ending).filter(|stem| !stem.starts_with('.') && !stem.is_empty()).map(str::to_owned));
    }
    found.sort();
    Ok(found)
}

/// The first HDF5 file of a folder, to look at.
fn first_h5(folder: &Path) -> Option<PathBuf> {
    stems(folder, ".h5").ok()?.first().map(|stem| folder.join(format!("{stem}.h5")))
}
