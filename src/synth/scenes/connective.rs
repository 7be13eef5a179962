//! Connective tissue with small lesions whose architecture is the class: the demonstration's cohort and the rare one.

use std::f32::consts::{PI, TAU};

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::synth::canvas::{Canvas, Ellipse, jittered, unit_vector};
use crate::synth::noise::Noise;
use crate::synth::stain::{Laboratory, Picture, develop, pen};

/// What a slide's lesions are made of; the class to be learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::synth) enum Lesion {
    /// No lesion.
    None,
    /// Rings of nuclei around a clear lumen.
    Glandular,
    /// Sheets of large crowded nuclei.
    Solid,
}

impl Lesion {
    /// Every class, in the order of patients.
    pub(in crate::synth) const ALL: [Self; 3] = [Self::None, Self::Glandular, Self::Solid];

    /// The label in `labels.csv`.
    pub(in crate::synth) fn label(self) -> &'static str {
        match self {
            Self::None => "normal",
            Self::Glandular => "glandular",
            Self::Solid => "solid",
        }
    }
}

/// Two laboratories: the second scans finer, stains darker and pinker.
pub(in crate::synth) const LABORATORIES: [Laboratory; 2] = [
    Laboratory { mpp: 0.50, haematoxylin: [0.62, 0.66, 0.28], eosin: [0.06, 0.44, 0.18] },
    Laboratory { mpp: 0.40, haematoxylin: [0.60, 0.80, 0.42], eosin: [0.10, 0.60, 0.36] },
];

/// A disc of this radius, µm, has room for one gland.
const LONE_GLAND_UM: f32 = 22.0;

/// What one slide holds.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::synth) struct Tissue {
    pub(in crate::synth) lesion: Lesion,
    /// Side of the square slide, µm.
    pub(in crate::synth) side_um: f32,
    /// Foci of inflammation, in every class: much haematoxylin alone is no lesion.
    pub(in crate::synth) inflamed: usize,
    /// Lone healthy glands and as many heaps of large lymphocytes, in every class: one ring or large cells alone are no lesion.
    pub(in crate::synth) mimics: usize,
    /// Mean share of the tissue's area that two or three lesions take, 0.5 to 1.5 times that in one slide; without, two
    /// lesions of 110–140 µm radius.
    pub(in crate::synth) lesion_share: Option<f32>,
}

/// Paints a slide. `patient` and `slide` are the random streams of each: stain strength is the patient's, the rest the slide's.
pub(in crate::synth) fn paint(tissue: &Tissue, laboratory: &Laboratory, patient: &mut ChaCha8Rng, slide: &mut ChaCha8Rng) -> Picture {
    let strength = patient.random_range(0.92..1.08);
    let mut canvas = Canvas::new(tissue.side_um, laboratory.mpp);
    let fibres = unit_vector(slide);
    let outline = Outline::new(tissue.side_um, slide);

    stroma(&mut canvas, &outline, fibres, slide);
    for centre in places(slide, &outline, tissue.inflamed) {
        let radius = slide.random_range(45.0..65.0);
        jittered(slide, centre, radius, 6.5, |random, x, y| {
            let size = random.random_range(1.7..2.3);
            canvas.nucleus(Ellipse::disc(x, y, size), random.random_range(0.9..1.2));
        });
    }
    if tissue.mimics > 0 {
        for (index, centre) in places(slide, &outline, 2 * tissue.mimics).into_iter().enumerate() {
            if index % 2 == 0 {
                glands(&mut canvas, slide, centre, LONE_GLAND_UM);
            } else {
                large_lymphocytes(&mut canvas, slide, centre);
            }
        }
    }
    if tissue.lesion != Lesion::None {
        let share = tissue.lesion_share.map(|mean| mean * slide.random_range(0.5..1.5));
        let count = share.map_or(2, |_| slide.random_range(2..=3));
        for centre in places(slide, &outline, count) {
            let radius = match share {
                Some(share) => (share * outline.area() / (count as f32 * PI)).sqrt(),
                None => slide.random_range(110.0..140.0),
            };
            match tissue.lesion {
                Lesion::Glandular => glands(&mut canvas, slide, centre, radius),
                _ => sheet(&mut canvas, slide, centre, radius),
            }
        }
    }

    let mut picture = develop(&canvas, laboratory, [strength; 2]);
    if slide.random_bool(0.5) {
        pen(&mut picture, laboratory.mpp as f32, 1.0, slide);
    }
    picture
}

