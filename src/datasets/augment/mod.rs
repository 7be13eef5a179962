//! Random changes of training images, each drawn from a stream of its own sample, epoch and view, so that no number of workers changes it.
//!
//! What an augmentation does to a photograph is split in two: which part training sees, before it is decoded ([`Parts::part`]), and what
//! becomes of that part ([`Parts::finish`]).

use anyhow::{Result, bail, ensure};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

mod colour;
mod resized_crop;
mod small;

use colour::Colours;
pub(super) use resized_crop::{Crop, Parts};
pub use small::CropFlipRotate;

crate::registry! {
    /// How training images are changed where `train.augment` is on, or a loss wants two views; by the `name` in `[train.augmentation]`.
    pub enum AugmentationSettings {
        "by-data" => ByData(ByData),
        "crop-flip-rotate" => CropFlipRotate(CropFlipRotate),
        "resized-crop" => ResizedCrop(ResizedCrop),
        "supcon" => SupCon(SupCon),
    } default "by-data"
}

/// The usual changes of the data: `crop-flip-rotate` for CIFAR, `resized-crop` for photographs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ByData {}

/// A random part, resized, and mirrored with probability ½. Source: Szegedy et al. 2015; torchvision's defaults.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ResizedCrop {
    /// Smallest share of the area that a part has, 0–1; the largest is 1.
    pub smallest_area: f64,
}

impl Default for ResizedCrop {
    fn default() -> Self {
        Self { smallest_area: 0.08 }
    }
}

/// A random part, resized and mirrored, with random colours. Source: Chen et al. 2020 (SimCLR), as Khosla et al. 2020 train SupCon on CIFAR.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SupCon {
    /// Smallest share of the area that a part has, 0–1; the largest is 1.
    pub smallest_area: f64,
    /// How often brightness, contrast, saturation and hue are changed, in random order, 0–1.
    pub jitter: f64,
    /// Factor from 1 − this to 1 + this, 0–1.
    pub brightness: f64,
    /// As brightness, around the mean grey.
    pub contrast: f64,
    /// As brightness, around each pixel's grey.
    pub saturation: f64,
    /// Largest turn of the hue, in turns, 0–0.5.
    pub hue: f64,
    /// How often an image loses its colours, 0–1.
    pub greyscale: f64,
}

impl Default for SupCon {
    fn default() -> Self {
        Self { smallest_area: 0.2, jitter: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1, greyscale: 0.2 }
    }
}

impl AugmentationSettings {
    /// Refuses what cannot be drawn.
    fn check(&self) -> Result<()> {
        let ranges: &[(&str, f64, f64)] = match self {
            Self::ByData(_) => &[],
            Self::CropFlipRotate(changes) => &[("degrees", changes.degrees, 180.0)],
            Self::ResizedCrop(ResizedCrop { smallest_area }) => &[("smallest-area", *smallest_area, 1.0)],
            Self::SupCon(changes) => &[
                ("smallest-area", changes.smallest_area, 1.0),
                ("jitter", changes.jitter, 1.0),
                ("brightness", changes.brightness, 1.0),
                ("contrast", changes.contrast, 1.0),
                ("saturation", changes.saturation, 1.0),
                ("hue", changes.hue, 0.5),
                ("greyscale", changes.greyscale, 1.0),
            ],
        };
        for &(name, value, most) in ranges {
            ensure!((0.0..=most).contains(&value), "train.augmentation.{name} is {value}; it must lie from 0 to {most}");
        }
        Ok(())
    }

    /// What is done to images of one small size.
    ///
    /// # Errors
    /// A setting outside its range.
    pub(super) fn for_small_images(&self) -> Result<Self> {
        self.check()?;
        Ok(if let Self::ByData(_) = self { Self::CropFlipRotate(CropFlipRotate::default()) } else { self.clone() })
    }

    /// What is done to photographs.
    ///
    /// # Errors
    /// A setting outside its range; changes that want images of one size.
    pub(super) fn for_photographs(&self) -> Result<Parts> {
        self.check()?;
        match self {
            Self::CropFlipRotate(_) => {
                bail!("train.augmentation 'crop-flip-rotate' is for images of one size; photographs take 'resized-crop' or 'supcon'")
            }
            other => Ok(other.parts().unwrap_or_else(|| Parts::from(ResizedCrop::default()))),
        }
    }

    /// Random parts and their colours; `None` for changes that keep the whole image.
    fn parts(&self) -> Option<Parts> {
        match *self {
            Self::ByData(_) | Self::CropFlipRotate(_) => None,
            Self::ResizedCrop(changes) => Some(changes.into()),
            Self::SupCon(changes) => Some(changes.into()),
        }
    }

    /// A changed copy of a small image: 3 planes of `side`² bytes.
    ///
    /// # Errors
    /// None in practice: a part lies inside the image.
    pub(super) fn small(&self, image: &[u8], side: usize, random: ChaCha8Rng) -> Result<Vec<u8>> {
        match (self, self.parts()) {
            (_, Some(parts)) => parts.of_small(image, side, random),
            (Self::CropFlipRotate(changes), None) => Ok(changes.apply(image, side, random)),
            _ => Ok(CropFlipRotate::default().apply(image, side, random)),
        }
    }
}

impl From<ResizedCrop> for Parts {
    fn from(ResizedCrop { smallest_area }: ResizedCrop) -> Self {
        Self { smallest_area, colours: None }
    }
}

impl From<SupCon> for Parts {
    fn from(SupCon { smallest_area, jitter, brightness, contrast, saturation, hue, greyscale }: SupCon) -> Self {
        Self { smallest_area, colours: Some(Colours { jitter, brightness, contrast, saturation, hue, greyscale }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::Augment;

    fn image() -> Vec<u8> {
        (0..3 * 32 * 32).map(|i| (i * 7 % 256) as u8).collect()
    }

    #[test]
    fn changes_depend_on_seed_epoch_view_and_row_only() {
        let image = image();
        for name in ["crop-flip-rotate", "resized-crop", "supcon"] {
            let augmentation = AugmentationSettings::named(name).unwrap();
            let of =
                |seed, epoch, place, row| augmentation.small(&image, 32, Augment { seed, epoch, views: 2 }.stream(place, 4, row)).unwrap();
            assert_eq!(of(1, 1, 0, 1), of(1, 1, 1, 1), "{name}");
            assert_ne!(of(1, 1, 0, 1), of(1, 1, 2, 1), "{name}: the second view is another one");
            assert_ne!(of(1, 1, 0, 1), of(1, 2, 0, 1), "{name}");
            assert_ne!(of(1, 1, 0, 1), of(1, 1, 0, 2), "{name}");
            assert_ne!(of(1, 1, 0, 1), of(2, 1, 0, 1), "{name}");
        }
    }

    #[test]
    fn the_data_decides_where_nothing_is_said() {
        let small = AugmentationSettings::default().for_small_images().unwrap();
        assert_eq!(small.name(), "crop-flip-rotate");
        assert_eq!(AugmentationSettings::default().for_photographs().unwrap().smallest_area, 0.08);
        assert!(small.for_photographs().err().unwrap().to_string().contains("images of one size"));
        let wrong = AugmentationSettings::SupCon(SupCon { hue: 0.6, ..SupCon::default() });
        assert!(wrong.for_small_images().unwrap_err().to_string().contains("hue is 0.6"));
    }
}
