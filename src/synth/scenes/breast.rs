//! Breast tissue: collagen, fat, lobules and ducts, and seven patterns from normal to invasive that differ in architecture.

use std::f32::consts::TAU;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{adipose, ducts};
use crate::synth::canvas::{Blob, Canvas, Ellipse, jittered, unit_vector};
use crate::synth::noise::Noise;
use crate::synth::stain::{Laboratory, Picture, develop, pen};

/// Side of the square slide, µm.
const SIDE_UM: f32 = 1600.0;
/// Distance of neighbouring acini in a healthy lobule and in a crowded one, µm.
const LOBULE_UM: f32 = 31.0;
const CROWDED_UM: f32 = 25.0;

/// The seven types of BRACS, from least to most severe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::synth) enum Pattern {
    /// Lobules of small round acini, a few ducts.
    Normal,
    /// Benign: large crowded lobules, cysts.
    Benign,
    /// Usual ductal hyperplasia: ducts filled by streaming cells around slits.
    Hyperplasia,
    /// Flat epithelial atypia: wide ducts with a few even rows of columnar cells.
    FlatAtypia,
    /// Atypical ductal hyperplasia: few small ducts with round punched-out holes.
    AtypicalHyperplasia,
    /// Ductal carcinoma in situ: wide ducts full of large cells, dead in the middle.
    InSitu,
    /// Invasive carcinoma: strands and small nests through dense connective tissue.
    Invasive,
}

impl Pattern {
    /// In the order of severity, which is also the order of the class numbers.
    pub(in crate::synth) const ALL: [Self; 7] =
        [Self::Normal, Self::Benign, Self::Hyperplasia, Self::FlatAtypia, Self::AtypicalHyperplasia, Self::InSitu, Self::Invasive];
}

/// Paints a slide whose worst lesion is `pattern`. Stain strengths are the patient's, the rest is the slide's.
pub(in crate::synth) fn paint(pattern: Pattern, laboratory: &Laboratory, patient: &mut ChaCha8Rng, slide: &mut ChaCha8Rng) -> Picture {
    let strengths = [patient.random_range(0.85..1.15), patient.random_range(0.85..1.15)];
    let mut canvas = Canvas::new(SIDE_UM, laboratory.mpp);
    let middle = (SIDE_UM / 2.0, SIDE_UM / 2.0);
    let (radius, stretch) = (slide.random_range(540.0..620.0), slide.random_range(1.0..1.15));
    let outline = Blob::new(slide, middle, radius, stretch, 0.08);
    let fatty = Noise(slide.random());
    connective(&mut canvas, &outline, slide);
    fat(&mut canvas, &outline, fatty, slide);

    let mut sites = Sites { taken: Vec::new() };
    // The worst lesion first, so that it always finds room.
    lesion(&mut canvas, pattern, &outline, &mut sites, slide);
    let milder: Vec<Pattern> = Pattern::ALL.into_iter().filter(|&other| other > Pattern::Normal && other < pattern).collect();
    if !milder.is_empty() && slide.random_bool(0.5) {
        let other = milder[slide.random_range(0..milder.len())];
        lesion(&mut canvas, other, &outline, &mut sites, slide);
    }
    // Healthy lobules and lymphocytes in every class.
    for _ in 0..slide.random_range(2..=4) {
        let radius = slide.random_range(70.0..110.0);
        if let Some(at) = sites.find(&outline, radius, slide) {
            lobule(&mut canvas, at, radius, LOBULE_UM, slide);
        }
    }
    for _ in 0..slide.random_range(1..=3) {
        let radius = slide.random_range(30.0..60.0);
        if let Some(at) = sites.find(&outline, radius, slide) {
            jittered(slide, at, radius, 6.8, |random, x, y| {
                canvas.nucleus(Ellipse::disc(x, y, random.random_range(2.1..2.7)), random.random_range(0.9..1.2));
            });
        }
    }

    let mut picture = develop(&canvas, laboratory, strengths);
    if slide.random_bool(0.25) {
        pen(&mut picture, laboratory.mpp as f32, 1.7, slide);
    }
    picture
}

/// Discs that are already used.
struct Sites {
    taken: Vec<(f32, f32, f32)>,
}

