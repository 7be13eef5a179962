//! Normalisation by table: each of a channel's 256 levels is normalised once, and a pixel is looked up on its way into the tensor.

use std::mem::MaybeUninit;

use anyhow::{Result, bail};
use half::{bf16, f16};
use tch::{Device, Kind, Tensor};

use crate::encoders::Normalisation;
use crate::ground::units::Size;
use crate::torch::gpu;

/// `(x/255 − mean)/std` of each level of red, green and blue.
pub(in crate::encoders) struct Levels {
    table: [[f32; 256]; 3],
    mean: [f32; 3],
    std: [f32; 3],
}

impl Levels {
    pub(in crate::encoders) fn new(normalisation: &Normalisation) -> Self {
        let (mean, std) = (normalisation.mean.map(|mean| mean as f32), normalisation.std.map(|std| std as f32));
        // METHOD: three roundings to single precision in this order, as torchvision's ToTensor and Normalize make them.
        let level = |channel: usize, level: usize| (level as f32 / 255.0 - mean[channel]) / std[channel];
        let table = std::array::from_fn(|channel| std::array::from_fn(|byte| level(channel, byte)));
        Self { table, mean, std }
    }

    /// Bytes `[count, height, width, 3]` → numbers `[count,3,height,width]` of `kind` on `device`, channels last in memory.
    ///
    /// # Errors
    /// A `kind` that is no floating point, a failure of libtorch.
    pub(in crate::encoders) fn apply(&self, pixels: &[u8], count: usize, size: Size, device: Device, kind: Kind) -> Result<Tensor> {
        let shape = [count as i64, i64::from(size.height), i64::from(size.width), 3];
        let images = if device == Device::Cpu {
            self.looked_up(pixels, &shape, kind)?
        } else {
            // Bytes are a quarter of the way; a GPU computes faster than it looks up.
            let bytes = upload(&Tensor::f_from_data_size(pixels, &shape, Kind::Uint8)?, device)?;
            self.computed(&bytes.f_to_kind(Kind::Float)?.f_divide_scalar_(255.0)?, kind)?
        };
        Ok(images.f_permute([0, 3, 1, 2])?)
    }

    /// Bytes of red, green, blue, red … → single-precision numbers in the same order.
    ///
    /// # Panics
    /// Another number of places than of bytes.
    pub(in crate::encoders) fn write(&self, pixels: &[u8], numbers: &mut [MaybeUninit<f32>]) {
        assert_eq!(numbers.len(), pixels.len());
        write(self.table.each_ref(), pixels, numbers);
    }

    /// Numbers in [0, 1] `[N,3,H,W]` → normalised ones of `kind`.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub(in crate::encoders) fn tensor(&self, images: &Tensor, kind: Kind) -> Result<Tensor> {
        Ok(self.computed(&images.f_permute([0, 2, 3, 1])?, kind)?.f_permute([0, 3, 1, 2])?)
    }

    fn computed(&self, images: &Tensor, kind: Kind) -> Result<Tensor> {
        if !matches!(kind, Kind::Float | Kind::Half | Kind::BFloat16) {
            bail!("images cannot be of kind {kind:?}");
        }
        let channels = |values: &[f32; 3]| Tensor::f_from_slice(values)?.f_to_device(images.device());
        Ok(images.f_sub(&channels(&self.mean)?)?.f_divide_(&channels(&self.std)?)?.f_to_kind(kind)?)
    }

    fn looked_up(&self, pixels: &[u8], shape: &[i64; 4], kind: Kind) -> Result<Tensor> {
        let images = Tensor::f_empty(shape, (kind, Device::Cpu))?;
        match kind {
            Kind::Float => fill(pixels, &self.table, &images),
            Kind::Half => fill(pixels, &self.table.map(|channel| channel.map(f16::from_f32)), &images),
            Kind::BFloat16 => fill(pixels, &self.table.map(|channel| channel.map(bf16::from_f32)), &images),
            other => bail!("images cannot be of kind {other:?}"),
        }
        Ok(images)
    }
}

/// A tensor on another device, by a copy that does not wait for what the device is computing.
fn upload(tensor: &Tensor, device: Device) -> Result<Tensor> {
    Ok(gpu::upload(&gpu::pin(tensor, device)?, device)?)
}

/// Writes each pixel's numbers into a new tensor of numbers `T`.
fn fill<T: Copy>(pixels: &[u8], [red, green, blue]: &[[T; 256]; 3], images: &Tensor) {
    assert_eq!(images.numel(), pixels.len());
    assert_eq!(images.kind().elt_size_in_bytes(), size_of::<T>());
    // SAFETY: the tensor was made for this call and is contiguous, on the processor and of as many numbers of this size; nobody else knows of it.
    let numbers = unsafe { std::slice::from_raw_parts_mut(images.data_ptr().cast::<MaybeUninit<T>>(), pixels.len()) };
    write([red, green, blue], pixels, numbers);
}

fn write<T: Copy>([red, green, blue]: [&[T; 256]; 3], pixels: &[u8], numbers: &mut [MaybeUninit<T>]) {
    for (numbers, pixel) in numbers.as_chunks_mut::<3>().0.iter_mut().zip(pixels.as_chunks::<3>().0) {
        numbers[0].write(red[usize::from(pixel[0])]);
        numbers[1].write(green[usize::from(pixel[1])]);
        numbers[2].write(blue[usize::from(pixel[2])]);
    }
}
