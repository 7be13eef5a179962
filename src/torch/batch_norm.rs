//! Batch normalisation by the mean and the variance of all ranks' images.

use tch::{TchError, Tensor};
use torch_sys::C_tensor;

use super::c10d::{Gloo, RawGroup};
use super::{Fault, check};

unsafe extern "C" {
    fn wsi_gloo_batch_norm(
        group: *const RawGroup,
        images: *const C_tensor,
        gain: *const C_tensor,
        bias: *const C_tensor,
        epsilon: f64,
        normalised: *mut *mut C_tensor,
        mean: *mut *mut C_tensor,
        variance: *mut *mut C_tensor,
    ) -> Fault;
}

/// Normalised images, and by what.
pub struct Normalised {
    /// `[b,C,H,W]`, with a gradient to images, gain and bias.
    pub images: Tensor,
    /// Of all ranks' images `[C]`.
    pub mean: Tensor,
    /// Unbiased, of all ranks' images `[C]`.
    pub variance: Tensor,
}

/// Normalises this rank's `images` `[b,C,H,W]`, then multiplies by `gain` and adds `bias` `[C]`, f32. One collective forward and one backward,
/// of three and two numbers a channel. The gradients of gain and bias are this rank's part, like those of all other parameters.
///
/// A rank that is lost meanwhile is no error here, where a network could not hand it on, but that of the next collective.
///
/// # Errors
/// libtorch's, for shapes that do not fit.
pub fn batch_norm(group: &Gloo, images: &Tensor, gain: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Normalised, TchError> {
    let mut made = [std::ptr::null_mut(); 3];
    let [normalised, mean, variance] = &mut made;
    // SAFETY: the group and the tensors live; the places are for three new tensors.
    check(unsafe { wsi_gloo_batch_norm(group.raw(), images.as_ptr(), gain.as_ptr(), bias.as_ptr(), epsilon, normalised, mean, variance) })?;
    // SAFETY: without a fault the C++ side has put new tensors there, which are ours.
    let [images, mean, variance] = made.map(|tensor| unsafe { Tensor::from_ptr(tensor) });
    Ok(Normalised { images, mean, variance })
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::super::c10d::tests::on_ranks;
    use super::*;

    fn distance(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    fn wave(shape: &[i64], phase: f64) -> Tensor {
        (Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, Device::Cpu)) * 1.7 + phase).sin().reshape(shape)
    }

    fn leaf(tensor: &Tensor) -> Tensor {
        tensor.copy().set_requires_grad(true)
    }

    /// Images, gain and bias, and what the result is multiplied by.
    fn inputs() -> ([Tensor; 3], Tensor) {
        ([wave(&[5, 4, 3, 2], 0.0) * 3.0 + 7.0, wave(&[4], 1.0) + 2.0, wave(&[4], 2.0)], wave(&[5, 4, 3, 2], 3.0))
    }

    /// Three ranks with 1, 1 and 3 of five images, against libtorch's own layer on all five.
    #[test]
    fn values_gradients_and_statistics_are_those_of_all_images() {
        let (first, count) = ([0, 1, 2], [1, 1, 3]);
        let gradients = on_ranks(3, |rank, _, gloo| {
            let (values, pull) = inputs();
            let whole = values.each_ref().map(leaf);
            let (mean, variance) = (Tensor::zeros([4], (Kind::Float, Device::Cpu)), Tensor::ones([4], (Kind::Float, Device::Cpu)));
            let expected = whole[0].batch_norm(Some(&whole[1]), Some(&whole[2]), Some(&mean), Some(&variance), true, 1.0, 1e-5, false);
            (&expected * &pull).sum(None::<Kind>).backward();

            let own = |tensor: &Tensor| tensor.narrow(0, first[rank], count[rank]);
            let [x, gain, bias] = [&own(&values[0]), &values[1], &values[2]].map(leaf);
            let made = batch_norm(gloo, &x, &gain, &bias, 1e-5).unwrap();
            (&made.images * own(&pull)).sum(None::<Kind>).backward();
            assert!(!made.mean.requires_grad() && !made.variance.requires_grad());
            assert!(distance(&made.images, &own(&expected)) < 1e-4);
            assert!(distance(&x.grad(), &own(&whole[0].grad())) < 1e-4);
            assert!(distance(&made.mean, &mean) < 1e-5 && distance(&made.variance, &variance) < 1e-4);
            let mut sums = [gain.grad(), bias.grad()];
            gloo.sum(&mut sums).unwrap();
            (distance(&sums[0], &whole[1].grad()), distance(&sums[1], &whole[2].grad()))
        });
        assert!(gradients.into_iter().all(|(gain, bias)| gain < 1e-4 && bias < 1e-4));
    }

    #[test]
    fn a_lost_rank_is_the_fault_of_the_next_collective() {
        on_ranks(2, |rank, _, gloo| {
            if rank == 0 {
                let images = Tensor::randn([2, 3, 4, 4], (Kind::Float, Device::Cpu));
                let ones = Tensor::ones([3], (Kind::Float, Device::Cpu));
                assert!(batch_norm(gloo, &images, &ones, &ones, 1e-5).is_ok());
                assert!(gloo.sum(&mut [Tensor::from(1.0)]).is_err());
            }
        });
    }
}