impl Sites {
    /// A free place for a disc well inside the tissue; `None` where the slide is full.
    fn find(&mut self, outline: &Blob, radius: f32, random: &mut ChaCha8Rng) -> Option<(f32, f32)> {
        for _ in 0..300 {
            let inset = 30.0 + radius + random.random_range(0.0..1.0) * (outline.radius - radius - 30.0).max(0.0);
            let (at, _) = outline.on_rim(random.random_range(0.0..TAU), inset);
            let free = |&(x, y, other): &(f32, f32, f32)| (x - at.0).hypot(y - at.1) > radius + other + 12.0;
            if self.taken.iter().all(free) {
                self.taken.push((at.0, at.1, radius));
                return Some(at);
            }
        }
        None
    }
}

/// Draws one lesion of the pattern: a site of its usual extent and the ducts in it.
fn lesion(canvas: &mut Canvas, pattern: Pattern, outline: &Blob, sites: &mut Sites, random: &mut ChaCha8Rng) {
    let (extent, count) = match pattern {
        Pattern::Normal => (70.0..110.0, 2..=3),
        Pattern::Benign => (140.0..230.0, 2..=3),
        Pattern::Hyperplasia => (120.0..210.0, 1..=3),
        Pattern::FlatAtypia => (120.0..200.0, 1..=2),
        Pattern::AtypicalHyperplasia => (70.0..130.0, 1..=2),
        Pattern::InSitu => (150.0..260.0, 1..=2),
        Pattern::Invasive => (170.0..320.0, 1..=2),
    };
    for _ in 0..random.random_range(count) {
        let radius = random.random_range(extent.clone());
        let Some(at) = sites.find(outline, radius, random) else { continue };
        match pattern {
            Pattern::Normal => lobule(canvas, at, radius, LOBULE_UM, random),
            Pattern::Benign => {
                lobule(canvas, at, radius, CROWDED_UM, random);
                cysts(canvas, at, radius, random);
            }
            Pattern::Hyperplasia => cluster(canvas, at, radius, 44.0..78.0, random, ducts::hyperplastic),
            Pattern::FlatAtypia => cluster(canvas, at, radius, 34.0..66.0, random, ducts::flat_atypia),
            Pattern::AtypicalHyperplasia => cluster(canvas, at, radius, 34.0..52.0, random, ducts::cribriform),
            Pattern::InSitu => cluster(canvas, at, radius, 62.0..105.0, random, ducts::in_situ),
            Pattern::Invasive => invasive(canvas, at, radius, random),
        }
    }
}

/// Collagen in waves, thin nuclei along it.
fn connective(canvas: &mut Canvas, outline: &Blob, random: &mut ChaCha8Rng) {
    let (coarse, fine, cloud) = (Noise(random.random()), Noise(random.random()), Noise(random.random()));
    let fibres = unit_vector(random);
    canvas.fill_blob(outline, 5.0, |x, y, _| {
        let wave = 26.0 * cloud.at(x / 110.0, y / 110.0);
        let along = x * fibres.0 + y * fibres.1;
        let across = y * fibres.0 - x * fibres.1 + wave;
        let strand = 0.6 * coarse.at(along / 60.0, across / 9.0) + 0.4 * fine.at(along / 18.0, across / 3.0);
        (0.05, 0.22 + 0.75 * strand * strand)
    });
    jittered(random, (outline.x, outline.y), outline.reach(), 17.0, |random, x, y| {
        if outline.inside(x, y) > 6.0 && random.random_bool(0.4) {
            let (along, across) = (random.random_range(3.6..5.8), random.random_range(1.1..1.7));
            canvas.nucleus(Ellipse { x, y, along, across, direction: fibres }, random.random_range(0.7..1.05));
        }
    });
}

/// Fat where the noise says so.
fn fat(canvas: &mut Canvas, outline: &Blob, fatty: Noise, random: &mut ChaCha8Rng) {
    jittered(random, (outline.x, outline.y), outline.reach(), adipose::SPACING_UM, |random, x, y| {
        if outline.inside(x, y) > 20.0 && fatty.at(x / 260.0, y / 260.0) > 0.58 {
            adipose::cell(canvas, (x, y), random.random_range(23.0..29.0), random);
        }
    });
}

