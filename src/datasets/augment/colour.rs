//! Random colours of training images: brightness, contrast, saturation and hue, and now and then no colour at all.
//!
//! METHOD: the arithmetic is that of Pillow, which torchvision's transforms call on pictures and the published SupCon training went through:
//! bytes after every step, to the bit.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// How often and how far; each as its setting in [`super::SupCon`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Colours {
    pub(super) jitter: f64,
    pub(super) brightness: f64,
    pub(super) contrast: f64,
    pub(super) saturation: f64,
    pub(super) hue: f64,
    pub(super) greyscale: f64,
}

impl Colours {
    /// Changes RGB pixels in place.
    pub(super) fn apply(&self, pixels: &mut [[u8; 3]], random: &mut ChaCha8Rng) {
        if random.random::<f64>() < self.jitter {
            let mut order = [0, 1, 2, 3];
            order.shuffle(random);
            for change in order {
                let mut factor = |range: f64| (1.0 + range * random.random_range(-1.0..=1.0)) as f32;
                match change {
                    0 => brightened(pixels, factor(self.brightness)),
                    1 => contrasted(pixels, factor(self.contrast)),
                    2 => saturated(pixels, factor(self.saturation)),
                    // The way to hues and back loses a level here and there.
                    _ if self.hue == 0.0 => {}
                    _ => turned(pixels, self.hue * random.random_range(-1.0..=1.0)),
                }
            }
        }
        if random.random::<f64>() < self.greyscale {
            pixels.iter_mut().for_each(|pixel| *pixel = [grey(pixel); 3]);
        }
    }
}

fn brightened(pixels: &mut [[u8; 3]], factor: f32) {
    blend(pixels, factor, |_| 0);
}

fn contrasted(pixels: &mut [[u8; 3]], factor: f32) {
    let sum: u64 = pixels.iter().map(|pixel| u64::from(grey(pixel))).sum();
    let mean = (sum as f64 / pixels.len().max(1) as f64 + 0.5) as u8;
    blend(pixels, factor, |_| mean);
}

fn saturated(pixels: &mut [[u8; 3]], factor: f32) {
    blend(pixels, factor, grey);
}

/// Weights of red, green and blue in sixteen bits of fraction.
fn grey(pixel: &[u8; 3]) -> u8 {
    let [red, green, blue] = pixel.map(u32::from);
    ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16) as u8
}

/// other + `factor` · (pixel − other), its fraction dropped, cut to a byte.
fn blend(pixels: &mut [[u8; 3]], factor: f32, other: impl Fn(&[u8; 3]) -> u8) {
    for pixel in pixels {
        let other = f32::from(other(pixel));
        *pixel = pixel.map(|value| (other + factor * (f32::from(value) - other)) as u8);
    }
}

/// The hue turned, in turns; saturation and value stay. Hue, saturation and value are bytes.
fn turned(pixels: &mut [[u8; 3]], turns: f64) {
    let shift = (turns * 255.0) as i32 as u8;
    for pixel in pixels {
        let [hue, saturation, value] = to_hsv(*pixel);
        *pixel = from_hsv([hue.wrapping_add(shift), saturation, value]);
    }
}

