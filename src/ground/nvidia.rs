//! What NVIDIA's driver says of itself and its GPUs, through its management library, which comes with every driver: also where libtorch
//! sees none of them.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use libloading::{Library, Symbol};

/// The driver and what it drives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// Such as `580.65.06`.
    pub version: String,
    /// Every GPU of the machine that this process may see, whatever `CUDA_VISIBLE_DEVICES` says.
    pub gpus: Vec<Gpu>,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// Such as `NVIDIA H200`.
    pub name: String,
    /// Bytes.
    pub memory: u64,
    /// Bytes that nobody uses.
    pub free: u64,
    /// Divided into instances (MIG), each of which is used by an id of its own.
    pub divided: bool,
}

/// Whether the kernel's part of the driver is loaded.
pub fn is_loaded() -> bool {
    std::path::Path::new("/proc/driver/nvidia/version").exists() || std::path::Path::new("/dev/nvidiactl").exists()
}

/// Asks the library; `None` where there is no driver.
///
/// # Errors
/// The library is there and refuses: its words, in short.
pub fn driver() -> Result<Option<Driver>, String> {
    // SAFETY: loading it runs its own initialisers only.
    let Ok(library) = (unsafe { Library::new("libnvidia-ml.so.1") }) else { return Ok(None) };
    let nvml = Nvml(&library);
    nvml.call::<unsafe extern "C" fn() -> c_int>(c"nvmlInit_v2", |init| unsafe { init() })?;
    let found = nvml.read();
    // What it says does not matter: the answers are there.
    let _ = nvml.call::<unsafe extern "C" fn() -> c_int>(c"nvmlShutdown", |shutdown| unsafe { shutdown() });
    found.map(Some)
}

/// `nvmlMemory_t`
#[repr(C)]
#[derive(Default)]
struct Memory {
    total: u64,
    free: u64,
    used: u64,
}

type Device = *mut c_void;

struct Nvml<'a>(&'a Library);

impl Nvml<'_> {
    /// # Errors
    /// A function that is not there, or its code if that is not 0.
    fn call<F>(&self, name: &CStr, call: impl FnOnce(&Symbol<F>) -> c_int) -> Result<(), String> {
        let named = name.to_string_lossy();
        // SAFETY: every caller states the type that NVIDIA's header gives the function of this name.
        let function = unsafe { self.0.get::<F>(name.to_bytes_with_nul()) }.map_err(|_| format!("the driver has no {named}"))?;
        match call(&function) {
            0 => Ok(()),
            code => Err(format!("{named} failed with code {code}")),
        }
    }

    fn read(&self) -> Result<Driver, String> {
        let version = self.text(c"nvmlSystemGetDriverVersion", std::ptr::null_mut())?;
        let mut count = 0;
        // SAFETY: a place for one number, here and below.
        self.call::<unsafe extern "C" fn(*mut c_uint) -> c_int>(c"nvmlDeviceGetCount_v2", |get| unsafe { get(&mut count) })?;
        let gpus = (0..count).map(|index| self.gpu(index)).collect::<Result<_, _>>()?;
        Ok(Driver { version, gpus })
    }

    fn gpu(&self, index: c_uint) -> Result<Gpu, String> {
        let mut device: Device = std::ptr::null_mut();
        type Handle = unsafe extern "C" fn(c_uint, *mut Device) -> c_int;
        self.call::<Handle>(c"nvmlDeviceGetHandleByIndex_v2", |get| unsafe { get(index, &mut device) })?;
        let mut memory = Memory::default();
        type Ask = unsafe extern "C" fn(Device, *mut Memory) -> c_int;
        self.call::<Ask>(c"nvmlDeviceGetMemoryInfo", |get| unsafe { get(device, &mut memory) })?;
        let (mut now, mut later) = (0, 0);
        type Mode = unsafe extern "C" fn(Device, *mut c_uint, *mut c_uint) -> c_int;
        // A GPU that cannot be divided refuses to say whether it is.
        let asked = self.call::<Mode>(c"nvmlDeviceGetMigMode", |get| unsafe { get(device, &mut now, &mut later) });
        let divided = asked.is_ok() && now == 1;
        Ok(Gpu { name: self.text(c"nvmlDeviceGetName", device)?, memory: memory.total, free: memory.free, divided })
    }

    /// A text of the driver, or of a device where one is given.
    fn text(&self, name: &CStr, device: Device) -> Result<String, String> {
        let mut text = [0 as c_char; 128];
        let length = text.len() as c_uint - 1;
        // SAFETY: the place has the length that is told, and one byte more that stays zero.
        if device.is_null() {
            type Of = unsafe extern "C" fn(*mut c_char, c_uint) -> c_int;
            self.call::<Of>(name, |get| unsafe { get(text.as_mut_ptr(), length) })?;
        } else {
            type Of = unsafe extern "C" fn(Device, *mut c_char, c_uint) -> c_int;
            self.call::<Of>(name, |get| unsafe { get(device, text.as_mut_ptr(), length) })?;
        }
        // SAFETY: terminated, see above.
        Ok(unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned())
    }
}
