//! Random colours of training images: brightness, contrast, saturation and hue, and now and then no colour at all.
//! Source: Chen et al. 2020 (SimCLR), as Khosla et al. 2020 train SupCon; the arithmetic is torchvision's.

use anyhow::{Result, ensure};
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Weights of red, green and blue in grey.
const GREY: [f32; 3] = [0.299, 0.587, 0.114];

/// Settings of `[train.image-folder.colour]`; all zero: colours stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ColourSettings {
    /// How often the four below are applied, 0–1.
    pub jitter: f64,
    /// Factor from 1 − this to 1 + this.
    pub brightness: f64,
    /// As brightness, around the mean grey.
    pub contrast: f64,
    /// As brightness, around each pixel's grey.
    pub saturation: f64,
    /// Largest turn of the hue, in turns, up to 0.5.
    pub hue: f64,
    /// How often an image loses its colours, 0–1.
    pub greyscale: f64,
}

impl ColourSettings {
    /// Refuses what cannot be drawn.
    ///
    /// # Errors
    /// A probability outside 0–1, a negative range, a hue beyond half a turn: named.
    pub fn check(&self) -> Result<()> {
        for (name, value, most) in [
            ("jitter", self.jitter, 1.0),
            ("greyscale", self.greyscale, 1.0),
            ("hue", self.hue, 0.5),
            ("brightness", self.brightness, 1.0),
            ("contrast", self.contrast, 1.0),
            ("saturation", self.saturation, 1.0),
        ] {
            ensure!((0.0..=most).contains(&value), "train.image-folder.colour.{name} is {value}; it must lie from 0 to {most}");
        }
        Ok(())
    }

    /// Changes interleaved RGB values in [0, 1] in place.
    pub(in crate::datasets) fn apply(&self, pixels: &mut [[f32; 3]], random: &mut ChaCha8Rng) {
        if random.random::<f64>() < self.jitter {
            let mut order = [0, 1, 2, 3];
            order.shuffle(random);
            for change in order {
                let mut factor = |range: f64| (1.0 + range * random.random_range(-1.0..=1.0)) as f32;
                match change {
                    0 => blend(pixels, factor(self.brightness), |_| 0.0),
                    1 => {
                        let factor = factor(self.contrast);
                        let mean = pixels.iter().map(grey).sum::<f32>() / pixels.len().max(1) as f32;
                        blend(pixels, factor, |_| mean);
                    }
                    2 => blend(pixels, factor(self.saturation), grey),
                    _ => {
                        let turn = (self.hue * random.random_range(-1.0..=1.0)) as f32;
                        if turn != 0.0 {
                            pixels.iter_mut().for_each(|pixel| *pixel = turned(*pixel, turn));
                        }
                    }
                }
            }
        }
        if random.random::<f64>() < self.greyscale {
            pixels.iter_mut().for_each(|pixel| *pixel = [grey(pixel); 3]);
        }
    }
}

fn grey(pixel: &[f32; 3]) -> f32 {
    GREY[0] * pixel[0] + GREY[1] * pixel[1] + GREY[2] * pixel[2]
}

/// `factor` · pixel + (1 − `factor`) · other, cut to [0, 1].
fn blend(pixels: &mut [[f32; 3]], factor: f32, other: impl Fn(&[f32; 3]) -> f32) {
    for pixel in pixels {
        let other = other(pixel);
        *pixel = pixel.map(|value| (factor * value + (1.0 - factor) * other).clamp(0.0, 1.0));
    }
}

/// The colour with its hue turned, in turns; brightness and saturation (of HSV) stay.
fn turned([red, green, blue]: [f32; 3], turn: f32) -> [f32; 3] {
    let (most, least) = (red.max(green).max(blue), red.min(green).min(blue));
    let span = most - least;
    if span <= 0.0 {
        return [red, green, blue];
    }
    let sixths = if most == red {
        (green - blue) / span
    } else if most == green {
        2.0 + (blue - red) / span
    } else {
        4.0 + (red - green) / span
    };
    let hue = (sixths / 6.0 + turn).rem_euclid(1.0) * 6.0;
    let channel = |offset: f32| most - span * (hue + offset).rem_euclid(6.0).min(4.0 - (hue + offset).rem_euclid(6.0)).clamp(0.0, 1.0);
    [channel(5.0), channel(3.0), channel(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::seed;

    fn near(found: [f32; 3], wanted: [f32; 3]) {
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?} instead of {wanted:?}");
    }

    #[test]
    fn hues_turn_round_the_circle() {
        near(turned([0.8, 0.2, 0.1], 1.0 / 3.0), [0.1, 0.8, 0.2]);
        near(turned([0.8, 0.2, 0.1], -1.0 / 3.0), [0.2, 0.1, 0.8]);
        near(turned([0.3, 0.5, 0.9], 0.0), [0.3, 0.5, 0.9]);
        near(turned([0.4, 0.4, 0.4], 0.3), [0.4, 0.4, 0.4]);
        near(turned([1.0, 0.0, 0.0], 0.5), [0.0, 1.0, 1.0]);
    }

    #[test]
    fn nothing_changes_where_nothing_is_asked_for_and_grey_is_grey() {
        let image: Vec<[f32; 3]> = (0..50).map(|i| [i as f32 / 50.0, 0.3, 1.0 - i as f32 / 50.0]).collect();
        let mut same = image.clone();
        ColourSettings::default().apply(&mut same, &mut seed::stream(1, "a"));
        assert_eq!(same, image);
        let mut grey = image.clone();
        ColourSettings { greyscale: 1.0, ..ColourSettings::default() }.apply(&mut grey, &mut seed::stream(1, "a"));
        assert!(grey.iter().all(|[red, green, blue]| red == green && green == blue));
        let simclr = ColourSettings { jitter: 1.0, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1, greyscale: 0.2 };
        let (mut one, mut two) = (image.clone(), image.clone());
        simclr.apply(&mut one, &mut seed::stream(1, "a"));
        simclr.apply(&mut two, &mut seed::stream(1, "a"));
        assert!(one == two && one != image && one.iter().flatten().all(|value| (0.0..=1.0).contains(value)));
        assert!(ColourSettings { hue: 0.6, ..simclr }.check().unwrap_err().to_string().contains("hue is 0.6"));
    }
}
