//! A GPU's memory: batches on their way to it, and what was taken of it at most.

use std::ffi::c_int;

use tch::{Device, TchError, Tensor};
use torch_sys::C_tensor;

use super::{Fault, check, new_tensor};

unsafe extern "C" {
    fn wsi_pin(tensor: *const C_tensor, pinned: *mut *mut C_tensor) -> Fault;
    fn wsi_gpu_peak(index: c_int, bytes: *mut i64) -> Fault;
}

/// The tensor in memory from which [`upload`] to this device need not wait: a copy for a GPU, itself for a processor.
///
/// # Errors
/// libtorch's: no such memory is left.
pub fn pin(tensor: &Tensor, device: Device) -> Result<Tensor, TchError> {
    if !device.is_cuda() {
        return Ok(tensor.shallow_clone());
    }
    // SAFETY: the pointer is that of a living tensor.
    new_tensor(|pinned| unsafe { wsi_pin(tensor.as_ptr(), pinned) })
}

/// The tensor on `device`. From pinned memory the copy is only begun; what is computed with it there waits by itself.
///
/// # Errors
/// libtorch's: no memory is left.
pub fn upload(tensor: &Tensor, device: Device) -> Result<Tensor, TchError> {
    tensor.f_to_device_(device, tensor.kind(), true, false)
}

/// Most bytes that tensors ever took on a GPU; `None` for a processor.
pub fn peak_memory(device: Device) -> Option<u64> {
    let Device::Cuda(index) = device else { return None };
    let mut bytes = 0;
    // SAFETY: a place for one number.
    check(unsafe { wsi_gpu_peak(index as c_int, &mut bytes) }).ok()?;
    u64::try_from(bytes).ok()
}