fn to_hsv([red, green, blue]: [u8; 3]) -> [u8; 3] {
    let (most, least) = (red.max(green).max(blue), red.min(green).min(blue));
    if most == least {
        return [0, 0, most];
    }
    let span = f32::from(most - least);
    let saturation = span / f32::from(most);
    let below = |channel: u8| f32::from(most - channel) / span;
    let (red_below, green_below, blue_below) = (below(red), below(green), below(blue));
    // Single precision where Pillow has it, double where its constants are.
    let sixths = if red == most {
        blue_below - green_below
    } else if green == most {
        (2.0 + f64::from(red_below) - f64::from(blue_below)) as f32
    } else {
        (4.0 + f64::from(green_below) - f64::from(red_below)) as f32
    };
    let hue = ((f64::from(sixths) / 6.0 + 1.0) % 1.0) as f32;
    [(f64::from(hue) * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, most]
}

fn from_hsv([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
    if saturation == 0 {
        return [value; 3];
    }
    let sixths = f64::from(hue) * 6.0 / 255.0;
    let sector = sixths.floor();
    let within = (sixths - sector) as f32;
    let saturation = (f64::from(saturation) / 255.0) as f32;
    let of_value = |share: f64| (f64::from(value) * share).round() as u8;
    let low = of_value(1.0 - f64::from(saturation));
    let falling = of_value(1.0 - f64::from(saturation * within));
    let rising = of_value(1.0 - f64::from(saturation) * (1.0 - f64::from(within)));
    match sector as u8 % 6 {
        0 => [value, rising, low],
        1 => [falling, value, low],
        2 => [low, value, rising],
        3 => [low, falling, value],
        4 => [rising, low, value],
        _ => [value, low, falling],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::seed;

    /// 4,096 colours, all levels among them.
    fn picture() -> Vec<[u8; 3]> {
        (0..4096u32).map(|i| [(i * 37 % 256) as u8, ((i * i * 11 + 5) % 256) as u8, ((i * 101 + i / 7) % 256) as u8]).collect()
    }

    fn crc(pixels: &[[u8; 3]]) -> u32 {
        let mut crc = flate2::Crc::new();
        crc.update(pixels.as_flattened());
        crc.sum()
    }

    #[test]
    fn every_change_is_torchvisions_on_a_picture_of_pillow() {
        // CRC-32 of the bytes that torchvision 0.26.0 gives with Pillow 13.0.0.
        type Change = fn(&mut [[u8; 3]], f64);
        let brightness: Change = |pixels, factor| brightened(pixels, factor as f32);
        let contrast: Change = |pixels, factor| contrasted(pixels, factor as f32);
        let saturation: Change = |pixels, factor| saturated(pixels, factor as f32);
        let hue: Change = |pixels, turns| turned(pixels, turns);
        for (name, change, amount, wanted) in [
            ("brightness", brightness, 0.6, 583_706_189),
            ("brightness", brightness, 0.9371, 1_770_300_913),
            ("brightness", brightness, 1.4, 376_012_290),
            ("contrast", contrast, 0.6, 3_400_380_697),
            ("contrast", contrast, 0.9371, 3_521_077_551),
            ("contrast", contrast, 1.4, 1_650_373_549),
            ("saturation", saturation, 0.6, 4_075_112_395),
            ("saturation", saturation, 0.9371, 3_945_790_365),
            ("saturation", saturation, 1.4, 497_005_583),
            ("hue", hue, -0.1, 474_385_221),
            ("hue", hue, -0.0371, 137_422_724),
            ("hue", hue, 0.0, 783_340_627),
            ("hue", hue, 0.05, 3_957_208_712),
            ("hue", hue, 0.1, 3_087_225_049),
        ] {
            let mut pixels = picture();
            change(&mut pixels, amount);
            assert_eq!(crc(&pixels), wanted, "{name} {amount}: {:?}", [0, 1, 77, 4000].map(|place| pixels[place]));
        }
        let grey: Vec<[u8; 3]> = picture().iter().map(|pixel| [grey(pixel); 3]).collect();
        assert_eq!(crc(&grey), 2_804_921_073);
    }

    #[test]
    fn nothing_changes_where_nothing_is_asked_for_and_grey_is_grey() {
        let none = Colours { jitter: 1.0, brightness: 0.0, contrast: 0.0, saturation: 0.0, hue: 0.0, greyscale: 0.0 };
        let mut same = picture();
        none.apply(&mut same, &mut seed::stream(1, "a"));
        assert_eq!(same, picture());
        let mut grey = picture();
        Colours { greyscale: 1.0, ..none }.apply(&mut grey, &mut seed::stream(1, "a"));
        assert!(grey.iter().all(|[red, green, blue]| red == green && green == blue));
    }
}
