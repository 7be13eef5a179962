//! Carcinoma inside another tissue: larger, paler, uneven cells in sheets, nests or glands.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::synth::canvas::{Blob, Canvas, Ellipse, jittered, unit_vector};
use crate::synth::noise::Noise;

/// How the tumour of one patient grows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::synth) enum Growth {
    /// Cells shoulder to shoulder.
    Sheets,
    /// Islands between strands of connective tissue.
    Nests,
    /// Cells around small clear lumens.
    Glands,
}

impl Growth {
    pub(in crate::synth) fn of_patient(random: &mut ChaCha8Rng) -> Self {
        [Self::Sheets, Self::Nests, Self::Glands][random.random_range(0..3)]
    }

    /// Period of the strands of connective tissue (µm) and the share of a period that they take.
    fn strands(self) -> (f32, f32) {
        match self {
            Self::Sheets => (85.0, 0.03),
            Self::Nests => (40.0, 0.08),
            Self::Glands => (48.0, 0.07),
        }
    }
}

/// Deposits narrower than this, µm, are too small for connective tissue of their own.
const STROMA_FROM_UM: f32 = 40.0;
/// Distance of neighbouring tumour cells, µm.
const CELL_UM: f32 = 11.0;

/// Replaces what is inside `deposit` by tumour.
pub(in crate::synth) fn paint(canvas: &mut Canvas, deposit: &Blob, growth: Growth, random: &mut ChaCha8Rng) {
    let (cords, fibres, cloud) = (Noise(random.random()), Noise(random.random()), Noise(random.random()));
    let (period, width) = growth.strands();
    let lie = unit_vector(random);
    let strand = |x: f32, y: f32| deposit.radius > STROMA_FROM_UM && (cords.at(x / period, y / period) - 0.5).abs() < width;
    canvas.fill_blob(deposit, 4.0, |x, y, _| {
        let grain = cloud.at(x / 9.0, y / 9.0);
        if strand(x, y) {
            (0.08, 0.4 + 0.45 * fibres.at((x * lie.0 + y * lie.1) / 18.0, (y * lie.0 - x * lie.1) / 3.5))
        } else {
            (0.2 + 0.08 * grain, 0.3 + 0.16 * grain)
        }
    });

    let mut lumens = Vec::new();
    if growth == Growth::Glands && deposit.radius > STROMA_FROM_UM {
        jittered(random, (deposit.x, deposit.y), deposit.reach(), 46.0, |random, x, y| {
            let radius = random.random_range(7.0..13.0);
            if deposit.inside(x, y) > radius + 10.0 && !strand(x, y) {
                canvas.fill(Ellipse::disc(x, y, radius), 0.03, 0.06);
                lumens.push((x, y, radius));
            }
        });
    }
    let in_lumen = |x: f32, y: f32| lumens.iter().any(|lumen| (x - lumen.0).hypot(y - lumen.1) < lumen.2 + 1.0);

    jittered(random, (deposit.x, deposit.y), deposit.reach(), CELL_UM, |random, x, y| {
        if deposit.inside(x, y) < 1.5 || in_lumen(x, y) {
            return;
        }
        let direction = unit_vector(random);
        if strand(x, y) {
            if random.random_bool(0.35) {
                canvas.nucleus(Ellipse { x, y, along: 4.5, across: 1.4, direction }, random.random_range(0.7..1.0));
            }
            return;
        }
        let size = random.random_range(3.6..5.6);
        let stretch = random.random_range(1.0..1.35);
        canvas.nucleus(Ellipse { x, y, along: size * stretch, across: size, direction }, random.random_range(0.5..0.85));
        let nucleolus = Ellipse::disc(x + random.random_range(-1.2..1.2), y + random.random_range(-1.2..1.2), 1.3);
        canvas.nucleus(nucleolus, 1.3);
    });
}
