//! `cpu`, `cuda:N` or `auto` becomes a libtorch device.

use anyhow::{Result, bail};
use tch::Device;

use super::libtorch;

/// Parses a device name. `auto` takes the first GPU if there is one.
///
/// # Errors
/// An unknown name, or a GPU that libtorch cannot see here.
pub fn parse(name: &str) -> Result<Device> {
    match name {
        "cpu" => Ok(Device::Cpu),
        "auto" => {
            libtorch::load_cuda();
            Ok(Device::cuda_if_available())
        }
        _ => {
            let Some(index) = name.strip_prefix("cuda:").or((name == "cuda").then_some("0")).and_then(|n| n.parse::<usize>().ok()) else {
                bail!("device '{name}' is not known; use cpu, cuda:N or auto");
            };
            libtorch::load_cuda();
            let seen = tch::Cuda::device_count();
            if index as i64 >= seen {
                bail!(
                    "device '{name}' was asked for, but libtorch sees {seen} GPUs; check the driver, name a PyTorch 2.11.0 with CUDA in WSI_LIBTORCH, or use --device cpu"
                );
            }
            Ok(Device::Cuda(index))
        }
    }
}

/// The name that `parse` would read back.
pub fn name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".into(),
    }
}