/// The edge of the tissue: a disc with an uneven rim.
struct Outline {
    side_um: f32,
    x: f32,
    y: f32,
    radius: f32,
    rim: Noise,
}

/// Coarse and fine unevenness of the rim, µm.
const UNEVEN_UM: (f32, f32) = (90.0, 14.0);
/// Added to the radius so that the uneven rim stays near it, µm.
const OUTSET_UM: f32 = 35.0;

impl Outline {
    fn new(side_um: f32, random: &mut ChaCha8Rng) -> Self {
        let middle = side_um / 2.0;
        let centre = |random: &mut ChaCha8Rng| middle + random.random_range(-25.0..25.0);
        let (x, y) = (centre(random), centre(random));
        Self { side_um, x, y, radius: random.random_range(middle - 55.0..middle - 25.0), rim: Noise(random.random()) }
    }

    /// About the tissue's area, µm²: the rim's unevenness is half its largest on average.
    fn area(&self) -> f32 {
        PI * (self.radius + OUTSET_UM - (UNEVEN_UM.0 + UNEVEN_UM.1) / 2.0).powi(2)
    }

    /// Positive inside, in µm of about the distance to the rim.
    fn inside(&self, x: f32, y: f32) -> f32 {
        let (dx, dy) = (x - self.x, y - self.y);
        let unevenness = self.rim.at(x / 110.0, y / 110.0) * UNEVEN_UM.0 + self.rim.at(x / 17.0, y / 17.0) * UNEVEN_UM.1;
        self.radius + OUTSET_UM - unevenness - (dx * dx + dy * dy).sqrt()
    }
}

/// Connective tissue: wavy fibres along one direction, thin nuclei between them, a few vessels.
fn stroma(tissue: &mut Canvas, outline: &Outline, fibres: (f32, f32), random: &mut ChaCha8Rng) {
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
    let whole = (outline.side_um / 2.0, outline.side_um / 2.0);
    jittered(random, whole, outline.side_um, 15.0, |random, x, y| {
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
fn glands(tissue: &mut Canvas, random: &mut ChaCha8Rng, centre: (f32, f32), radius: f32) {
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
fn sheet(tissue: &mut Canvas, random: &mut ChaCha8Rng, centre: (f32, f32), radius: f32) {
    tissue.fill(Ellipse::disc(centre.0, centre.1, radius + 10.0), 0.18, 0.5);
    jittered(random, centre, radius, 12.5, |random, x, y| {
        let size = random.random_range(3.6..6.2);
        let nucleus = Ellipse { x, y, along: size * random.random_range(1.0..1.35), across: size, direction: unit_vector(random) };
        tissue.nucleus(nucleus, random.random_range(0.5..0.8));
        tissue.nucleus(Ellipse::disc(x + random.random_range(-1.0..1.0), y + random.random_range(-1.0..1.0), 1.4), 1.5);
    });
}

/// Activated lymphocytes: larger and paler than resting ones, even, and without a nucleolus.
fn large_lymphocytes(tissue: &mut Canvas, random: &mut ChaCha8Rng, centre: (f32, f32)) {
    let radius = random.random_range(30.0..55.0);
    jittered(random, centre, radius, 8.4, |random, x, y| {
        let size = random.random_range(2.8..3.7);
        tissue.nucleus(Ellipse::disc(x, y, size), random.random_range(0.6..0.9));
    });
}

/// `count` places well inside the tissue and apart from each other where that is possible.
fn places(random: &mut ChaCha8Rng, outline: &Outline, count: usize) -> Vec<(f32, f32)> {
    let mut found: Vec<(f32, f32)> = Vec::new();
    for attempt in 0..1000 {
        let at = (random.random_range(0.0..outline.side_um), random.random_range(0.0..outline.side_um));
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
