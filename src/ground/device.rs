//! `cpu`, `cuda:N` or `auto` becomes a libtorch device.

use anyhow::{Result, bail};
use tch::Device;

/// Parses a device name. `auto` takes the first GPU if there is one.
///
/// # Errors
/// An unknown name, or a GPU that libtorch cannot see here.
pub fn parse(name: &str) -> Result<Device> {
    match name {
        "cpu" => Ok(Device::Cpu),
        "auto" => {
            load_cuda();
            Ok(Device::cuda_if_available())
        }
        _ => {
            let Some(index) = name.strip_prefix("cuda:").or((name == "cuda").then_some("0")).and_then(|n| n.parse::<usize>().ok()) else {
                bail!("device '{name}' is not known; use cpu, cuda:N or auto");
            };
            load_cuda();
            let seen = tch::Cuda::device_count();
            if index as i64 >= seen {
                bail!(
                    "device '{name}' was asked for, but libtorch sees {seen} GPUs; check the driver and that LIBTORCH is a CUDA build, or use --device cpu"
                );
            }
            Ok(Device::Cuda(index))
        }
    }
}

/// A binary linked against the CPU half of libtorch finds the CUDA half only once it is loaded into the process. Whether there is one.
pub fn load_cuda() -> bool {
    static LOADED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *LOADED.get_or_init(|| {
        use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
        // SAFETY: libtorch_cuda.so only registers its kernels when it is loaded; no symbol of it is used from here.
        unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) }.map(std::mem::forget).is_ok()
    })
}

/// The name that `parse` would read back.
pub fn name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".into(),
    }
}
