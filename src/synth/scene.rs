//! Tissue from geometry: densities of haematoxylin and eosin in micrometres, then light through them (Beer–Lambert).
//!
//! Everything is drawn in micrometres and sampled at the centre's pixel size, so both centres show the same tissue.

use std::f32::consts::TAU;

use image::{Rgb, RgbImage};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::noise::{Noise, ease};

/// Side of the square slide, µm.
const SIDE_UM: f32 = 900.0;
/// Light through bare glass, per channel.
const GLASS: f32 = 246.0;

/// What a slide's lesions are made of; the class to be learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lesion {
    /// No lesion.
    None,
    /// Rings of nuclei around a clear lumen.
    Glandular,
    /// Sheets of large crowded nuclei.
    Solid,
}

impl Lesion {
    /// Every class, in the order of patients.
    pub const ALL: [Self; 3] = [Self::None, Self::Glandular, Self::Solid];

    /// The label in `labels.csv`.
    pub fn label(self) -> &'static str {
        match self {
            Self::None => "normal",
            Self::Glandular => "glandular",
            Self::Solid => "solid",
        }
    }
}

/// A centre's scanner and stain; optical densities of red, green and blue per unit of stain.
pub(super) struct Centre {
    pub(super) mpp: f64,
    haematoxylin: [f32; 3],
    eosin: [f32; 3],
}

/// Two laboratories: the second scans finer, stains darker and pinker.
pub(super) const CENTRES: [Centre; 2] = [
    Centre { mpp: 0.50, haematoxylin: [0.62, 0.66, 0.28], eosin: [0.06, 0.44, 0.18] },
    Centre { mpp: 0.40, haematoxylin: [0.60, 0.80, 0.42], eosin: [0.10, 0.60, 0.36] },
];

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

/// Densities of the two stains on a square of pixels.
struct Densities {
    side: usize,
    mpp: f32,
    haematoxylin: Vec<f32>,
    eosin: Vec<f32>,
}

/// A soft-edged ellipse in µm, `along` and `across` its direction.
#[derive(Clone, Copy)]
struct Ellipse {
    x: f32,
    y: f32,
    along: f32,
    across: f32,
    direction: (f32, f32),
}

impl Ellipse {
    fn disc(x: f32, y: f32, radius: f32) -> Self {
        Self { x, y, along: radius, across: radius, direction: (1.0, 0.0) }
    }
}

impl Densities {
    /// Calls `paint(haematoxylin, eosin, cover)` for every pixel under the ellipse; `cover` falls from 1 to 0 at its edge.
    fn stamp(&mut self, ellipse: Ellipse, mut paint: impl FnMut(&mut f32, &mut f32, f32)) {
        let reach = ellipse.along.max(ellipse.across);
        let first = |centre: f32| (((centre - reach) / self.mpp).floor().max(0.0)) as usize;
        let last = |centre: f32| ((((centre + reach) / self.mpp).ceil().max(0.0)) as usize).min(self.side);
        for row in first(ellipse.y)..last(ellipse.y) {
            for column in first(ellipse.x)..last(ellipse.x) {
                let (dx, dy) = (column as f32 * self.mpp - ellipse.x, row as f32 * self.mpp - ellipse.y);
                let u = (dx * ellipse.direction.0 + dy * ellipse.direction.1) / ellipse.along;
                let v = (dy * ellipse.direction.0 - dx * ellipse.direction.1) / ellipse.across;
                let distance = (u * u + v * v).sqrt();
                if distance < 1.0 {
                    let cover = ease(((1.0 - distance) * 3.0).min(1.0));
                    let pixel = row * self.side + column;
                    paint(&mut self.haematoxylin[pixel], &mut self.eosin[pixel], cover);
                }
            }
        }
    }

    fn nucleus(&mut self, ellipse: Ellipse, density: f32) {
        self.stamp(ellipse, |haematoxylin, _, cover| *haematoxylin = haematoxylin.max(density * cover));
    }

    /// Replaces what is there.
    fn fill(&mut self, ellipse: Ellipse, haematoxylin: f32, eosin: f32) {
        self.stamp(ellipse, |h, e, cover| {
            *h += (haematoxylin - *h) * cover;
            *e += (eosin - *e) * cover;
        });
    }
}

