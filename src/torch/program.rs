//! Programs of `torch.export.save` (`.pt2`), run by libtorch's own executor.

use std::ffi::{CString, c_char, c_void};
use std::path::Path;
use std::ptr::NonNull;

use tch::{TchError, Tensor};
use torch_sys::C_tensor;

use super::{Fault, check, new_tensor};

unsafe extern "C" {
    fn wsi_program_load(path: *const c_char, program: *mut *mut c_void) -> Fault;
    fn wsi_program_run(program: *mut c_void, input: *const C_tensor, output: *mut *mut C_tensor) -> Fault;
    fn wsi_program_free(program: *mut c_void);
}

/// A loaded program of one tensor in and one tensor out.
pub struct Program(NonNull<c_void>);

// SAFETY: the executor gives every call a frame of its own and only reads the weights.
unsafe impl Send for Program {}
// SAFETY: as above.
unsafe impl Sync for Program {}

impl Program {
    /// Loads the file.
    ///
    /// # Errors
    /// libtorch's, for a file that is no such program.
    pub fn load(path: &Path) -> Result<Self, TchError> {
        let path = CString::new(path.to_string_lossy().as_bytes()).map_err(TchError::Nul)?;
        let mut program = std::ptr::null_mut();
        // SAFETY: the path is a terminated text, and the place for the result is ours.
        check(unsafe { wsi_program_load(path.as_ptr(), &mut program) })?;
        NonNull::new(program).map(Self).ok_or_else(|| TchError::Torch("no program".to_owned()))
    }

    /// What it gives for `input`.
    ///
    /// # Errors
    /// libtorch's, for an input that does not fit, or a result that is not one tensor.
    pub fn run(&self, input: &Tensor) -> Result<Tensor, TchError> {
        // SAFETY: program and tensor live, and several threads may run a program at once.
        new_tensor(|output| unsafe { wsi_program_run(self.0.as_ptr(), input.as_ptr(), output) })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: it was made by `wsi_program_load` and is not used again.
        unsafe { wsi_program_free(self.0.as_ptr()) }
    }
}
