//! Mixed precision: layers that bear it compute in half precision or bfloat16, the others in f32, as PyTorch's autocast has it.

use std::ffi::c_int;

use tch::{Device, Kind, TchError};

use super::{Fault, check};

unsafe extern "C" {
    fn wsi_autocast(cuda: c_int, brain: c_int, on: c_int) -> Fault;
    fn wsi_autocast_is_on(cuda: c_int) -> c_int;
    fn wsi_exact_single() -> Fault;
}

/// From now on convolutions of f32 tensors on a GPU compute in f32: libtorch would take TF32, which keeps ten bits of each number.
///
/// # Errors
/// libtorch's.
pub fn exact_single() -> Result<(), TchError> {
    // SAFETY: nothing crosses; a setting of the whole process is written.
    check(unsafe { wsi_exact_single() })
}

/// Runs `work` on this thread with layers in `kind`: [`Kind::Half`] on a GPU, [`Kind::BFloat16`] on a GPU or a processor; as it is for
/// [`Kind::Float`]. Not to be nested.
///
/// # Errors
/// libtorch's, for a kind that the device cannot compute in.
pub fn autocast<T>(device: Device, kind: Kind, work: impl FnOnce() -> T) -> Result<T, TchError> {
    if kind == Kind::Float {
        return Ok(work());
    }
    let switch = |on: bool| {
        // SAFETY: numbers alone cross; the state that is switched is this thread's own.
        check(unsafe { wsi_autocast(device.is_cuda().into(), (kind == Kind::BFloat16).into(), on.into()) })
    };
    switch(true)?;
    let _ended = Ended(|| drop(switch(false)));
    Ok(work())
}

/// Whether this thread is within [`autocast`] for tensors on `device`.
pub fn is_on(device: Device) -> bool {
    // SAFETY: a number crosses; the state of this thread is read.
    unsafe { wsi_autocast_is_on(device.is_cuda().into()) != 0 }
}

/// Ends it also where the work panics.
struct Ended<F: Fn()>(F);

impl<F: Fn()> Drop for Ended<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use tch::Tensor;

    use super::*;

    #[test]
    fn layers_compute_in_the_kind_and_no_longer_than_asked() {
        let (a, b) = (Tensor::rand([4, 8], (Kind::Float, Device::Cpu)), Tensor::rand([8, 4], (Kind::Float, Device::Cpu)));
        let kind = |as_kind| autocast(Device::Cpu, as_kind, || (a.matmul(&b).kind(), is_on(Device::Cpu))).unwrap();
        assert_eq!((kind(Kind::BFloat16), kind(Kind::Float)), ((Kind::BFloat16, true), (Kind::Float, false)));
        let panicked = std::panic::catch_unwind(|| autocast(Device::Cpu, Kind::BFloat16, || panic!("as intended")));
        assert!(panicked.is_err() && a.matmul(&b).kind() == Kind::Float);
    }
}