/// Paints a slide. `patient` and `slide` are the random streams of each: stain strength is the patient's, the rest the slide's.
pub(super) fn paint(lesion: Lesion, centre: &Centre, patient: &mut ChaCha8Rng, slide: &mut ChaCha8Rng) -> Picture {
    let strength = patient.random_range(0.92..1.08);
    let mpp = centre.mpp as f32;
    let side = (SIDE_UM / mpp).round() as usize;
    let mut tissue = Densities { side, mpp, haematoxylin: vec![0.0; side * side], eosin: vec![0.0; side * side] };
    let fibres = unit_vector(slide);
    let outline = Outline::new(slide);

    stroma(&mut tissue, &outline, fibres, slide);
    // Inflammation in every class: much haematoxylin alone is no lesion.
    for centre in places(slide, &outline, 2) {
        let radius = slide.random_range(45.0..65.0);
        jittered(slide, centre, radius, 6.5, |random, x, y| {
            let size = random.random_range(1.7..2.3);
            tissue.nucleus(Ellipse::disc(x, y, size), random.random_range(0.9..1.2));
        });
    }
    if lesion != Lesion::None {
        for centre in places(slide, &outline, 2) {
            let radius = slide.random_range(110.0..140.0);
            match lesion {
                Lesion::Glandular => glands(&mut tissue, slide, centre, radius),
                _ => sheet(&mut tissue, slide, centre, radius),
            }
        }
    }

    let mut picture = develop(&tissue, centre, strength);
    if slide.random_bool(0.5) {
        pen(&mut picture, mpp, slide);
    }
    picture
}

/// The edge of the tissue: a disc with an uneven rim.
struct Outline {
    x: f32,
    y: f32,
    radius: f32,
    rim: Noise,
}

impl Outline {
    fn new(random: &mut ChaCha8Rng) -> Self {
        let centre = |random: &mut ChaCha8Rng| SIDE_UM / 2.0 + random.random_range(-25.0..25.0);
        Self { x: centre(random), y: centre(random), radius: random.random_range(395.0..425.0), rim: Noise(random.random()) }
    }

    /// Positive inside, in µm of about the distance to the rim.
    fn inside(&self, x: f32, y: f32) -> f32 {
        let (dx, dy) = (x - self.x, y - self.y);
        let unevenness = self.rim.at(x / 110.0, y / 110.0) * 90.0 + self.rim.at(x / 17.0, y / 17.0) * 14.0;
        self.radius + 35.0 - unevenness - (dx * dx + dy * dy).sqrt()
    }
}

/// Connective tissue: wavy fibres along one direction, thin nuclei between them, a few vessels.
fn stroma(tissue: &mut Densities, outline: &Outline, fibres: (f32, f32), random: &mut ChaCha8Rng) {
    let (coarse, fine, cloud) = (Noise(random.random()), Noise(random.random()), Noise(random.random()));
    for row in 0..tissue.side {
        for column in 0..tissue.side {
            let (x, y) = (column as f32 * tissue.mpp, row as f32 * tissue.mpp);
            let inside = outline.inside(x, y);
            if inside <= 0.0 {
                continue;
            }
            let wave = 12.0 * cloud.at(x / 60.0, y / 60.0);
            let along = x * fibres.0 + y * fibres.1;
            let across = y * fibres.0 - x * fibres.1 + wave;
            let strand = 0.65 * coarse.at(along / 45.0, across / 7.0) + 0.35 * fine.at(along / 16.0, across / 2.6);
            let pixel = row * tissue.side + column;
            let edge = (inside / 6.0).min(1.0);
            tissue.eosin[pixel] = edge * (0.28 + 0.75 * strand * strand + 0.12 * cloud.at(x / 90.0, y / 90.0));
            tissue.haematoxylin[pixel] = edge * 0.06;
        }
    }
    let whole = (SIDE_UM / 2.0, SIDE_UM / 2.0);
    jittered(random, whole, SIDE_UM, 15.0, |random, x, y| {
        if outline.inside(x, y) > 6.0 && random.random_bool(0.45) {
            let (along, across) = (random.random_range(3.6..5.6), random.random_range(1.2..1.9));
            let density = random.random_range(0.8..1.1);
            tissue.nucleus(Ellipse { x, y, along, across, direction: fibres }, density);
        }
    });
    for (x, y) in places(random, outline, 5) {
        let radius = random.random_range(10.0..22.0);
        tissue.fill(Ellipse::disc(x, y, radius + 5.0), 0.15, 0.9);
        tissue.fill(Ellipse::disc(x, y, radius), 0.0, 0.0);
    }
}

/// Glands: a clear lumen, a ring of cytoplasm, nuclei at its base, stroma between.
fn glands(tissue: &mut Densities, random: &mut ChaCha8Rng, centre: (f32, f32), radius: f32) {
    tissue.fill(Ellipse::disc(centre.0, centre.1, radius + 10.0), 0.08, 0.4);
    jittered(random, centre, radius, 46.0, |random, x, y| {
        let lumen = random.random_range(8.0..12.0);
        let (stretch, direction) = (random.random_range(1.0..1.4), unit_vector(random));
        let ring = |size: f32| Ellipse { x, y, along: size * stretch, across: size, direction };
        tissue.fill(ring(lumen + 11.0), 0.22, 0.42);
        tissue.fill(ring(lumen + 2.0), 0.0, 0.02);
        let nuclei = (TAU * (lumen + 6.5) * (1.0 + stretch) / 2.0 / 5.6) as usize;
        for step in 0..nuclei {
            let (sin, cos) = (TAU * step as f32 / nuclei as f32).sin_cos();
            let (u, v) = ((lumen + 6.5) * stretch * cos, (lumen + 6.5) * sin);
            let at = (x + u * direction.0 - v * direction.1, y + u * direction.1 + v * direction.0);
            let outwards = (cos * direction.0 - sin * direction.1, cos * direction.1 + sin * direction.0);
            let nucleus = Ellipse { x: at.0, y: at.1, along: random.random_range(3.2..4.2), across: 2.1, direction: outwards };
            tissue.nucleus(nucleus, random.random_range(0.8..1.1));
        }
    });
}

