//! Bags of different lengths become one batch: padded with zeros to the longest, with a mask of what is real.

use tch::kind::Element;
use tch::{Device, Kind, Tensor};

use crate::ground::batch::Batch;

/// A batch of the bags of `rows`, each a flat `[n,D]` with D = `width`, in the order of `rows`; `targets` are those of the whole dataset.
///
/// Inputs `[B,N,D]` in f32 whatever the bags are stored in, N the longest bag; the mask `[B,N]` is true where an instance is.
pub(super) fn padded<T: Element + Copy + Default>(
    bags: &[impl AsRef<[T]>],
    width: usize,
    rows: &[usize],
    targets: &[i64],
    device: Device,
) -> Batch {
    let longest = bags.iter().map(|bag| bag.as_ref().len() / width).max().unwrap_or(0);
    let mut values = vec![T::default(); bags.len() * longest * width];
    let mut mask = vec![false; bags.len() * longest];
    for (place, bag) in bags.iter().enumerate() {
        let bag = bag.as_ref();
        let start = place * longest;
        values[start * width..][..bag.len()].copy_from_slice(bag);
        mask[start..start + bag.len() / width].fill(true);
    }
    let shape = [bags.len() as i64, longest as i64, width as i64];
    let targets: Vec<i64> = rows.iter().map(|&row| targets[row]).collect();
    Batch {
        inputs: Tensor::from_slice(&values).view(shape).to_device(device).to_kind(Kind::Float),
        mask: Some(Tensor::from_slice(&mask).view([shape[0], shape[1]]).to_device(device)),
        targets: Tensor::from_slice(&targets).to_device(device),
        rows: rows.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_bag_is_filled_with_zeros_and_masked() {
        let batch = padded(&[vec![1f32, 2.0], vec![3.0, 4.0, 5.0, 6.0]], 2, &[2, 0], &[7, 8, 9], Device::Cpu);
        assert_eq!(batch.inputs.size(), [2, 2, 2]);
        assert_eq!(Vec::<f32>::try_from(batch.inputs.flatten(0, -1)).expect("values"), [1.0, 2.0, 0.0, 0.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(Vec::<bool>::try_from(batch.mask.expect("a mask").flatten(0, -1)).expect("values"), [true, false, true, true]);
        assert_eq!(Vec::<i64>::try_from(batch.targets).expect("values"), [9, 7]);
    }
}