/// Loose pale connective tissue with small acini at `spacing` µm.
fn lobule(canvas: &mut Canvas, at: (f32, f32), radius: f32, spacing: f32, random: &mut ChaCha8Rng) {
    let bed = Blob::new(random, at, radius, 1.1, 0.1);
    let cloud = Noise(random.random());
    canvas.fill_blob(&bed, 12.0, |x, y, _| (0.08, 0.18 + 0.2 * cloud.at(x / 8.0, y / 8.0)));
    jittered(random, at, bed.reach(), spacing, |random, x, y| {
        let acinus = random.random_range(0.33..0.43) * spacing;
        if bed.inside(x, y) > acinus && random.random_bool(0.93) {
            let duct = Blob::new(random, (x, y), acinus, 1.15, 0.08);
            ducts::normal(canvas, &duct, random);
        }
    });
}

/// Wide empty ducts with a flat lining.
fn cysts(canvas: &mut Canvas, at: (f32, f32), extent: f32, random: &mut ChaCha8Rng) {
    jittered(random, at, 0.7 * extent, 120.0, |random, x, y| {
        if random.random_bool(0.45) {
            let radius = random.random_range(26.0..56.0);
            let cyst = Blob::new(random, (x, y), radius, 1.2, 0.08);
            ducts::normal(canvas, &cyst, random);
        }
    });
}

/// Ducts of `sizes` µm radius side by side within `extent` µm of a place; at least one.
fn cluster(
    canvas: &mut Canvas,
    (x, y): (f32, f32),
    extent: f32,
    sizes: std::ops::Range<f32>,
    random: &mut ChaCha8Rng,
    draw: fn(&mut Canvas, &Blob, &mut ChaCha8Rng),
) {
    let mut placed: Vec<(f32, f32, f32)> = Vec::new();
    for _ in 0..60 {
        let radius = random.random_range(sizes.clone());
        let away = random.random_range(0.0_f32..1.0).sqrt() * (extent - 0.5 * radius).max(0.0);
        let direction = unit_vector(random);
        let at = (x + away * direction.0, y + away * direction.1);
        if placed.iter().all(|other| (other.0 - at.0).hypot(other.1 - at.1) > 1.12 * (radius + other.2)) {
            placed.push((at.0, at.1, radius));
            let stretch = random.random_range(1.0..1.2);
            let duct = Blob::new(random, at, radius, stretch, 0.09);
            draw(canvas, &duct, random);
        }
    }
}

/// Strands a few cells wide through dense new collagen.
fn invasive(canvas: &mut Canvas, at: (f32, f32), extent: f32, random: &mut ChaCha8Rng) {
    let field = Blob::new(random, at, extent, 1.1, 0.15);
    let (cords, gaps, fibres) = (Noise(random.random()), Noise(random.random()), Noise(random.random()));
    let lie = unit_vector(random);
    let tumour =
        |x: f32, y: f32| (cords.at(x / 42.0, y / 42.0) - 0.5).abs() < 0.1 && gaps.at(x / 30.0, y / 30.0) > 0.34 && field.inside(x, y) > 2.0;
    canvas.fill_blob(&field, 14.0, |x, y, _| {
        if tumour(x, y) {
            (0.2, 0.38)
        } else {
            (0.1, 0.34 + 0.5 * fibres.at((x * lie.0 + y * lie.1) / 20.0, (y * lie.0 - x * lie.1) / 3.5))
        }
    });
    jittered(random, at, field.reach(), 9.6, |random, x, y| {
        let direction = unit_vector(random);
        if tumour(x, y) {
            let size = random.random_range(3.3..5.2);
            canvas.nucleus(
                Ellipse { x, y, along: size * random.random_range(1.0..1.3), across: size, direction },
                random.random_range(0.55..0.95),
            );
            canvas.nucleus(Ellipse::disc(x + 0.8, y, 1.2), 1.3);
        } else if field.inside(x, y) > 0.0 && random.random_bool(0.1) {
            canvas.nucleus(Ellipse { x, y, along: 4.6, across: 1.4, direction }, 0.9);
        }
    });
}
