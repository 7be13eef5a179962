//! A lymph node: capsule, sinuses, follicles and sheets of small dark lymphocytes, with or without metastases.
//!
//! The node is a sixth of a real one: where pathology says 0.2 mm and 2 mm, lengths here are a sixth of that.

use std::f32::consts::TAU;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::adipose;
use super::metastasis::{self, Growth};
use crate::synth::canvas::{Blob, Canvas, Ellipse, jittered, unit_vector};
use crate::synth::noise::Noise;
use crate::synth::stain::{Laboratory, Picture, develop, pen};

/// Side of the square slide, µm.
pub(in crate::synth) const SIDE_UM: f32 = 1600.0;
const CAPSULE_UM: f32 = 14.0;
/// The pale sinus below the capsule ends here, µm from the rim.
const SINUS_UM: f32 = 32.0;
/// Distance of neighbouring lymphocytes, µm.
const LYMPHOCYTE_UM: f32 = 6.4;

/// The largest metastasis of a node; METHOD: the limits 0.2 mm and 2 mm of the TNM classification at a sixth of their length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::synth) enum Burden {
    Negative,
    /// Isolated tumour cells: clusters below 33 µm (really 0.2 mm).
    Itc,
    /// One or two deposits of 33–333 µm (really 0.2–2 mm).
    Micro,
    /// A deposit above 333 µm (really 2 mm), perhaps with smaller ones.
    Macro,
}

/// Where things lie in one node.
pub(in crate::synth) struct Node {
    outline: Blob,
    follicles: Vec<Follicle>,
    /// Sheets of pale histiocytes, which resemble tumour.
    histiocytes: Vec<Blob>,
    pub(in crate::synth) metastases: Vec<Blob>,
}

struct Follicle {
    mantle: Blob,
    /// Radius of the germinal centre, if it has one.
    germinal: Option<f32>,
}

impl Node {
    /// The plan of a slide, the first thing drawn from its stream.
    pub(in crate::synth) fn plan(burden: Burden, random: &mut ChaCha8Rng) -> Self {
        let middle = |random: &mut ChaCha8Rng| SIDE_UM / 2.0 + random.random_range(-40.0..40.0);
        let at = (middle(random), middle(random));
        let (radius, stretch) = (random.random_range(480.0..560.0), random.random_range(1.0..1.2));
        let outline = Blob::new(random, at, radius, stretch, 0.09);

        let count = random.random_range(6..=11);
        let turn = random.random_range(0.0..TAU);
        let follicles = (0..count).map(|index| {
            let radius = random.random_range(40.0..78.0);
            let angle = turn + TAU * (index as f32 + random.random_range(-0.2..0.2)) / count as f32;
            let (at, _) = outline.on_rim(angle, SINUS_UM + 8.0 + 1.1 * radius + random.random_range(0.0..60.0));
            let stretch = random.random_range(1.0..1.2);
            let mantle = Blob::new(random, at, radius, stretch, 0.05);
            let germinal = random.random_bool(0.6).then(|| radius * random.random_range(0.5..0.72));
            Follicle { mantle, germinal }
        });
        let follicles = follicles.collect();

        // Negative nodes get more of what resembles tumour, so that "something pale" is no sign of disease.
        let count = if burden == Burden::Negative { random.random_range(1..=4) } else { random.random_range(0..=2) };
        let histiocytes = (0..count).map(|_| {
            let radius = random.random_range(16.0..62.0);
            deposit(random, &outline, radius, 1.3, 60.0)
        });
        let histiocytes = histiocytes.collect();

        let metastases = match burden {
            Burden::Negative => Vec::new(),
            Burden::Itc => (0..random.random_range(1..=3)).map(|_| isolated(random, &outline)).collect(),
            Burden::Micro => (0..random.random_range(1..=2)).map(|_| micrometastasis(random, &outline)).collect(),
            Burden::Macro => {
                let radius = random.random_range(180.0..340.0);
                let mut all = vec![deposit(random, &outline, radius, 1.25, 0.9 * radius)];
                all.extend((0..random.random_range(0..=2)).map(|_| micrometastasis(random, &outline)));
                all
            }
        };
        Self { outline, follicles, histiocytes, metastases }
    }
}

fn isolated(random: &mut ChaCha8Rng, outline: &Blob) -> Blob {
    let radius = random.random_range(8.0..13.0);
    deposit(random, outline, radius, 1.1, CAPSULE_UM + radius)
}

/// Small ones are more common: the radius is log-uniform.
fn micrometastasis(random: &mut ChaCha8Rng, outline: &Blob) -> Blob {
    let radius = random.random_range(26.0_f32.ln()..120.0_f32.ln()).exp();
    deposit(random, outline, radius, 1.15, CAPSULE_UM + 0.8 * radius)
}

