//! From densities to a picture: light through the stains (Beer–Lambert), a laboratory's colours, a pen on the glass.

use image::{Rgb, RgbImage};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::canvas::Canvas;
use super::noise::{Noise, ease};

/// Light through bare glass, per channel.
const GLASS: f32 = 246.0;

/// A centre's scanner and stain; optical densities of red, green and blue per unit of stain.
pub(super) struct Laboratory {
    /// µm per level-0 pixel.
    pub(super) mpp: f64,
    pub(super) haematoxylin: [f32; 3],
    pub(super) eosin: [f32; 3],
}

/// A painted slide.
pub(super) struct Picture {
    pub(super) image: RgbImage,
    touched: Vec<bool>,
}

impl Picture {
    /// Whether a square of pixels holds anything but glass.
    pub(super) fn is_scanned(&self, x: u32, y: u32, side: u32) -> bool {
        let (width, height) = self.image.dimensions();
        (y..(y + side).min(height)).any(|row| (x..(x + side).min(width)).any(|column| self.touched[(row * width + column) as usize]))
    }
}

/// Light through the stains, per channel: glass · 10^−(density · stain). `strengths` multiply haematoxylin and eosin.
pub(super) fn develop(tissue: &Canvas, laboratory: &Laboratory, strengths: [f32; 2]) -> Picture {
    let side = tissue.side as u32;
    let mut image = RgbImage::from_pixel(side, side, Rgb([GLASS as u8; 3]));
    let mut touched = vec![false; tissue.side * tissue.side];
    for (index, pixel) in image.pixels_mut().enumerate() {
        let (haematoxylin, eosin) = (tissue.haematoxylin[index] * strengths[0], tissue.eosin[index] * strengths[1]);
        if haematoxylin + eosin > 0.0 {
            touched[index] = true;
            *pixel = Rgb([0, 1, 2].map(|channel| {
                let density = haematoxylin * laboratory.haematoxylin[channel] + eosin * laboratory.eosin[channel];
                (GLASS * 10.0_f32.powf(-density)).round() as u8
            }));
        }
    }
    Picture { image, touched }
}

/// A stroke of a felt pen across one corner, over glass and perhaps over the tissue's rim; its lengths grow with `scale`.
pub(super) fn pen(picture: &mut Picture, mpp: f32, scale: f32, random: &mut ChaCha8Rng) {
    const INKS: [[f32; 3]; 4] = [[0.10, 0.42, 0.82], [0.10, 0.62, 0.45], [0.85, 0.07, 0.10], [0.10, 0.10, 0.12]];
    let ink = INKS[random.random_range(0..INKS.len())];
    let (far_x, far_y) = (random.random_bool(0.5), random.random_bool(0.5));
    let (reach, width) = (scale * random.random_range(190.0..250.0), scale * random.random_range(14.0..20.0));
    let wave = Noise(random.random());
    let side = picture.image.width();
    for (x, y, pixel) in picture.image.enumerate_pixels_mut() {
        let from = |far: bool, at: u32| if far { side - 1 - at } else { at } as f32 * mpp;
        let (u, v) = (from(far_x, x), from(far_y, y));
        if (u + v - reach).abs() > 1.5 * (width + 30.0) {
            continue;
        }
        let distance = ((u + v - reach) / 1.414 + 30.0 * (wave.at(u / 60.0, 0.5) - 0.5)).abs();
        if distance < width && u.min(v) > 15.0 {
            let cover = 0.92 * ease(((width - distance) / 4.0).min(1.0));
            for (channel, value) in pixel.0.iter_mut().enumerate() {
                *value = (f32::from(*value) * (1.0 - cover + cover * ink[channel])) as u8;
            }
            picture.touched[(y * side + x) as usize] = true;
        }
    }
}
