//! oneDNN's matrix products on a processor: faster than libtorch's own where that calls MKL on a processor that is not Intel's (250
//! GFLOP/s a core instead of 107 on a Zen 5), and with an activation in the same pass.

use std::ffi::c_int;

use tch::{TchError, Tensor};
use torch_sys::C_tensor;

use super::{Fault, new_tensor};

unsafe extern "C" {
    fn wsi_linear_pack(weight: *const C_tensor, rows: i64, packed: *mut *mut C_tensor) -> Fault;
    fn wsi_linear(x: *const C_tensor, weight: *const C_tensor, bias: *const C_tensor, gelu: c_int, out: *mut *mut C_tensor) -> Fault;
}

/// The weight `[outputs, inputs]` in the order that suits oneDNN for `rows` rows at once: for [`linear`] alone. Other numbers of rows may
/// come, and then take longer.
///
/// # Errors
/// libtorch's, for a tensor that is no matrix on a processor.
pub fn pack(weight: &Tensor, rows: i64) -> Result<Tensor, TchError> {
    // SAFETY: the pointer is that of a living tensor.
    new_tensor(|packed| unsafe { wsi_linear_pack(weight.as_ptr(), rows, packed) })
}

/// x Wᵀ + b on the last dimension, `[.., inputs]` → `[.., outputs]`, then the exact GELU if `gelu`. The weight may be packed.
///
/// # Errors
/// libtorch's, for shapes or kinds that do not fit.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, gelu: bool) -> Result<Tensor, TchError> {
    let bias = bias.map_or(std::ptr::null(), Tensor::as_ptr);
    // SAFETY: the pointers are those of living tensors; the bias may be null.
    new_tensor(|out| unsafe { wsi_linear(x.as_ptr(), weight.as_ptr(), bias, gelu.into(), out) })
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn noise(shape: &[i64]) -> Tensor {
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    }

    #[test]
    fn a_packed_product_is_the_plain_one() {
        let (weight, bias) = (noise(&[48, 32]), noise(&[48]));
        let packed = pack(&weight, 10).unwrap();
        for x in [noise(&[2, 5, 32]), noise(&[1, 32])] {
            for bias in [None, Some(&bias)] {
                let plain = x.linear(&weight, bias);
                for weight in [&weight, &packed] {
                    let distance = |ours: Tensor, expected: &Tensor| (ours - expected).abs().max().double_value(&[]);
                    assert!(distance(linear(&x, weight, bias, false).unwrap(), &plain) < 1e-5);
                    assert!(distance(linear(&x, weight, bias, true).unwrap(), &plain.gelu("none")) < 1e-5);
                }
            }
        }
        assert!(linear(&noise(&[2, 31]), &packed, None, false).is_err());
    }
}
