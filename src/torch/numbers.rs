//! Tensors whose numbers are written where they will be, by threads of ours: libtorch's own would wait for one another at every copy.

use std::mem::MaybeUninit;

use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// A tensor of single-precision numbers on the processor, row after row, of which `write` fills every one; what it leaves out has any value.
///
/// # Errors
/// No memory left; whatever `write` says.
pub fn written(shape: &[i64], write: impl FnOnce(&mut [MaybeUninit<f32>]) -> Result<()>) -> Result<Tensor> {
    let tensor = Tensor::f_empty(shape, (Kind::Float, Device::Cpu))?;
    if tensor.numel() > 0 {
        // SAFETY: the tensor was made here and is contiguous, on the processor and of so many numbers; nobody else knows of it yet.
        write(unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<MaybeUninit<f32>>(), tensor.numel()) })?;
    }
    Ok(tensor)
}