/// A blob whose centre lies at least `depth` µm inside the node; metastases arrive by the sinus, so mostly not much deeper.
fn deposit(random: &mut ChaCha8Rng, outline: &Blob, radius: f32, most_stretch: f32, depth: f32) -> Blob {
    let inset = depth + random.random_range(0.0_f32..1.0).powi(2) * (0.9 * outline.radius - depth).max(0.0);
    let (at, _) = outline.on_rim(random.random_range(0.0..TAU), inset);
    let stretch = random.random_range(1.0..most_stretch);
    Blob::new(random, at, radius, stretch, 0.1)
}

/// Paints a planned node. Growth and stain strength are the patient's, the rest is the slide's.
pub(in crate::synth) fn paint(node: &Node, laboratory: &Laboratory, patient: &mut ChaCha8Rng, slide: &mut ChaCha8Rng) -> Picture {
    let growth = Growth::of_patient(patient);
    let strength = patient.random_range(0.9..1.1) * slide.random_range(0.95..1.05);
    let mut canvas = Canvas::new(SIDE_UM, laboratory.mpp);
    let sinuses = Sinuses { course: Noise(slide.random()), medulla: Noise(slide.random()) };

    ground(&mut canvas, &node.outline, &sinuses, slide);
    fat(&mut canvas, &node.outline, slide);
    lymphocytes(&mut canvas, &node.outline, &sinuses, slide);
    for follicle in &node.follicles {
        paint_follicle(&mut canvas, follicle, slide);
    }
    vessels(&mut canvas, &node.outline, slide);
    for sheet in &node.histiocytes {
        paint_histiocytes(&mut canvas, sheet, slide);
    }
    for deposit in &node.metastases {
        metastasis::paint(&mut canvas, deposit, growth, slide);
    }

    let mut picture = develop(&canvas, laboratory, [strength; 2]);
    if slide.random_bool(0.25) {
        pen(&mut picture, laboratory.mpp as f32, 1.7, slide);
    }
    picture
}

/// Pale channels in the inner half of the node.
struct Sinuses {
    course: Noise,
    medulla: Noise,
}

impl Sinuses {
    /// 1 in a sinus, 0 outside, between at its edges; `depth` is the distance from the node's rim, µm.
    fn cover(&self, x: f32, y: f32, depth: f32) -> f32 {
        let below_capsule = ((SINUS_UM - depth) / 3.0).clamp(0.0, 1.0);
        let width = 0.05 * ((self.medulla.at(x / 330.0, y / 330.0) - 0.42) * 7.0).clamp(0.0, 1.0) * ((depth - 90.0) / 40.0).clamp(0.0, 1.0);
        let channel = (width - (self.course.at(x / 90.0, y / 90.0) - 0.5).abs()) * 40.0;
        below_capsule.max(channel.clamp(0.0, 1.0))
    }
}

/// Capsule, sinuses and the reticulum between the cells.
fn ground(canvas: &mut Canvas, outline: &Blob, sinuses: &Sinuses, random: &mut ChaCha8Rng) {
    let (fibres, cloud, grain) = (Noise(random.random()), Noise(random.random()), Noise(random.random()));
    canvas.fill_blob(outline, 2.0, |x, y, depth| {
        let speckle = grain.at(x / 2.4, y / 2.4);
        if depth < CAPSULE_UM {
            return (0.06, 0.4 + 0.5 * fibres.at(x / 13.0, y / 13.0) * speckle);
        }
        let sinus = sinuses.cover(x, y, depth);
        let reticulum = (0.2 + 0.08 * speckle, 0.22 + 0.16 * cloud.at(x / 70.0, y / 70.0) + 0.08 * speckle);
        let pale = (0.06 + 0.05 * speckle, 0.12 + 0.1 * speckle);
        (reticulum.0 + (pale.0 - reticulum.0) * sinus, reticulum.1 + (pale.1 - reticulum.1) * sinus)
    });
}

/// Fat around parts of the node.
fn fat(canvas: &mut Canvas, outline: &Blob, random: &mut ChaCha8Rng) {
    let extent = Noise(random.random());
    let whole = (SIDE_UM / 2.0, SIDE_UM / 2.0);
    jittered(random, whole, SIDE_UM, adipose::SPACING_UM, |random, x, y| {
        let outside = -outline.inside(x, y);
        let radius = random.random_range(23.0..29.0);
        if outside > radius && outside < 260.0 * (extent.at(x / 240.0, y / 240.0) - 0.35) {
            adipose::cell(canvas, (x, y), radius, random);
        }
    });
}

