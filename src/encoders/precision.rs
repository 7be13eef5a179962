//! In which numbers a frozen network computes.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

/// Numbers of the forward pass. METHOD: anything but `f32` is mixed precision: convolutions and products in it, norms and softmax in f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// f32 on a processor, f16 on a GPU.
    #[default]
    Auto,
    /// Single precision.
    F32,
    /// Half precision; on a GPU only.
    F16,
    /// bfloat16, which has f32's range.
    Bf16,
}

impl Precision {
    /// The kind of number on `device`; `on_gpu` is what `auto` means on a GPU.
    ///
    /// # Errors
    /// Half precision on a processor.
    pub fn kind(self, device: Device, on_gpu: Kind) -> Result<Kind> {
        Ok(match self {
            Self::Auto if device.is_cuda() => on_gpu,
            Self::Auto | Self::F32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
            Self::F16 if device.is_cuda() => Kind::Half,
            Self::F16 => bail!("extract.precision = \"f16\" needs a GPU (--device cuda:0); on a processor take f32 or bf16"),
        })
    }
}
