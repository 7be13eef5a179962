//! oneDNN's convolutions on a processor, with an activation or a sum in the same pass and weights laid out once.

use std::ffi::c_int;

use tch::{TchError, Tensor};
use torch_sys::C_tensor;

use super::{Fault, check, new_tensor};

unsafe extern "C" {
    fn wsi_convolution_pack(
        kernel: *const C_tensor,
        size: *const i64,
        padding: *const i64,
        stride: i64,
        groups: i64,
        packed: *mut *mut C_tensor,
    ) -> Fault;
    fn wsi_convolution(
        images: *const C_tensor,
        kernel: *const C_tensor,
        bias: *const C_tensor,
        padding: *const i64,
        stride: i64,
        groups: i64,
        follows: c_int,
        out: *mut *mut C_tensor,
    ) -> Fault;
    fn wsi_convolution_add(
        sum: *mut C_tensor,
        images: *const C_tensor,
        kernel: *const C_tensor,
        bias: *const C_tensor,
        padding: *const i64,
        stride: i64,
        groups: i64,
        follows: c_int,
    ) -> Fault;
}

/// What is computed on a convolution's result before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// Nothing.
    Nothing,
    /// max(x, 0)
    Relu,
    /// min(max(x, 0), 6)
    Relu6,
}

/// A convolution with bias whose kernel is in oneDNN's own order. For f32 images on a processor, channels-last.
pub struct Convolution {
    kernel: Tensor,
    bias: Tensor,
    padding: [i64; 2],
    stride: i64,
    groups: i64,
}

impl Convolution {
    /// Lays out `kernel` `[outputs, inputs / groups, h, w]` for images of `size` `[B,C,H,W]`; `padding` is that above and below, left and
    /// right. Images of other sizes may come, and then take longer.
    ///
    /// # Errors
    /// libtorch's, for shapes that do not fit or a tensor that is not f32 on a processor.
    pub fn new(kernel: &Tensor, bias: &Tensor, size: [i64; 4], padding: [i64; 2], stride: i64, groups: i64) -> Result<Self, TchError> {
        // SAFETY: the pointers are those of living tensors and of arrays of four and two numbers.
        let kernel =
            new_tensor(|packed| unsafe { wsi_convolution_pack(kernel.as_ptr(), size.as_ptr(), padding.as_ptr(), stride, groups, packed) })?;
        Ok(Self { kernel, bias: bias.shallow_clone(), padding, stride, groups })
    }

    /// `[B,C,H,W]` → `[B,outputs,H',W']`.
    ///
    /// # Errors
    /// libtorch's, for images that do not fit.
    pub fn forward(&self, images: &Tensor, follows: Follows) -> Result<Tensor, TchError> {
        let Self { kernel, bias, padding, stride, groups } = self;
        let follows = match follows {
            Follows::Nothing => 0,
            Follows::Relu => 1,
            Follows::Relu6 => 2,
        };
        // SAFETY: the pointers are those of living tensors and of an array of two numbers.
        new_tensor(|out| unsafe {
            wsi_convolution(images.as_ptr(), kernel.as_ptr(), bias.as_ptr(), padding.as_ptr(), *stride, *groups, follows, out)
        })
    }

    /// `sum` `[B,outputs,H',W']` += the convolution of `images`; then its ReLU if `relu`. In place.
    ///
    /// # Errors
    /// libtorch's, for images or a sum that do not fit.
    pub fn add_to(&self, sum: &mut Tensor, images: &Tensor, relu: bool) -> Result<(), TchError> {
        let Self { kernel, bias, padding, stride, groups } = self;
        let (kernel, bias, padding) = (kernel.as_ptr(), bias.as_ptr(), padding.as_ptr());
        // SAFETY: the pointers are those of living tensors and of an array of two numbers; nobody else writes the sum meanwhile.
        check(unsafe { wsi_convolution_add(sum.as_mut_ptr(), images.as_ptr(), kernel, bias, padding, *stride, *groups, relu.into()) })
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn noise(shape: &[i64]) -> Tensor {
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    }

    fn last(tensor: &Tensor) -> Tensor {
        tensor.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
    }

    fn distance(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn a_packed_convolution_is_the_plain_one() {
        for (inputs, outputs, side, padding, stride, groups) in [(16, 24, 3, 1, 1, 1), (8, 48, 1, 0, 2, 1), (32, 32, 5, 2, 2, 32)] {
            let (kernel, bias) = (noise(&[outputs, inputs / groups, side, side]), noise(&[outputs]));
            let packed = Convolution::new(&kernel, &bias, [2, inputs, 12, 12], [padding; 2], stride, groups).unwrap();
            for batch in [2, 3] {
                let images = last(&noise(&[batch, inputs, 12, 12]));
                let plain = images.conv2d(&kernel, Some(&bias), [stride; 2], [padding; 2], [1, 1], groups);
                let ours = |follows| packed.forward(&images, follows).unwrap();
                assert!(distance(&ours(Follows::Nothing), &plain) < 1e-5);
                assert!(distance(&ours(Follows::Relu), &plain.relu()) < 1e-5);
                assert!(distance(&ours(Follows::Relu6), &plain.clamp(0.0, 6.0)) < 1e-5);
                for relu in [false, true] {
                    let before = last(&noise(&plain.size()));
                    let mut sum = before.copy();
                    packed.add_to(&mut sum, &images, relu).unwrap();
                    let expected = &before + &plain;
                    assert!(distance(&sum, &if relu { expected.relu() } else { expected }) < 1e-5);
                }
            }
        }
    }

    #[test]
    fn what_libtorch_throws_is_an_error() {
        let packed = Convolution::new(&noise(&[4, 8, 1, 1]), &noise(&[4]), [1, 8, 4, 4], [0; 2], 1, 1).unwrap();
        let error = packed.forward(&noise(&[1, 3, 4, 4]), Follows::Relu).unwrap_err().to_string();
        assert!(!error.is_empty());
        assert!(Convolution::new(&noise(&[4, 8]), &noise(&[4]), [1, 8, 4, 4], [0; 2], 1, 1).is_err());
    }
}
