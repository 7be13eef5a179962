//! Which libtorch this is, and which of its kernels this processor runs.

use std::ffi::{CStr, c_char, c_void};

use tch::TchError;

use super::{Fault, check};

unsafe extern "C" {
    fn wsi_torch_version() -> *const c_char;
    fn wsi_torch_kernels(name: *mut *mut c_char) -> Fault;
    fn free(pointer: *mut c_void);
}

/// Such as `2.11.0`.
pub fn version() -> String {
    // SAFETY: a constant text of the C++ side.
    unsafe { CStr::from_ptr(wsi_torch_version()) }.to_string_lossy().into_owned()
}

/// The widest instructions that libtorch's own kernels use here: `AVX512`, `AVX2` or `DEFAULT`, which is slow.
///
/// # Errors
/// libtorch's.
pub fn kernels() -> Result<String, TchError> {
    let mut name = std::ptr::null_mut();
    // SAFETY: a place for one pointer; without a fault a terminated text from `strdup` is there, and nobody else has it.
    unsafe {
        check(wsi_torch_kernels(&mut name))?;
        let text = CStr::from_ptr(name).to_string_lossy().into_owned();
        free(name.cast());
        Ok(text)
    }
}
