//! CIFAR-10 and CIFAR-100, in the binary and in the Python layout: 32 × 32 pixels, 1,024 bytes each of red, green, blue. Which layout a
//! folder has follows from its files. Source: Krizhevsky 2009; methods §7.2.
//!
//! Memory: the files as they are, once; 184 MB for either set.

use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use tch::{Device, Tensor};

use super::augment::AugmentationSettings;
use super::{Augment, Dataset};
use crate::encoders::Normalisation;
use crate::encoders::preprocess::{Interpolation, Library, Preprocess, Resize, Target};
use crate::ground::batch::{Batch, Input};
use crate::ground::listing::listing;
use crate::torch::numbers;

mod binary;
mod pickled;
mod published;

use published::{Edition, File, Layout};

/// Side of an image in pixels.
pub const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const PIXELS: usize = 3 * PLANE;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    /// 10 classes.
    Cifar10,
    /// 100 classes, the fine ones.
    Cifar100,
}

impl Set {
    const ALL: [Self; 2] = [Self::Cifar10, Self::Cifar100];

    fn editions(self) -> &'static [Edition] {
        match self {
            Self::Cifar10 => &published::CIFAR10,
            Self::Cifar100 => &published::CIFAR100,
        }
    }

    /// What the settings call it.
    fn setting(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Cifar10 => "CIFAR-10",
            Self::Cifar100 => "CIFAR-100",
        }
    }

    fn normalisation(self) -> Normalisation {
        match self {
            Self::Cifar10 => Normalisation::CIFAR10,
            Self::Cifar100 => Normalisation::CIFAR100,
        }
    }

    /// What a picture goes through to look like one of these: the short side to 32 px, their mean and standard deviation.
    pub(super) fn evaluation(self) -> Preprocess {
        let to = Target::Short(SIDE as u32);
        let resize = Resize { to, interpolation: Interpolation::Bilinear, library: Library::Pillow, antialias: true };
        let Normalisation { mean, std } = self.normalisation();
        Preprocess { resize: Some(resize), crop: None, mean, std }
    }

    /// The layout whose files are in the folder.
    ///
    /// # Errors
    /// None, both, or one of them without all its files: what is there and what is missing.
    fn edition(self, folder: &Path) -> Result<&'static Edition> {
        let there = |edition: &&Edition| edition.files.iter().any(|file| folder.join(file.name).is_file());
        match self.editions().iter().filter(there).collect::<Vec<_>>()[..] {
            [edition] => {
                let wanted = edition.files.iter().map(|file| file.name).chain([edition.names]);
                let missing: Vec<&str> = wanted.filter(|name| !folder.join(name).is_file()).collect();
                ensure!(missing.is_empty(), "'{}' lacks files of {}: {}", folder.display(), self.name(), listing(&missing, ", "));
                Ok(edition)
            }
            [] => {
                let other = Self::ALL.into_iter().find(|set| *set != self && set.editions().iter().any(|edition| there(&edition)));
                if let Some(other) = other {
                    bail!("'{}' holds {}: set train.data to '{}'", folder.display(), other.name(), other.setting());
                }
                let [binary, pickled] = [0, 1].map(|layout| self.editions()[layout].files.iter().map(|file| file.name).collect::<Vec<_>>());
                bail!(
                    "'{}' does not hold {}: neither {} (binary layout) nor {} (Python layout); give the folder that the archive unpacks to",
                    folder.display(),
                    self.name(),
                    binary.join(", "),
                    pickled.join(", ")
                )
            }
            _ => bail!("'{}' holds {} in two layouts; keep one", folder.display(), self.name()),
        }
    }

    /// The files of images in the folder, by which a run names its data.
    ///
    /// # Errors
    /// A folder that holds no layout of the set.
    pub fn files(self, folder: &Path) -> Result<Vec<PathBuf>> {
        Ok(self.edition(folder)?.files.iter().map(|file| folder.join(file.name)).collect())
    }
}

/// The images of a file, where they lie in its bytes.
struct Images {
    bytes: Vec<u8>,
    first: usize,
    stride: usize,
    count: usize,
}

