//! What libtorch has and tch does not offer: one Rust file and one C++ file a topic.
//!
//! The C++ side (`*.cpp`, compiled by `build.rs`) catches what libtorch throws and hands back a text, so that nothing unwinds into Rust.

pub mod autocast;
pub mod batch_norm;
pub mod c10d;
mod caught;
pub mod convolution;
pub mod fused;
pub mod gpu;
pub mod linear;
pub mod mixed;
pub mod numbers;
pub mod program;
pub mod version;

pub use caught::{caught, is_out_of_memory};

use std::ffi::{CStr, c_char, c_void};

use tch::{TchError, Tensor};
use torch_sys::C_tensor;

/// What a function of the C++ side returns: null, or a text from `malloc`.
type Fault = *mut c_char;

/// # Errors
/// The C++ side's text, freed here.
fn check(fault: Fault) -> Result<(), TchError> {
    if fault.is_null() {
        return Ok(());
    }
    unsafe extern "C" {
        fn free(pointer: *mut c_void);
    }
    // SAFETY: a fault that is not null is a terminated text from `strdup`, and nobody else has it.
    let text = unsafe {
        let text = CStr::from_ptr(fault).to_string_lossy().into_owned();
        free(fault.cast());
        text
    };
    Err(TchError::Torch(text))
}

/// Calls a function whose last argument is the place for a new tensor.
fn new_tensor(call: impl FnOnce(*mut *mut C_tensor) -> Fault) -> Result<Tensor, TchError> {
    let mut tensor = std::ptr::null_mut();
    check(call(&mut tensor))?;
    // SAFETY: without a fault the C++ side has put a new `at::Tensor` there, which is ours.
    Ok(unsafe { Tensor::from_ptr(tensor) })
}
