//! Photographs in class folders: ImageNet (`train/n01440764/*.JPEG`, `val/…`), or any folder of that layout.
//!
//! A class's index is the rank of its folder's name. Training sees a random part of each image, resized and mirrored; evaluation sees the
//! middle. Images are decoded when a batch asks for them: an epoch holds no more of them in memory than a batch.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::augment::{AugmentationSettings, Crop, Parts};
use super::{Augment, Dataset};
use crate::encoders::preprocess::{Interpolation, Library, Preprocess, Resize, Target};
use crate::encoders::{Normalisation, prepare_each};
use crate::ground::batch::{Batch, Input};
use crate::ground::listing::listing;
use crate::ground::units::Size;
use crate::slides::jpeg;

mod entries;
mod flat;

use entries::{ENDINGS, Entry, check_classes, class_folders, readable};

/// Folders that part a set, and the word of the column `part` for each.
const PARTS: [(&str, &str); 4] = [("train", "train"), ("val", "val"), ("valid", "val"), ("test", "test")];

/// Settings of `[train.image-folder]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ImageFolderSettings {
    /// Side of the random part that training sees, pixels.
    ///
    /// METHOD: smaller than in evaluation, where objects else look smaller than in training (Touvron et al. 2019); 176 and 224 are those of
    /// torchvision's recipe, whose optimisation the paper's resembles; the paper's own are not known.
    pub train_px: u32,
    /// Length of the short side in evaluation, before the middle is cut out.
    pub short_px: u32,
    /// Side of the middle that evaluation sees, pixels.
    pub test_px: u32,
    /// Largest share of the images that may be unreadable and left out, 0–1.
    pub max_unreadable: f64,
}

impl Default for ImageFolderSettings {
    fn default() -> Self {
        Self { train_px: 176, short_px: 232, test_px: 224, max_unreadable: 0.0 }
    }
}

impl ImageFolderSettings {
    fn check(&self) -> Result<()> {
        ensure!(self.train_px > 0 && self.test_px > 0, "train.image-folder: train-px and test-px must be at least 1");
        ensure!(self.short_px >= self.test_px, "train.image-folder: short-px {} is below test-px {}", self.short_px, self.test_px);
        ensure!((0.0..=1.0).contains(&self.max_unreadable), "train.image-folder.max-unreadable must lie from 0 to 1");
        Ok(())
    }

    /// What evaluation does with an image, to the bit of Pillow and torchvision; a square of `test-px` already is taken whole.
    pub(super) fn evaluation(&self) -> Preprocess {
        let to = Target::Short(self.short_px);
        let resize = Resize { to, interpolation: Interpolation::Bilinear, library: Library::Pillow, antialias: true };
        let Normalisation { mean, std } = Normalisation::IMAGENET;
        Preprocess { resize: Some(resize), crop: Some(self.test_px), mean, std }
    }
}

/// All images, part by part, class by class, by file name.
pub struct ImageFolder {
    settings: ImageFolderSettings,
    parts: Parts,
    classes: Vec<String>,
    files: Vec<PathBuf>,
    ids: Vec<String>,
    targets: Vec<i64>,
    part: Vec<String>,
}

impl ImageFolder {
    /// Lists the images below `folder` and looks at the beginning and the end of each. The column `part` is `train`, `val` or `test` after
    /// the folders of these names (`valid` counts as `val`), or empty where the class folders stand in `folder` itself. The images of `val` or
    /// `test` may lie in that folder itself, with a table or ImageNet's development kit beside it (`flat`).
    ///
    /// # Errors
    /// A folder without class folders, a class without images, parts with other classes than each other, more unreadable images than the
    /// settings allow: every offender named.
    pub fn read(folder: &Path, settings: &ImageFolderSettings, augmentation: &AugmentationSettings) -> Result<Self> {
        settings.check()?;
        let parts = augmentation.for_photographs()?;
        let mut entries: Vec<Entry> = Vec::new();
        for (name, part) in PARTS.into_iter().filter(|(name, _)| folder.join(name).is_dir()) {
            let known = entries.iter().map(|entry| entry.class.clone()).collect();
            entries.extend(match flat::entries(folder, name, part, &known)? {
                Some(entries) => entries,
                None => class_folders(&folder.join(name), name, part)?,
            });
        }
        if entries.is_empty() {
            entries = class_folders(folder, "", "")?;
        }
        ensure!(
            !entries.is_empty(),
            "'{}' has no class folders with images ({}), neither itself nor in train/, val/ or test/",
            folder.display(),
            ENDINGS.join(", ")
        );
        check_classes(&entries)?;
        let all = entries.iter().map(|entry| entry.class.clone()).collect::<BTreeSet<_>>();
        let entries = readable(entries, settings.max_unreadable)?;
        check_classes(&entries)?;
        let classes: Vec<String> = entries.iter().map(|entry| entry.class.clone()).collect::<BTreeSet<_>>().into_iter().collect();
        let lost: Vec<&String> = all.iter().filter(|class| classes.binary_search(class).is_err()).collect();
        ensure!(lost.is_empty(), "no image of these classes can be read: {}", listing(&lost, ", "));
        let index = |class: &String| classes.binary_search(class).expect("every class is in the list") as i64;
        Ok(Self {
            settings: settings.clone(),
            parts,
            targets: entries.iter().map(|entry| index(&entry.class)).collect(),
            part: entries.iter().map(|entry| entry.part.to_owned()).collect(),
            ids: entries.iter().map(|entry| entry.id.clone()).collect(),
            files: entries.into_iter().map(|entry| entry.file).collect(),
            classes,
        })
    }

