//! One duct or acinus in section, by what fills it.

use std::f32::consts::TAU;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::synth::canvas::{Blob, Canvas, Ellipse, jittered, unit_vector};
use crate::synth::noise::Noise;

/// Haematoxylin and eosin of epithelial cytoplasm.
const CYTOPLASM: (f32, f32) = (0.2, 0.36);
/// The basement membrane and the thin layer of connective tissue at it.
const MEMBRANE: (f32, f32) = (0.12, 0.62);
const MEMBRANE_UM: f32 = 2.5;

/// Two rows of cells around a lumen: flat dark outer ones, round inner ones.
pub(in crate::synth) fn normal(canvas: &mut Canvas, duct: &Blob, random: &mut ChaCha8Rng) {
    let depth_of_lumen = (0.62 * duct.radius).min(13.0);
    hollow(canvas, duct, depth_of_lumen, (0.0, 0.03));
    row(canvas, duct, 3.6, 8.5, (1.4, 2.8), 0.9..1.15, random);
    if depth_of_lumen > 10.5 {
        row(canvas, duct, 7.5, 6.2, (2.3, 2.6), 0.65..0.95, random);
    }
}

/// Columnar cells in two or three even rows around a wide lumen with secretion.
pub(in crate::synth) fn flat_atypia(canvas: &mut Canvas, duct: &Blob, random: &mut ChaCha8Rng) {
    hollow(canvas, duct, 19.0, (0.02, 0.2));
    for depth in [5.5, 10.5, 14.5] {
        row(canvas, duct, depth, 6.0, (3.2, 2.7), 0.8..1.05, random);
    }
}

/// Uneven overlapping cells that stream around slits, most of them near the edge.
pub(in crate::synth) fn hyperplastic(canvas: &mut Canvas, duct: &Blob, random: &mut ChaCha8Rng) {
    let (slits, stream) = (Noise(random.random()), Noise(random.random()));
    let open = |x: f32, y: f32, depth: f32| depth > 9.0 && depth < 0.75 * duct.radius && slits.at(x / 21.0, y / 13.0) > 0.68;
    canvas.fill_blob(duct, 2.0, |x, y, depth| {
        if depth < MEMBRANE_UM {
            MEMBRANE
        } else if open(x, y, depth) {
            (0.0, 0.05)
        } else {
            CYTOPLASM
        }
    });
    jittered(random, (duct.x, duct.y), duct.reach(), 6.6, |random, x, y| {
        let depth = duct.inside(x, y);
        if depth > 3.5 && !open(x, y, depth) && random.random_bool(0.92) {
            let (sin, cos) = (TAU * stream.at(x / 55.0, y / 55.0)).sin_cos();
            let (along, across) = (random.random_range(2.9..4.3), random.random_range(1.8..2.5));
            canvas.nucleus(Ellipse { x, y, along, across, direction: (cos, sin) }, random.random_range(0.5..1.0));
        }
    });
}

/// Even round cells around round punched-out holes.
pub(in crate::synth) fn cribriform(canvas: &mut Canvas, duct: &Blob, random: &mut ChaCha8Rng) {
    solid_ground(canvas, duct);
    let mut holes = Vec::new();
    jittered(random, (duct.x, duct.y), duct.reach(), 27.0, |random, x, y| {
        let radius = random.random_range(6.5..9.5);
        if duct.inside(x, y) > radius + 7.0 {
            let hole = Blob::new(random, (x, y), radius, 1.0, 0.0);
            canvas.fill_blob(&hole, 1.0, |_, _, _| (0.0, 0.06));
            holes.push((x, y, radius));
        }
    });
    jittered(random, (duct.x, duct.y), duct.reach(), 7.2, |random, x, y| {
        let clear = holes.iter().all(|hole| (x - hole.0).hypot(y - hole.1) > hole.2 + 2.2);
        if clear && duct.inside(x, y) > 4.5 {
            canvas.nucleus(Ellipse::disc(x, y, random.random_range(2.7..3.1)), random.random_range(0.85..1.0));
        }
    });
}

/// Large uneven cells wall to wall, a dead middle full of debris.
pub(in crate::synth) fn in_situ(canvas: &mut Canvas, duct: &Blob, random: &mut ChaCha8Rng) {
    solid_ground(canvas, duct);
    let dead = if random.random_bool(0.7) { random.random_range(0.5..0.65) * duct.radius } else { f32::INFINITY };
    let debris = Noise(random.random());
    canvas.fill_blob(duct, 1.0, |x, y, depth| match depth {
        depth if depth < MEMBRANE_UM => MEMBRANE,
        depth if depth > dead => (0.1 + 0.1 * debris.at(x / 3.0, y / 3.0), 0.55 + 0.5 * debris.at(x / 6.0, y / 6.0)),
        _ => CYTOPLASM,
    });
    jittered(random, (duct.x, duct.y), duct.reach(), 10.2, |random, x, y| {
        let depth = duct.inside(x, y);
        if depth > dead {
            if random.random_bool(0.3) {
                canvas.nucleus(Ellipse::disc(x, y, random.random_range(0.9..1.8)), 1.2);
            }
        } else if depth > 5.0 {
            let size = random.random_range(3.5..5.2);
            let nucleus = Ellipse { x, y, along: size * random.random_range(1.0..1.25), across: size, direction: unit_vector(random) };
            canvas.nucleus(nucleus, random.random_range(0.6..0.95));
            canvas.nucleus(Ellipse::disc(x - 0.7, y + 0.6, 1.3), 1.35);
        }
    });
}

fn solid_ground(canvas: &mut Canvas, duct: &Blob) {
    canvas.fill_blob(duct, 1.0, |_, _, depth| if depth < MEMBRANE_UM { MEMBRANE } else { CYTOPLASM });
}

/// Membrane, cytoplasm down to `lumen` µm of depth, then what the lumen holds.
fn hollow(canvas: &mut Canvas, duct: &Blob, lumen: f32, content: (f32, f32)) {
    canvas.fill_blob(duct, 1.0, |_, _, depth| {
        if depth < MEMBRANE_UM {
            MEMBRANE
        } else if depth < lumen {
            CYTOPLASM
        } else {
            content
        }
    });
}

/// Nuclei of (outwards, sideways) semi-axes every `spacing` µm at one depth below the rim.
fn row(
    canvas: &mut Canvas,
    duct: &Blob,
    depth: f32,
    spacing: f32,
    axes: (f32, f32),
    density: std::ops::Range<f32>,
    random: &mut ChaCha8Rng,
) {
    let count = (TAU * (duct.radius - depth).max(1.0) / spacing) as usize;
    let turn = random.random_range(0.0..TAU);
    for index in 0..count {
        let angle = turn + TAU * (index as f32 + random.random_range(-0.15..0.15)) / count as f32;
        let ((x, y), outwards) = duct.on_rim(angle, depth);
        canvas.nucleus(Ellipse { x, y, along: axes.0, across: axes.1, direction: outwards }, random.random_range(density.clone()));
    }
}
