//! The generator behind every input and weight of the golden vectors: a name becomes numbers, so that nothing is stored.
//!
//! Defined in the golden vectors' own description; the worked values there are the test below.

use tch::{Kind, Tensor};

/// The splitmix64 stream that starts at the FNV-1a hash of `key`.
pub fn raw(key: &str) -> impl Iterator<Item = u64> {
    let start = fnv1a64(key);
    (0u64..).map(move |index| splitmix64(start.wrapping_add(index)))
}

/// `offset + scale · u`, u uniform in [−1, 1) or its magnitude, computed in f64 and rounded once to f32; row-major.
pub fn floats(key: &str, shape: &[i64], offset: f64, scale: f64, magnitude: bool) -> Tensor {
    let values: Vec<f32> = raw(key)
        .take(count(shape))
        .map(|word| {
            let u = (word >> 11) as f64 * (0.5f64.powi(53)) * 2.0 - 1.0;
            (offset + scale * if magnitude { u.abs() } else { u }) as f32
        })
        .collect();
    Tensor::from_slice(&values).reshape(shape)
}

/// Integers in `[0, modulus)`, i64; row-major.
pub fn integers(key: &str, shape: &[i64], modulus: u64) -> Tensor {
    let values: Vec<i64> = raw(key).take(count(shape)).map(|word| ((word >> 33) % modulus) as i64).collect();
    Tensor::from_slice(&values).reshape(shape)
}

/// Positions 0…n−1 in the ascending order of the raw words of `key`.
pub fn permutation(key: &str, n: usize) -> Vec<usize> {
    let words: Vec<u64> = raw(key).take(n).collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|&index| words[index]);
    order
}

/// Counters (`num_batches_tracked`) start at 0.
pub fn counter(shape: &[i64]) -> Tensor {
    Tensor::zeros(shape, (Kind::Int64, tch::Device::Cpu))
}

fn count(shape: &[i64]) -> usize {
    shape.iter().product::<i64>() as usize
}

fn fnv1a64(key: &str) -> u64 {
    key.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

fn splitmix64(state: u64) -> u64 {
    let mut x = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(tensor: &Tensor, expected: &[f64]) {
        let values = Vec::<f64>::try_from(tensor.to_kind(Kind::Double)).unwrap();
        assert_eq!(values.len(), expected.len());
        for (value, expected) in values.iter().zip(expected) {
            assert!((value - expected).abs() < 5e-10, "{value} instead of {expected}");
        }
    }

    #[test]
    fn the_worked_values_come_out() {
        assert_eq!(fnv1a64("input"), 2_214_555_572_463_777_371);
        let words: Vec<u64> = raw("input").take(3).collect();
        assert_eq!(words, [1_804_429_932_718_033_910, 2_720_500_059_077_127_147, 10_589_988_894_665_139_865]);
        close(&floats("input", &[4], 0.0, 1.0, false), &[-0.804_363_310_3, -0.705_042_779_4, 0.148_168_891_7, 0.705_455_660_8]);
        close(&floats("h7/input", &[2], 0.0, 1.0, false), &[-0.428_002_059_5, -0.498_134_613_0]);
        close(&floats("conv1.0.weight", &[2], 0.0, 1.0 / 3.0, false), &[0.197_121_933_1, -0.187_890_753_1]);
        close(&floats("conv1.1.running_var", &[3], 1.0, 0.5, true), &[1.220_449_805_3, 1.238_254_427_9, 1.145_653_367_0]);
        assert_eq!(Vec::<i64>::try_from(integers("labels", &[8], 3)).unwrap(), [1, 2, 1, 1, 1, 2, 1, 1]);
        assert_eq!(Vec::<i64>::try_from(integers("tile", &[6], 256)).unwrap(), [54, 76, 120, 175, 66, 200]);
        assert_eq!(permutation("perm", 7), [3, 4, 5, 6, 2, 0, 1]);
    }
}