    /// Bytes of the image that training sees, `[P,P,3]`.
    fn training_view(&self, row: usize, mut random: ChaCha8Rng) -> Result<Vec<u8>> {
        let side = self.settings.train_px;
        let bytes = self.bytes(row)?;
        let Some(stored) = jpeg::Stored::open(&bytes)? else {
            let image = other_format(&bytes)?;
            let part = self.parts.part(size_of(&image), &mut random);
            return self.parts.finish((image.as_raw(), size_of(&image)), part, side, random);
        };
        let part = self.parts.part(stored.size, &mut random);
        // METHOD: the part is decoded at the smallest of 1, 1/2, 1/4, 1/8 of its size that still has `train-px` pixels a side: what is left out are
        // frequencies that resizing would remove.
        let scale = [8, 4, 2, 1].into_iter().find(|&scale| part.width.min(part.height) / f64::from(scale) >= f64::from(side)).unwrap_or(1);
        let shrunk = stored.shrunk(scale);
        let (x, y) = (f64::from(shrunk.width) / f64::from(stored.size.width), f64::from(shrunk.height) / f64::from(stored.size.height));
        let part = Crop { left: part.left * x, top: part.top * y, width: part.width * x, height: part.height * y };
        let decoded = stored.decode_part(scale, part.pixels(shrunk))?;
        let part = Crop { left: part.left - f64::from(decoded.left), top: part.top - f64::from(decoded.top), ..part };
        self.parts.finish((decoded.image.as_raw(), size_of(&decoded.image)), part, side, random)
    }

    /// The whole image as evaluation begins with it.
    fn whole(&self, row: usize) -> Result<RgbImage> {
        let bytes = self.bytes(row)?;
        match jpeg::Stored::open(&bytes)? {
            Some(stored) => stored.decode(1),
            None => other_format(&bytes),
        }
    }

    fn bytes(&self, row: usize) -> Result<Vec<u8>> {
        std::fs::read(&self.files[row]).context("it cannot be read")
    }

    fn named<T>(&self, row: usize, result: Result<T>) -> Result<T> {
        result.with_context(|| format!("the image '{}'; copy it again, or remove it", self.ids[row]))
    }
}

/// An image that is no JPEG: PNG, whatever its name.
fn other_format(bytes: &[u8]) -> Result<RgbImage> {
    Ok(image::load_from_memory(bytes).context("it is damaged, or neither JPEG nor PNG")?.to_rgb8())
}

fn size_of(image: &RgbImage) -> Size {
    Size { width: image.width(), height: image.height() }
}

impl Dataset for ImageFolder {
    fn ids(&self) -> &[String] {
        &self.ids
    }

    fn groups(&self) -> &[String] {
        &self.ids
    }

    fn targets(&self) -> &[i64] {
        &self.targets
    }

    fn column(&self, name: &str) -> Option<Vec<String>> {
        (name == "part").then(|| self.part.clone())
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn input(&self) -> Input {
        Input::Images
    }

    fn batch(&self, rows: &[usize], augment: Option<Augment>, device: Device) -> Result<Batch> {
        let inputs = match augment {
            Some(augment) => {
                let view = |place: usize| {
                    let row = rows[place];
                    self.named(row, self.training_view(row, augment.stream(place, rows.len(), row)))
                };
                prepare_each(rows.len(), self.settings.train_px, &Normalisation::IMAGENET, view)?.to_device(device)
            }
            None => {
                let evaluation = self.settings.evaluation();
                let view = |&row: &usize| {
                    let image = self.named(row, self.whole(row))?;
                    self.named(row, evaluation.apply(image.as_raw(), 1, size_of(&image), Device::Cpu, Kind::Float))
                };
                Tensor::cat(&rows.par_iter().map(view).collect::<Result<Vec<_>>>()?, 0).to_device(device)
            }
        };
        let targets: Vec<i64> = rows.iter().map(|&row| self.targets[row]).collect();
        Ok(Batch { inputs, mask: None, targets: Tensor::from_slice(&targets).to_device(device), rows: rows.to_vec() })
    }
}