impl Images {
    /// Three planes of 1,024 bytes.
    fn get(&self, index: usize) -> &[u8] {
        &self.bytes[self.first + index * self.stride..][..PIXELS]
    }
}

/// All images, those of training first, file after file, each in its own order.
pub struct Cifar {
    classes: Vec<String>,
    files: Vec<Images>,
    /// File and place in it of each row.
    places: Vec<(usize, usize)>,
    ids: Vec<String>,
    targets: Vec<i64>,
    part: Vec<String>,
    notes: Vec<String>,
    augmentation: AugmentationSettings,
    /// `(x/255 − mean)/std` of each level of red, green and blue.
    levels: [[f32; 256]; 3],
}

impl Cifar {
    /// Reads the folder that the published archive unpacks to, in either layout. Another number of images than was published is a note.
    ///
    /// # Errors
    /// Missing files, a size that is no multiple of a record, a pickle that holds something else or has the published number of images under
    /// another digest, a label beyond the class names: each named.
    pub fn read(folder: &Path, set: Set, augmentation: &AugmentationSettings) -> Result<Self> {
        let edition = set.edition(folder)?;
        let named = |name: &str| format!("'{}'", folder.join(name).display());
        let read = |name: &str| std::fs::read(folder.join(name)).with_context(|| format!("cannot read {}", named(name)));
        let names = read(edition.names)?;
        let classes = match edition.layout {
            Layout::Binary { .. } => binary::names(&names),
            Layout::Pickled { class_names, .. } => pickled::names(&names, class_names),
        };
        let classes = classes.with_context(|| format!("{}: no class names", named(edition.names)))?;
        ensure!(!classes.is_empty(), "{} holds no class names", named(edition.names));
        let file = |file: &File| {
            let bytes = read(file.name)?;
            let found = match edition.layout {
                Layout::Binary { label_bytes } => binary::read(bytes, label_bytes),
                Layout::Pickled { labels, .. } => pickled::read(bytes, labels, file),
            };
            let (images, labels) = found.with_context(|| named(file.name))?;
            let wrong = labels.iter().position(|label| !(0..classes.len() as i64).contains(label));
            if let Some(index) = wrong {
                bail!("{}: image {index} has the label {}, there are {} classes", named(file.name), labels[index], classes.len());
            }
            Ok((images, labels))
        };
        // All of them, so that of several that are wrong it is always the first that is named.
        let read: Vec<_> = edition.files.par_iter().map(file).collect();
        let (files, labels): (Vec<Images>, Vec<Vec<i64>>) = read.into_iter().collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let (mut places, mut ids, mut part) = (Vec::new(), Vec::new(), Vec::new());
        let mut notes = Vec::new();
        for name in ["train", "test"] {
            let of_part = || edition.files.iter().enumerate().filter(|(_, file)| file.part == name);
            let rows = of_part().flat_map(|(file, _)| (0..files[file].count).map(move |index| (file, index)));
            let before = places.len();
            places.extend(rows);
            let (found, published) = (places.len() - before, of_part().map(|(_, file)| file.images).sum::<usize>());
            ids.extend((0..found).map(|index| format!("{name}/{index:05}")));
            part.extend(std::iter::repeat_n(name.to_owned(), found));
            if found != published {
                notes.push(format!("{}: {found} {name} images, published are {published}: a part of the set, or another one", set.name()));
            }
        }
        let Normalisation { mean, std } = set.normalisation();
        let level = |channel: usize, level: usize| ((level as f64 / 255.0 - mean[channel]) / std[channel]) as f32;
        Ok(Self {
            classes,
            files,
            places,
            ids,
            targets: labels.concat(),
            part,
            notes,
            augmentation: augmentation.for_small_images()?,
            levels: std::array::from_fn(|channel| std::array::from_fn(|byte| level(channel, byte))),
        })
    }
}

impl Dataset for Cifar {
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

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn input(&self) -> Input {
        Input::Images
    }

