//! CIFAR-100 in the binary layout: `train.bin` and `test.bin`, 3,074 bytes a record (coarse label, fine label, 1,024 bytes
//! each of red, green, blue). Source: Krizhevsky 2009; methods §7.2.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::augment;
use super::{Augment, Dataset};
use crate::encoders::Normalisation;
use crate::encoders::preprocess::{Interpolation, Library, Preprocess, Resize, Target};
use crate::ground::batch::{Batch, Input};

/// Side of an image in pixels.
pub const SIDE: usize = 32;
const PIXELS: usize = 3 * SIDE * SIDE;
const RECORD: usize = 2 + PIXELS;

/// What a picture goes through to look like one of these: the short side to 32 px, their mean and standard deviation.
pub(super) fn evaluation() -> Preprocess {
    let to = Target::Short(SIDE as u32);
    let resize = Resize { to, interpolation: Interpolation::Bilinear, library: Library::Pillow, antialias: true };
    let Normalisation { mean, std } = Normalisation::CIFAR100;
    Preprocess { resize: Some(resize), crop: None, mean, std }
}

/// All images, those of `train.bin` first, each file in its own order.
pub struct Cifar {
    classes: Vec<String>,
    pixels: Vec<u8>,
    ids: Vec<String>,
    targets: Vec<i64>,
    part: Vec<String>,
}

impl Cifar {
    /// Reads the folder of the binary layout.
    ///
    /// # Errors
    /// A missing file, a size that is no multiple of a record, a label beyond the class names: each named.
    pub fn read(folder: &Path) -> Result<Self> {
        let names = folder.join("fine_label_names.txt");
        let text = std::fs::read_to_string(&names)
            .with_context(|| format!("cannot read '{}'; give the folder of the binary layout", names.display()))?;
        let classes: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
        let mut all = Self { classes, pixels: Vec::new(), ids: Vec::new(), targets: Vec::new(), part: Vec::new() };
        for part in ["train", "test"] {
            all.append(&folder.join(format!("{part}.bin")), part)?;
        }
        Ok(all)
    }

    fn append(&mut self, path: &Path, part: &str) -> Result<()> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read '{}'", path.display()))?;
        ensure!(
            !bytes.is_empty() && bytes.len().is_multiple_of(RECORD),
            "'{}' has {} bytes, which is no multiple of the {RECORD} of a record; copy it again",
            path.display(),
            bytes.len()
        );
        for (index, record) in bytes.chunks_exact(RECORD).enumerate() {
            let label = i64::from(record[1]);
            ensure!(
                (label as usize) < self.classes.len(),
                "'{}': record {index} has the label {label}, there are {} classes",
                path.display(),
                self.classes.len()
            );
            self.targets.push(label);
            self.ids.push(format!("{part}/{index:05}"));
            self.part.push(part.to_owned());
            self.pixels.extend_from_slice(&record[2..]);
        }
        Ok(())
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

    fn input(&self) -> Input {
        Input::Images
    }

    fn batch(&self, rows: &[usize], augment: Option<Augment>, device: Device) -> Result<Batch> {
        let Normalisation { mean, std } = Normalisation::CIFAR100;
        let mut values = vec![0f32; rows.len() * PIXELS];
        values.par_chunks_exact_mut(PIXELS).zip(rows).enumerate().for_each(|(place, (out, &row))| {
            let image = &self.pixels[row * PIXELS..][..PIXELS];
            let changed = augment.map(|augment| augment::crop_flip_rotate(image, SIDE, augment.stream(place, rows.len(), row)));
            let image = changed.as_deref().unwrap_or(image);
            for (index, (value, &pixel)) in out.iter_mut().zip(image).enumerate() {
                let channel = index / (SIDE * SIDE);
                *value = ((f64::from(pixel) / 255.0 - mean[channel]) / std[channel]) as f32;
            }
        });
        let targets: Vec<i64> = rows.iter().map(|&row| self.targets[row]).collect();
        Ok(Batch {
            inputs: Tensor::from_slice(&values)
                .view([rows.len() as i64, 3, SIDE as i64, SIDE as i64])
                .to_kind(Kind::Float)
                .to_device(device),
            mask: None,
            targets: Tensor::from_slice(&targets).to_device(device),
            rows: rows.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn two_records_are_two_images_and_the_pixel_order_is_channel_row_column() {
        let data = Cifar::read(folder(2, 0).path()).unwrap();
        assert_eq!(data.targets(), [0, 1, 0, 1]);
        let batch = data.batch(&[1], None, Device::Cpu).unwrap();
        let (channel, i, j) = (2, 3, 5);
        let Normalisation { mean, std } = Normalisation::CIFAR100;
        let expected = (((1024 * channel + 32 * i + j) % 251) as f64 / 255.0 - mean[channel]) / std[channel];
        let found = batch.inputs.double_value(&[0, channel as i64, i as i64, j as i64]);
        assert!((found - expected).abs() < 1e-6);
    }

    #[test]
    fn a_size_that_is_no_multiple_is_refused() {
        let error = Cifar::read(folder(2, 1).path()).err().expect("6,149 bytes are refused").to_string();
        assert!(error.contains("6149 bytes"), "{error}");
    }
}