/// Small dark round nuclei everywhere, few in the sinuses, spindles in the capsule.
fn lymphocytes(canvas: &mut Canvas, outline: &Blob, sinuses: &Sinuses, random: &mut ChaCha8Rng) {
    let crowding = Noise(random.random());
    jittered(random, (outline.x, outline.y), outline.reach(), LYMPHOCYTE_UM, |random, x, y| {
        let depth = outline.inside(x, y);
        if depth < 2.0 {
            return;
        }
        if depth < CAPSULE_UM {
            if random.random_bool(0.12) {
                let (dx, dy) = (x - outline.x, y - outline.y);
                let length = dx.hypot(dy);
                let tangent = (-dy / length, dx / length);
                canvas.nucleus(Ellipse { x, y, along: 4.6, across: 1.3, direction: tangent }, random.random_range(0.8..1.1));
            }
            return;
        }
        let sinus = sinuses.cover(x, y, depth) > 0.5;
        let share = if sinus { 0.22 } else { 0.78 + 0.2 * crowding.at(x / 120.0, y / 120.0) };
        if random.random_bool(f64::from(share)) {
            let (size, density) = if random.random_bool(if sinus { 0.5 } else { 0.05 }) {
                (random.random_range(2.9..3.6), random.random_range(0.5..0.75))
            } else {
                (random.random_range(2.2..3.0), random.random_range(0.85..1.25))
            };
            canvas.nucleus(Ellipse::disc(x, y, size), density);
        }
    });
}

/// A dense mantle, and in active follicles a paler germinal centre of larger cells with a few macrophages.
fn paint_follicle(canvas: &mut Canvas, follicle: &Follicle, random: &mut ChaCha8Rng) {
    let mantle = &follicle.mantle;
    jittered(random, (mantle.x, mantle.y), mantle.reach(), 5.2, |random, x, y| {
        if mantle.inside(x, y) > 0.0 {
            canvas.nucleus(Ellipse::disc(x, y, random.random_range(2.1..2.6)), random.random_range(0.9..1.3));
        }
    });
    let Some(radius) = follicle.germinal else { return };
    let centre = Blob::new(random, (mantle.x, mantle.y), radius, 1.1, 0.05);
    canvas.fill_blob(&centre, 5.0, |_, _, _| (0.2, 0.3));
    jittered(random, (centre.x, centre.y), centre.reach(), 7.6, |random, x, y| {
        if centre.inside(x, y) > 1.0 && random.random_bool(0.92) {
            let size = random.random_range(2.7..3.7);
            canvas.nucleus(
                Ellipse { x, y, along: size * 1.15, across: size, direction: unit_vector(random) },
                random.random_range(0.55..0.85),
            );
        }
    });
    jittered(random, (centre.x, centre.y), radius * 0.8, 32.0, |random, x, y| {
        if random.random_bool(0.6) {
            canvas.fill(Ellipse::disc(x, y, random.random_range(6.0..8.5)), 0.05, 0.14);
            canvas.nucleus(Ellipse::disc(x + 1.5, y - 1.0, 1.6), 1.2);
        }
    });
}

/// Pink cells with small oval nuclei, and lymphocytes among them.
fn paint_histiocytes(canvas: &mut Canvas, sheet: &Blob, random: &mut ChaCha8Rng) {
    let cloud = Noise(random.random());
    canvas.fill_blob(sheet, 6.0, |x, y, _| (0.1, 0.38 + 0.2 * cloud.at(x / 8.0, y / 8.0)));
    jittered(random, (sheet.x, sheet.y), sheet.reach(), 10.5, |random, x, y| {
        if sheet.inside(x, y) < 2.0 {
            return;
        }
        if random.random_bool(0.15) {
            canvas.nucleus(Ellipse::disc(x, y, 2.4), 1.1);
        } else {
            let along = random.random_range(3.6..4.6);
            canvas.nucleus(Ellipse { x, y, along, across: 2.3, direction: unit_vector(random) }, random.random_range(0.45..0.7));
        }
    });
}

/// Small veins: a pink wall around red cells.
fn vessels(canvas: &mut Canvas, outline: &Blob, random: &mut ChaCha8Rng) {
    for _ in 0..random.random_range(8..16) {
        let (at, _) = outline.on_rim(random.random_range(0.0..TAU), random.random_range(60.0..0.9 * outline.radius));
        let radius = random.random_range(6.0..16.0);
        let stretch = random.random_range(1.0..1.6);
        let wall = Blob::new(random, at, radius + 5.0, stretch, 0.05);
        canvas.fill_blob(&wall, 2.0, |_, _, depth| if depth < 5.0 { (0.1, 0.6) } else { (0.0, 0.05) });
        jittered(random, at, radius, 6.2, |random, x, y| {
            if wall.inside(x, y) > 6.0 && random.random_bool(0.7) {
                canvas.fill(Ellipse::disc(x, y, 3.2), 0.0, 1.1);
            }
        });
    }
}
