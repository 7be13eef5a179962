//! Photographs in class folders: ImageNet (`train/n01440764/*.JPEG`, `val/…`), or any folder of that layout.
//!
//! A class's index is the rank of its folder's name. Training sees a random part of each image, resized and mirrored; evaluation sees the
//! middle. Images are decoded when a batch asks for them: an epoch holds no more of them in memory than a batch.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::augment::{ColourSettings, Crop, random_resized};
use super::{Augment, Dataset};
use crate::encoders::preprocess::{Interpolation, Library, Preprocess, Resize, Target};
use crate::encoders::{Normalisation, prepare};
use crate::ground::batch::{Batch, Input};
use crate::ground::listing::listing;
use crate::ground::share;
use crate::ground::units::Size;
use crate::slides::jpeg;

/// Endings of files that are images, in small or large letters.
const ENDINGS: [&str; 3] = ["jpeg", "jpg", "png"];

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
    /// Random colours in training.
    pub colour: ColourSettings,
    /// Largest share of the images that may be unreadable and left out, 0–1.
    pub max_unreadable: f64,
}

impl Default for ImageFolderSettings {
    fn default() -> Self {
        Self { train_px: 176, short_px: 232, test_px: 224, colour: ColourSettings::default(), max_unreadable: 0.0 }
    }
}

impl ImageFolderSettings {
    fn check(&self) -> Result<()> {
        ensure!(self.train_px > 0 && self.test_px > 0, "train.image-folder: train-px and test-px must be at least 1");
        ensure!(self.short_px >= self.test_px, "train.image-folder: short-px {} is below test-px {}", self.short_px, self.test_px);
        ensure!((0.0..=1.0).contains(&self.max_unreadable), "train.image-folder.max-unreadable must lie from 0 to 1");
        self.colour.check()
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
    classes: Vec<String>,
    files: Vec<PathBuf>,
    ids: Vec<String>,
    targets: Vec<i64>,
    part: Vec<String>,
}

/// An image that a folder holds.
struct Entry {
    file: PathBuf,
    id: String,
    part: &'static str,
    class: String,
}

impl ImageFolder {
    /// Lists the images below `folder` and looks at the beginning and the end of each. The column `part` is `train`, `val` or `test` after
    /// the folders of these names (`valid` counts as `val`), or empty where the class folders stand in `folder` itself.
    ///
    /// # Errors
    /// A folder without class folders, a class without images, parts with other classes than each other, more unreadable images than the
    /// settings allow: every offender named.
    pub fn read(folder: &Path, settings: &ImageFolderSettings) -> Result<Self> {
        settings.check()?;
        let mut entries = Vec::new();
        for (name, part) in PARTS.into_iter().filter(|(name, _)| folder.join(name).is_dir()) {
            entries.extend(class_folders(&folder.join(name), name, part)?);
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
            let part = random_resized(size_of(&image), &mut random);
            return self.finish(&image, part, side, random);
        };
        let part = random_resized(stored.size, &mut random);
        // METHOD: the part is decoded at the smallest of 1, 1/2, 1/4, 1/8 of its size that still has `train-px` pixels a side: what is left out are
        // frequencies that resizing would remove.
        let scale = [8, 4, 2, 1].into_iter().find(|&scale| part.width.min(part.height) / f64::from(scale) >= f64::from(side)).unwrap_or(1);
        let image = stored.decode(scale)?;
        let (x, y) = (f64::from(image.width()) / f64::from(stored.size.width), f64::from(image.height()) / f64::from(stored.size.height));
        // Rounding must not carry the part over the picture's edge.
        let within = |start: f64, length: f64, side: u32| {
            if start + length > f64::from(side) { (f64::from(side) - start).next_down() } else { length }
        };
        let (left, top) = (part.left * x, part.top * y);
        let part =
            Crop { left, top, width: within(left, part.width * x, image.width()), height: within(top, part.height * y, image.height()) };
        self.finish(&image, part, side, random)
    }

    /// Resizes the part, mirrors it with probability ½, changes its colours.
    fn finish(&self, image: &RgbImage, part: Crop, side: u32, mut random: ChaCha8Rng) -> Result<Vec<u8>> {
        let mut pixels = resized(image, part, side)?;
        if random.random::<bool>() {
            pixels.chunks_exact_mut(3 * side as usize).for_each(|row| row.as_chunks_mut::<3>().0.reverse());
        }
        if self.settings.colour != ColourSettings::default() {
            let mut values: Vec<[f32; 3]> =
                pixels.as_chunks::<3>().0.iter().map(|pixel| pixel.map(|value| f32::from(value) / 255.0)).collect();
            self.settings.colour.apply(&mut values, &mut random);
            pixels = values.iter().flatten().map(|value| (value * 255.0).round() as u8).collect();
        }
        Ok(pixels)
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

/// The images of every class folder in `folder`, sorted; `parent` begins their ids.
fn class_folders(folder: &Path, parent: &str, part: &'static str) -> Result<Vec<Entry>> {
    let mut classes = listed(folder)?;
    classes.retain(|path| path.is_dir());
    let empty = std::sync::Mutex::new(Vec::new());
    let per_class = classes.par_iter().map(|path| {
        let class = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut files = listed(path)?;
        files.retain(|file| file.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known))));
        if files.is_empty() {
            empty.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(class.clone());
        }
        let id = |file: &Path| {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            [parent, class.as_str(), name.as_str()].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join("/")
        };
        Ok(files.into_iter().map(|file| Entry { id: id(&file), file, part, class: class.clone() }).collect::<Vec<_>>())
    });
    let entries = per_class.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    let mut empty = empty.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    empty.sort();
    // Folders that have nothing to do with classes are no reason to refuse a folder that is no image set at all.
    if !part.is_empty() && !empty.is_empty() {
        bail!("class folders without images in '{}': {}", folder.display(), listing(&empty, ", "));
    }
    Ok(entries)
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read the folder '{}'", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.retain(|path| !path.file_name().unwrap_or_default().to_string_lossy().starts_with('.'));
    paths.sort();
    Ok(paths)
}

