//! Fat: empty cells with thin walls and, now and then, a flat nucleus on the wall.

use std::f32::consts::TAU;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::synth::canvas::{Blob, Canvas, Ellipse};

/// Distance at which fat cells touch, µm.
pub(in crate::synth) const SPACING_UM: f32 = 47.0;

/// One cell of `radius` µm.
pub(in crate::synth) fn cell(canvas: &mut Canvas, at: (f32, f32), radius: f32, random: &mut ChaCha8Rng) {
    let cell = Blob::new(random, at, radius, 1.05, 0.06);
    canvas.fill_blob(&cell, 1.0, |_, _, depth| if depth < 2.2 { (0.04, 0.42) } else { (0.0, 0.0) });
    if random.random_bool(0.3) {
        let (at, outwards) = cell.on_rim(random.random_range(0.0..TAU), 1.0);
        let tangent = (-outwards.1, outwards.0);
        canvas.nucleus(Ellipse { x: at.0, y: at.1, along: 4.0, across: 1.3, direction: tangent }, 0.9);
    }
}