    fn batch(&self, rows: &[usize], augment: Option<Augment>, device: Device) -> Result<Batch> {
        let image = |place: usize, out: &mut [MaybeUninit<f32>]| {
            let row = rows[place];
            let (file, index) = self.places[row];
            let image = self.files[file].get(index);
            let changed =
                augment.map(|augment| self.augmentation.small(image, SIDE, augment.stream(place, rows.len(), row))).transpose()?;
            let planes = changed.as_deref().unwrap_or(image).chunks_exact(PLANE);
            for ((out, plane), levels) in out.chunks_exact_mut(PLANE).zip(planes).zip(&self.levels) {
                for (value, &pixel) in out.iter_mut().zip(plane) {
                    value.write(levels[usize::from(pixel)]);
                }
            }
            Ok(())
        };
        let inputs = numbers::written(&[rows.len() as i64, 3, SIDE as i64, SIDE as i64], |values| {
            values.par_chunks_exact_mut(PIXELS).enumerate().try_for_each(|(place, out)| image(place, out))
        })?;
        let targets: Vec<i64> = rows.iter().map(|&row| self.targets[row]).collect();
        Ok(Batch {
            inputs: inputs.to_device(device),
            mask: None,
            targets: Tensor::from_slice(&targets).to_device(device),
            rows: rows.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two classes; `records` images in each file, and some bytes more.
    fn folder(records: usize, extra: usize) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("fine_label_names.txt"), "apple\nbear\n").unwrap();
        let mut bytes: Vec<u8> =
            (0..records).flat_map(|r| [9, (r % 2) as u8].into_iter().chain((0..PIXELS).map(|p| (p % 251) as u8))).collect();
        bytes.extend(std::iter::repeat_n(0, extra));
        for part in ["train.bin", "test.bin"] {
            std::fs::write(folder.path().join(part), &bytes).unwrap();
        }
        folder
    }

    fn read(folder: &Path) -> Result<Cifar> {
        Cifar::read(folder, Set::Cifar100, &AugmentationSettings::default())
    }

    fn refusal(folder: &Path) -> String {
        format!("{:#}", read(folder).err().expect("it is refused"))
    }

    #[test]
    fn two_records_are_two_images_and_the_pixel_order_is_channel_row_column() {
        let data = read(folder(2, 0).path()).unwrap();
        assert_eq!(data.targets(), [0, 1, 0, 1]);
        assert!(data.notes()[0].contains("2 train images, published are 50000"), "{:?}", data.notes());
        let batch = data.batch(&[1], None, Device::Cpu).unwrap();
        let (channel, i, j) = (2, 3, 5);
        let Normalisation { mean, std } = Normalisation::CIFAR100;
        let expected = (((1024 * channel + 32 * i + j) % 251) as f64 / 255.0 - mean[channel]) / std[channel];
        let found = batch.inputs.double_value(&[0, channel as i64, i as i64, j as i64]);
        assert!((found - expected).abs() < 1e-6);
    }

    #[test]
    fn what_is_not_the_set_is_refused_by_name() {
        let error = refusal(folder(2, 1).path());
        assert!(error.contains("train.bin") && error.contains("6149 bytes"), "{error}");

        let set = folder(2, 0);
        let place = |name: &str| set.path().join(name);
        std::fs::write(place("fine_label_names.txt"), "apple\n").unwrap();
        assert!(refusal(set.path()).contains("image 1 has the label 1, there are 1 classes"));
        std::fs::write(place("fine_label_names.txt"), "\n").unwrap();
        assert!(refusal(set.path()).contains("holds no class names"));
        std::fs::remove_file(place("fine_label_names.txt")).unwrap();
        assert!(refusal(set.path()).contains("lacks files of CIFAR-100: fine_label_names.txt"));
        std::fs::write(place("train"), "").unwrap();
        assert!(refusal(set.path()).contains("in two layouts"));
        for name in ["train", "train.bin", "test.bin"] {
            std::fs::remove_file(place(name)).unwrap();
        }
        let error = refusal(set.path());
        assert!(error.contains("does not hold CIFAR-100") && error.contains("Python layout"), "{error}");
        std::fs::write(place("data_batch_1.bin"), "").unwrap();
        assert!(refusal(set.path()).contains("set train.data to 'cifar10'"));
    }
}