/// # Errors
/// Parts with other classes than the first: each class named, with where it is missing.
fn check_classes(entries: &[Entry]) -> Result<()> {
    let classes_of =
        |part: &str| entries.iter().filter(|entry| entry.part == part).map(|entry| entry.class.as_str()).collect::<BTreeSet<_>>();
    let parts: Vec<&str> = entries.iter().map(|entry| entry.part).collect::<BTreeSet<_>>().into_iter().collect();
    let all = entries.iter().map(|entry| entry.class.as_str()).collect::<BTreeSet<_>>();
    let missing: Vec<String> = parts
        .iter()
        .flat_map(|part| all.difference(&classes_of(part)).map(|class| format!("{class} (not in {part})")).collect::<Vec<_>>())
        .collect();
    ensure!(missing.is_empty(), "the parts have other classes: {}", listing(&missing, ", "));
    Ok(())
}

/// Leaves out images whose beginning or end is not that of an image, as far as the share allows.
fn readable(entries: Vec<Entry>, share: f64) -> Result<Vec<Entry>> {
    let faults: Vec<Option<String>> = entries.par_iter().map(|entry| look(&entry.file).err().map(|error| format!("{error:#}"))).collect();
    let unreadable: Vec<String> =
        entries.iter().zip(&faults).filter_map(|(entry, fault)| Some(format!("{}: {}", entry.id, fault.as_ref()?))).collect();
    if unreadable.is_empty() {
        return Ok(entries);
    }
    let allowed = share::allowed(share, entries.len());
    let list = listing(&unreadable, "\n  ");
    ensure!(
        unreadable.len() <= allowed,
        "{} of {} images cannot be read, {allowed} are allowed (train.image-folder.max-unreadable):\n  {list}",
        unreadable.len(),
        entries.len()
    );
    tracing::warn!("{} of {} images cannot be read and are left out:\n  {list}", unreadable.len(), entries.len());
    Ok(entries.into_iter().zip(faults).filter(|(_, fault)| fault.is_none()).map(|(entry, _)| entry).collect())
}

/// # Errors
/// A file that does not begin as an image, or, a JPEG, that does not end as one: it was cut off.
fn look(path: &Path) -> Result<()> {
    const TAIL: u64 = 64;
    let mut file = File::open(path).context("it cannot be opened")?;
    let mut head = [0; 16];
    let length = file.metadata()?.len();
    ensure!(length > TAIL, "it has {length} bytes");
    file.read_exact(&mut head)?;
    match image::guess_format(&head) {
        Ok(image::ImageFormat::Jpeg) => {
            let mut tail = [0; TAIL as usize];
            file.seek(SeekFrom::End(-(TAIL as i64)))?;
            file.read_exact(&mut tail)?;
            ensure!(tail.windows(2).any(|pair| pair == [0xff, 0xd9]), "its end is missing");
            Ok(())
        }
        Ok(image::ImageFormat::Png) => Ok(()),
        _ => bail!("it is neither JPEG nor PNG"),
    }
}

/// An image that libjpeg-turbo does not turn into RGB: PNG, whatever its name, or JPEG in printing colours.
fn other_format(bytes: &[u8]) -> Result<RgbImage> {
    Ok(image::load_from_memory(bytes).context("it is damaged, or neither JPEG nor PNG")?.to_rgb8())
}

fn size_of(image: &RgbImage) -> Size {
    Size { width: image.width(), height: image.height() }
}

/// A part of an image as a square of `side` pixels, bilinear with antialiasing.
fn resized(image: &RgbImage, part: Crop, side: u32) -> Result<Vec<u8>> {
    let source = ImageRef::new(image.width(), image.height(), image.as_raw(), PixelType::U8x3)?;
    let mut target = Image::new(side, side, PixelType::U8x3);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .crop(part.left, part.top, part.width, part.height)
        .use_alpha(false);
    Resizer::new().resize(&source, &mut target, &options)?;
    Ok(target.into_vec())
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
                let view =
                    |(place, &row): (usize, &usize)| self.named(row, self.training_view(row, augment.stream(place, rows.len(), row)));
                let views = rows.par_iter().enumerate().map(view).collect::<Result<Vec<_>>>()?.concat();
                prepare(&views, rows.len(), self.settings.train_px, &Normalisation::IMAGENET, device)
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
