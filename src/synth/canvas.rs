//! What is drawn on: densities of haematoxylin and eosin on a square of pixels, and the shapes that fill it.
//!
//! Everything is drawn in micrometres and sampled at the scanner's pixel size, so every centre shows the same tissue.

use std::f32::consts::TAU;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::noise::ease;

/// Densities of the two stains on a square of pixels, row-major; 1 is a dark nucleus or deep pink collagen.
pub(super) struct Canvas {
    /// Pixels a side.
    pub(super) side: usize,
    /// µm per pixel.
    pub(super) mpp: f32,
    pub(super) haematoxylin: Vec<f32>,
    pub(super) eosin: Vec<f32>,
}

/// A soft-edged ellipse in µm, `along` and `across` its direction.
#[derive(Clone, Copy)]
pub(super) struct Ellipse {
    pub(super) x: f32,
    pub(super) y: f32,
    pub(super) along: f32,
    pub(super) across: f32,
    pub(super) direction: (f32, f32),
}

impl Ellipse {
    pub(super) fn disc(x: f32, y: f32, radius: f32) -> Self {
        Self { x, y, along: radius, across: radius, direction: (1.0, 0.0) }
    }
}

impl Canvas {
    /// Empty glass of `side_um` µm a side.
    pub(super) fn new(side_um: f32, mpp: f64) -> Self {
        let mpp = mpp as f32;
        let side = (side_um / mpp).round() as usize;
        Self { side, mpp, haematoxylin: vec![0.0; side * side], eosin: vec![0.0; side * side] }
    }

    /// Pixels from `centre − reach` to `centre + reach` µm along one axis, clipped to the slide.
    fn pixels(&self, centre: f32, reach: f32) -> std::ops::Range<usize> {
        let first = (((centre - reach) / self.mpp).floor().max(0.0)) as usize;
        first..((((centre + reach) / self.mpp).ceil().max(0.0)) as usize).min(self.side)
    }

