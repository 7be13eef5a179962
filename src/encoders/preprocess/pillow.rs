//! Resampling of bytes as Pillow does it, to the bit: along rows, then along columns, each in fixed point and rounded back to bytes.

use super::Window;
use super::kernel::{Interpolation, taps};
use crate::ground::units::Size;

/// Fraction bits of a weight: 8 bits of a pixel, 2 for sums that overshoot, and the sign fill up the 32.
const FRACTION_BITS: u32 = 32 - 8 - 2;

/// A pixel of the new picture, along one direction: the first old pixel and fixed-point weights from there on.
struct Tap {
    first: usize,
    weights: Vec<i32>,
}

/// Resamples tiles of one size to another and keeps its two tiles of memory.
pub(super) struct Resampler {
    from: Size,
    window: Window,
    /// `None` where a direction keeps its size: Pillow leaves out that pass.
    columns: Option<Vec<Tap>>,
    rows: Option<Vec<Tap>>,
    /// A few rows side by side: their pixels of one column are neighbours.
    lanes: Vec<Lanes>,
    /// After the pass along rows: `[height, window.width, 3]`.
    narrow: Vec<u8>,
    /// Sums of the row that is being made.
    sums: Vec<i32>,
    /// The result: `[window.height, window.width, 3]`.
    result: Vec<u8>,
}

impl Resampler {
    /// From tiles of `from` to pictures of `to`, of which only `window` is computed.
    pub(super) fn new(from: Size, to: Size, window: Window, interpolation: Interpolation) -> Self {
        let direction = |from, to, first, count| {
            (from != to).then(|| taps(from, to, first..first + count, interpolation).iter().map(Tap::fixed).collect())
        };
        Self {
            columns: direction(from.width, to.width, window.left, window.size.width),
            rows: direction(from.height, to.height, window.top, window.size.height),
            lanes: vec![[0; LANES]; from.width as usize],
            narrow: vec![0; from.height as usize * window.size.width as usize * 3],
            sums: vec![0; window.size.width as usize * 3],
            result: vec![0; window.size.height as usize * window.size.width as usize * 3],
            from,
            window,
        }
    }

    /// The size of what [`apply`](Self::apply) gives.
    pub(super) fn size(&self) -> Size {
        self.window.size
    }

    /// One tile `[height, width, 3]` → `[window.height, window.width, 3]`.
    pub(super) fn apply(&mut self, pixels: &[u8]) -> &[u8] {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has what the function was compiled for.
            unsafe { self.resample_avx2(pixels) };
            return &self.result;
        }
        self.resample(pixels);
        &self.result
    }

    /// [`resample`](Self::resample), compiled for wider vectors; integers have the same sums in any order.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn resample_avx2(&mut self, pixels: &[u8]) {
        self.resample(pixels);
    }

    #[inline(always)]
    fn resample(&mut self, pixels: &[u8]) {
        let Window { left, top, size } = self.window;
        let (from_row, to_row) = (self.from.width as usize * 3, size.width as usize * 3);
        // Rows of the old picture that the window needs.
        let needed = match &self.rows {
            Some(rows) => {
                let first = rows.iter().map(|tap| tap.first).min().unwrap_or(0);
                first..rows.iter().map(|tap| tap.first + tap.weights.len()).max().unwrap_or(0)
            }
            None => top as usize..(top + size.height) as usize,
        };
        let new_rows = self.narrow[needed.start * to_row..needed.end * to_row].chunks_mut(ROWS_AT_ONCE * to_row);
        let old_rows = pixels[needed.start * from_row..needed.end * from_row].chunks(ROWS_AT_ONCE * from_row);
        for (old, new) in old_rows.zip(new_rows) {
            match &self.columns {
                Some(columns) => along_rows((old, from_row), columns, &mut self.lanes, (new, to_row)),
                None => {
                    for (old, new) in old.chunks_exact(from_row).zip(new.chunks_exact_mut(to_row)) {
                        new.copy_from_slice(&old[left as usize * 3..][..to_row]);
                    }
                }
            }
        }
        match &self.rows {
            Some(rows) => {
                for (tap, new) in rows.iter().zip(self.result.chunks_exact_mut(to_row)) {
                    along_columns(&self.narrow[tap.first * to_row..], tap, &mut self.sums, new);
                }
            }
            None => self.result.copy_from_slice(&self.narrow[top as usize * to_row..][..size.height as usize * to_row]),
        }
    }
}

impl Tap {
    fn fixed(taps: &super::kernel::Taps) -> Self {
        let one = f64::from(1u32 << FRACTION_BITS);
        // Half away from zero, then cut off.
        let weights = taps.weights.iter().map(|weight| (weight * one + 0.5f64.copysign(*weight)) as i32).collect();
        Self { first: taps.first, weights }
    }
}

/// Rows that are resampled together: three channels of eight rows fill vector registers without a rest.
const ROWS_AT_ONCE: usize = 8;
const LANES: usize = ROWS_AT_ONCE * 3;
type Lanes = [u8; LANES];

/// At most [`ROWS_AT_ONCE`] rows of `from_row` bytes → as many of `to_row` bytes.
#[inline(always)]
fn along_rows((old, from_row): (&[u8], usize), columns: &[Tap], lanes: &mut [Lanes], (new, to_row): (&mut [u8], usize)) {
    for (place, row) in old.chunks_exact(from_row).enumerate() {
        for (lanes, pixel) in lanes.iter_mut().zip(row.chunks_exact(3)) {
            lanes[place * 3..][..3].copy_from_slice(pixel);
        }
    }
    for (column, tap) in columns.iter().enumerate() {
        let mut sums = [HALF; LANES];
        for (weight, lanes) in tap.weights.iter().zip(&lanes[tap.first..]) {
            for (sum, channel) in sums.iter_mut().zip(lanes) {
                *sum += weight * i32::from(*channel);
            }
        }
        let bytes = sums.map(rounded);
        for (row, pixel) in new.chunks_exact_mut(to_row).zip(bytes.chunks_exact(3)) {
            row[column * 3..][..3].copy_from_slice(pixel);
        }
    }
}

#[inline(always)]
fn along_columns(old: &[u8], tap: &Tap, sums: &mut [i32], new: &mut [u8]) {
    sums.fill(HALF);
    for (weight, row) in tap.weights.iter().zip(old.chunks_exact(new.len())) {
        for (sum, channel) in sums.iter_mut().zip(row) {
            *sum += weight * i32::from(*channel);
        }
    }
    for (new, sum) in new.iter_mut().zip(sums) {
        *new = rounded(*sum);
    }
}

const HALF: i32 = 1 << (FRACTION_BITS - 1);

#[inline(always)]
fn rounded(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_vectors_and_plain_code_agree_and_a_window_is_cut_from_the_whole() {
        let (from, to) = (Size { width: 61, height: 47 }, Size { width: 40, height: 83 });
        let pixels: Vec<u8> = (0..61 * 47 * 3usize).map(|place| (place * place % 251) as u8).collect();
        let whole = Window { left: 0, top: 0, size: to };
        let part = Window { left: 7, top: 20, size: Size { width: 21, height: 33 } };
        for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
            let mut resampler = Resampler::new(from, to, whole, interpolation);
            let all = resampler.apply(&pixels).to_vec();
            resampler.resample(&pixels);
            assert_eq!(all, resampler.result);
            let mut windowed = Resampler::new(from, to, part, interpolation);
            let cut: Vec<u8> = (20..53).flat_map(|row| all[(row * 40 + 7) * 3..][..63].to_vec()).collect();
            assert_eq!(windowed.apply(&pixels), cut);
        }
    }
}
