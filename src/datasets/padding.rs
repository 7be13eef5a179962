//! Bags of different lengths become one batch: padded with zeros to the longest, with a mask of what is real.

use tch::kind::Element;
use tch::{Device, Kind, Tensor};

use crate::ground::batch::Batch;

/// A batch of the bags of `rows`, each a flat `[n,D]` with D = `width`, in the order of `rows`; `targets` are those of the whole dataset.
///
/// Inputs `[B,N,D]` in f32 whatever the bags are stored in, N the longest bag; the mask `[B,N]` is true where an instance is.
pub(super) fn padded<T: Element>(bags: &[impl AsRef<[T]>], width: usize, rows: &[usize], targets: &[i64], device: Device) -> Batch {
    let tiles: Vec<i64> = bags.iter().map(|bag| (bag.as_ref().len() / width) as i64).collect();
    let longest = tiles.iter().copied().max().unwrap_or(0);
    let shape = [bags.len() as i64, longest];
    let inputs = Tensor::empty([shape[0], longest, width as i64], (Kind::Float, device));
    let mask = Tensor::ones(shape, (Kind::Bool, device));
    for (place, (bag, &own)) in bags.iter().zip(&tiles).enumerate() {
        let place = place as i64;
        copy_into(&mut inputs.get(place).narrow(0, 0, own), bag.as_ref());
        if own < longest {
            let _ = inputs.get(place).narrow(0, own, longest - own).zero_();
            let _ = mask.get(place).narrow(0, own, longest - own).zero_();
        }
    }
    let targets: Vec<i64> = rows.iter().map(|&row| targets[row]).collect();
    Batch { inputs, mask: Some(mask), targets: Tensor::from_slice(&targets).to_device(device), rows: rows.to_vec() }
}

/// Copies values into a tensor of as many, whatever its kind and device: converted in one pass over both, in as many threads as
/// libtorch has, and sent to a device as they are stored.
fn copy_into<T: Element>(target: &mut Tensor, values: &[T]) {
    let size = target.size();
    assert_eq!(target.numel(), values.len(), "a bag of {} values for {size:?}", values.len());
    // SAFETY: the tensor covers exactly `values`, is only read, and is gone before this function returns.
    let source = unsafe { Tensor::from_blob(values.as_ptr().cast(), &size, &[size[1], 1], T::KIND, Device::Cpu) };
    target.copy_(&source.to_device(target.device()));
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