/// A sheet: large uneven nuclei shoulder to shoulder, each with a dark nucleolus.
fn sheet(tissue: &mut Densities, random: &mut ChaCha8Rng, centre: (f32, f32), radius: f32) {
    tissue.fill(Ellipse::disc(centre.0, centre.1, radius + 10.0), 0.18, 0.5);
    jittered(random, centre, radius, 12.5, |random, x, y| {
        let size = random.random_range(3.6..6.2);
        let nucleus = Ellipse { x, y, along: size * random.random_range(1.0..1.35), across: size, direction: unit_vector(random) };
        tissue.nucleus(nucleus, random.random_range(0.5..0.8));
        tissue.nucleus(Ellipse::disc(x + random.random_range(-1.0..1.0), y + random.random_range(-1.0..1.0), 1.4), 1.5);
    });
}

/// Calls `place(random, x, y)` on a jittered lattice inside a disc.
fn jittered(random: &mut ChaCha8Rng, (x, y): (f32, f32), radius: f32, spacing: f32, mut place: impl FnMut(&mut ChaCha8Rng, f32, f32)) {
    let steps = (radius / spacing).ceil() as i32;
    for row in -steps..=steps {
        for column in -steps..=steps {
            let stagger = if row % 2 == 0 { 0.0 } else { 0.5 };
            let mut jitter = || random.random_range(-0.22..0.22);
            let (dx, dy) = ((column as f32 + stagger + jitter()) * spacing, (row as f32 * 0.9 + jitter()) * spacing);
            if dx * dx + dy * dy < radius * radius {
                place(random, x + dx, y + dy);
            }
        }
    }
}

/// `count` places well inside the tissue and apart from each other where that is possible.
fn places(random: &mut ChaCha8Rng, outline: &Outline, count: usize) -> Vec<(f32, f32)> {
    let mut found: Vec<(f32, f32)> = Vec::new();
    for attempt in 0..1000 {
        let at = (random.random_range(0.0..SIDE_UM), random.random_range(0.0..SIDE_UM));
        let apart = if attempt < 500 { 230.0 } else { 60.0 };
        let clear = found.iter().all(|other| (other.0 - at.0).powi(2) + (other.1 - at.1).powi(2) > apart * apart);
        if outline.inside(at.0, at.1) > 100.0 && clear {
            found.push(at);
        }
        if found.len() == count {
            break;
        }
    }
    found
}

fn unit_vector(random: &mut ChaCha8Rng) -> (f32, f32) {
    let (sin, cos) = random.random_range(0.0..TAU).sin_cos();
    (cos, sin)
}

/// Light through the stains, per channel: glass · 10^−(density · stain).
fn develop(tissue: &Densities, centre: &Centre, strength: f32) -> Picture {
    let side = tissue.side as u32;
    let mut image = RgbImage::new(side, side);
    let mut touched = vec![false; tissue.side * tissue.side];
    for (index, pixel) in image.pixels_mut().enumerate() {
        let (haematoxylin, eosin) = (tissue.haematoxylin[index] * strength, tissue.eosin[index] * strength);
        touched[index] = haematoxylin + eosin > 0.0;
        *pixel = Rgb([0, 1, 2].map(|channel| {
            let density = haematoxylin * centre.haematoxylin[channel] + eosin * centre.eosin[channel];
            (GLASS * 10.0_f32.powf(-density)).round() as u8
        }));
    }
    Picture { image, touched }
}

/// A stroke of a felt pen across one corner, over glass and perhaps over the tissue's rim.
fn pen(picture: &mut Picture, mpp: f32, random: &mut ChaCha8Rng) {
    const INKS: [[f32; 3]; 4] = [[0.10, 0.42, 0.82], [0.10, 0.62, 0.45], [0.85, 0.07, 0.10], [0.10, 0.10, 0.12]];
    let ink = INKS[random.random_range(0..INKS.len())];
    let (far_x, far_y) = (random.random_bool(0.5), random.random_bool(0.5));
    let (reach, width) = (random.random_range(190.0..250.0), random.random_range(14.0..20.0));
    let wave = Noise(random.random());
    let side = picture.image.width();
    for (x, y, pixel) in picture.image.enumerate_pixels_mut() {
        let from = |far: bool, at: u32| if far { side - 1 - at } else { at } as f32 * mpp;
        let (u, v) = (from(far_x, x), from(far_y, y));
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