    /// Calls `paint(haematoxylin, eosin, cover)` for every pixel under the ellipse; `cover` falls from 1 to 0 at its edge.
    fn stamp(&mut self, ellipse: Ellipse, mut paint: impl FnMut(&mut f32, &mut f32, f32)) {
        let reach = ellipse.along.max(ellipse.across);
        for row in self.pixels(ellipse.y, reach) {
            for column in self.pixels(ellipse.x, reach) {
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

    pub(super) fn nucleus(&mut self, ellipse: Ellipse, density: f32) {
        self.stamp(ellipse, |haematoxylin, _, cover| *haematoxylin = haematoxylin.max(density * cover));
    }

    /// Replaces what is there.
    pub(super) fn fill(&mut self, ellipse: Ellipse, haematoxylin: f32, eosin: f32) {
        self.stamp(ellipse, |h, e, cover| {
            *h += (haematoxylin - *h) * cover;
            *e += (eosin - *e) * cover;
        });
    }

    /// Replaces what is inside the blob by `paint(x, y, inside)` = (haematoxylin, eosin), blended over `edge` µm at its rim.
    pub(super) fn fill_blob(&mut self, blob: &Blob, edge: f32, paint: impl Fn(f32, f32, f32) -> (f32, f32)) {
        let reach = blob.reach();
        for row in self.pixels(blob.y, reach) {
            for column in self.pixels(blob.x, reach) {
                let (x, y) = (column as f32 * self.mpp, row as f32 * self.mpp);
                let inside = blob.inside(x, y);
                if inside > 0.0 {
                    let (haematoxylin, eosin) = paint(x, y, inside);
                    let cover = ease((inside / edge).min(1.0));
                    let pixel = row * self.side + column;
                    self.haematoxylin[pixel] += (haematoxylin - self.haematoxylin[pixel]) * cover;
                    self.eosin[pixel] += (eosin - self.eosin[pixel]) * cover;
                }
            }
        }
    }
}

/// Waves on a blob's rim: two to five a turn.
const WAVES: std::ops::RangeInclusive<u32> = 2..=5;
/// Directions in which a blob's rim is stored.
const DIRECTIONS: usize = 256;

/// A lobed, stretched disc: what nodes, nests and ducts look like in section. Lengths in µm.
#[derive(Clone)]
pub(super) struct Blob {
    pub(super) x: f32,
    pub(super) y: f32,
    pub(super) radius: f32,
    /// Longer by this factor along `direction`, shorter by it across: the area stays.
    stretch: f32,
    direction: (f32, f32),
    /// Distance of the rim in each direction, before stretching; the first once more at the end.
    rim: Vec<f32>,
}

impl Blob {
    /// `unevenness`: the largest amplitude of the rim's waves, a share of the radius; below 0.2.
    pub(super) fn new(random: &mut ChaCha8Rng, (x, y): (f32, f32), radius: f32, stretch: f32, unevenness: f32) -> Self {
        let direction = unit_vector(random);
        let mut rim = vec![radius; DIRECTIONS + 1];
        for wave in WAVES {
            let amplitude = radius * random.random_range(0.0..1.0) * unevenness / (wave - 1) as f32;
            let phase = random.random_range(0.0..TAU);
            for (step, distance) in rim.iter_mut().enumerate() {
                *distance += amplitude * (wave as f32 * TAU * step as f32 / DIRECTIONS as f32 + phase).cos();
            }
        }
        Self { x, y, radius, stretch, direction, rim }
    }

    /// Distance of the rim at an angle, radians.
    fn rim(&self, angle: f32) -> f32 {
        let place = angle.rem_euclid(TAU) / TAU * DIRECTIONS as f32;
        let step = (place as usize).min(DIRECTIONS - 1);
        self.rim[step] + (self.rim[step + 1] - self.rim[step]) * (place - step as f32)
    }

    /// No point of the blob is farther from its centre.
    pub(super) fn reach(&self) -> f32 {
        self.stretch * self.rim.iter().copied().fold(0.0, f32::max)
    }

    /// Positive inside: about the distance to the rim, µm.
    pub(super) fn inside(&self, x: f32, y: f32) -> f32 {
        let (dx, dy) = (x - self.x, y - self.y);
        let u = (dx * self.direction.0 + dy * self.direction.1) / self.stretch;
        let v = (dy * self.direction.0 - dx * self.direction.1) * self.stretch;
        self.rim(v.atan2(u)) - (u * u + v * v).sqrt()
    }

    /// The point `inset` µm inside the rim at an angle, and about the outward direction there.
    pub(super) fn on_rim(&self, angle: f32, inset: f32) -> ((f32, f32), (f32, f32)) {
        let (sin, cos) = angle.sin_cos();
        let turn = |u: f32, v: f32| (u * self.direction.0 - v * self.direction.1, u * self.direction.1 + v * self.direction.0);
        let (out_x, out_y) = turn(cos / self.stretch, sin * self.stretch);
        let length = (out_x * out_x + out_y * out_y).sqrt();
        let outwards = (out_x / length, out_y / length);
        let (dx, dy) = turn(self.rim(angle) * cos * self.stretch, self.rim(angle) * sin / self.stretch);
        ((self.x + dx - inset * outwards.0, self.y + dy - inset * outwards.1), outwards)
    }

    /// The rim as a polygon, µm.
    pub(super) fn polygon(&self, corners: usize) -> Vec<(f32, f32)> {
        (0..corners).map(|corner| self.on_rim(TAU * corner as f32 / corners as f32, 0.0).0).collect()
    }
}

/// Calls `place(random, x, y)` on a jittered lattice inside a disc.
pub(super) fn jittered(
    random: &mut ChaCha8Rng,
    (x, y): (f32, f32),
    radius: f32,
    spacing: f32,
    mut place: impl FnMut(&mut ChaCha8Rng, f32, f32),
) {
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

pub(super) fn unit_vector(random: &mut ChaCha8Rng) -> (f32, f32) {
    let (sin, cos) = random.random_range(0.0..TAU).sin_cos();
    (cos, sin)
}
