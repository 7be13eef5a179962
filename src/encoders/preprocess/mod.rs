//! From a tile's pixels to a network's input: resize, centre crop, normalise, in the order and to the bit of the published pipelines.

mod kernel;
mod levels;
mod pillow;
mod torch;

use std::borrow::Cow;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

pub use kernel::Interpolation;
pub(super) use levels::Levels;

use super::Normalisation;
use crate::ground::units::Size;

/// What is done to a tile before a network sees it.
///
/// METHOD: a tile that already has the side of the input goes in as it is. A published transform that enlarges to 256 and cuts out 224
/// would only throw away the border of a tile of 224 px that has the right size in µm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Preprocess {
    /// First: another size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<Resize>,
    /// Then: the square of this side, pixels, from the middle; zeros surround what is smaller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<u32>,
    /// Subtracted from red, green and blue in [0, 1].
    pub mean: [f64; 3],
    /// Divided by.
    pub std: [f64; 3],
}

/// Resampling to another size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Resize {
    /// The size.
    pub to: Target,
    /// How pixels are interpolated.
    #[serde(default)]
    pub interpolation: Interpolation,
    /// Whose arithmetic.
    #[serde(default)]
    pub library: Library,
    /// Whether a pixel of a smaller picture covers all that it stands for; only `torch-f32` can go without.
    #[serde(default = "yes")]
    pub antialias: bool,
}

/// The size after resampling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The short side has so many pixels, the proportions stay.
    Short(u32),
    /// Width and height, whatever the proportions.
    Stretch(u32, u32),
}

/// Who resamples: their results differ by a level here and there, and features with them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Library {
    /// Pillow, as torchvision does with pictures: bytes to bytes.
    #[default]
    Pillow,
    /// PyTorch on bytes, as torchvision's v2 transforms do with tensors before the change to numbers in [0, 1].
    TorchU8,
    /// PyTorch on numbers in [0, 1]; cubic overshoot stays.
    TorchF32,
}

fn yes() -> bool {
    true
}

impl Preprocess {
    /// Refuses what cannot be done.
    ///
    /// # Errors
    /// A side of 0, a standard deviation that is not above 0, antialiasing turned off where it cannot be.
    pub fn check(&self) -> Result<()> {
        ensure!(self.std.iter().all(|&std| std > 0.0 && std.is_finite()), "std is {:?}; each must be above 0", self.std);
        ensure!(self.mean.iter().all(|mean| mean.is_finite()), "mean is {:?}", self.mean);
        ensure!(self.crop != Some(0), "crop is 0 pixels");
        let Some(resize) = &self.resize else { return Ok(()) };
        let (Target::Short(least) | Target::Stretch(least, _)) = resize.to;
        let other = if let Target::Stretch(_, other) = resize.to { other } else { least };
        ensure!(least.min(other) > 0, "resize.to has a side of 0 pixels");
        ensure!(resize.antialias || resize.library == Library::TorchF32, "only library = \"torch-f32\" resizes without antialias");
        Ok(())
    }

    /// Width and height that the network sees, for tiles of `tile`.
    pub fn size(&self, tile: Size) -> Size {
        match self.crop {
            Some(side) => Size { width: side, height: side },
            None => self.resized(tile),
        }
    }

    /// Interleaved RGB bytes `[count, height, width, 3]` of tiles of size `tile` → `(x/255 − mean)/std` as `[count,3,H,W]` of `kind` (f32, f16
    /// or bf16) on `device`, H and W as [`size`](Self::size) says. The result is a channels-last tensor.
    ///
    /// Uses one thread. On a processor each pixel is read once after the resampling and written once; to a GPU bytes go over and become numbers there.
    /// Memory: the result and, where something is resampled, two tiles of bytes (`torch-f32`: the whole batch in f32, before and after).
    ///
    /// # Errors
    /// [`check`](Self::check)'s, a `kind` that is no floating point, a failure of libtorch (memory).
    ///
    /// # Panics
    /// `pixels` is not `count · width · height · 3` bytes long.
    pub fn apply(&self, pixels: &[u8], count: usize, tile: Size, device: Device, kind: Kind) -> Result<Tensor> {
        let bytes = tile.width as usize * tile.height as usize * 3;
        assert_eq!(pixels.len(), count * bytes, "bytes of {count} tiles of {} × {} px", tile.width, tile.height);
        self.check()?;
        let seen = self.size(tile);
        if let Some(resize) = self.resize.as_ref().filter(|resize| seen != tile && resize.library == Library::TorchF32) {
            let images = torch::resized(pixels, count, tile, self.resized(tile), resize, device)?;
            return self.levels().tensor(&torch::cropped(&images, seen)?, kind);
        }
        let tiles = if seen == tile { Cow::Borrowed(pixels) } else { Cow::Owned(self.bytes(pixels, tile)?) };
        self.levels().apply(&tiles, count, seen, device, kind)
    }

    /// Resized and cropped tiles as bytes, one after the other, each of [`size`](Self::size); `tile` itself where nothing is to be done.
    ///
    /// # Errors
    /// A failure of libtorch.
    ///
    /// # Panics
    /// `library` is `torch-f32`: there are no bytes in between.
    fn bytes(&self, pixels: &[u8], tile: Size) -> Result<Vec<u8>> {
        let (resized, seen) = (self.resized(tile), self.size(tile));
        let bytes = tile.width as usize * tile.height as usize * 3;
        let mut result = Vec::with_capacity(pixels.len() / bytes.max(1) * seen.width as usize * seen.height as usize * 3);
        let mut pillow = self.resize.as_ref().filter(|resize| resize.library == Library::Pillow).map(|resize| {
            // Only what the crop leaves is computed.
            pillow::Resampler::new(tile, resized, window(resized, seen), resize.interpolation)
        });
        for tile_pixels in pixels.chunks_exact(bytes.max(1)) {
            match (&mut pillow, &self.resize) {
                (Some(pillow), _) => {
                    let shown = pillow.size();
                    crop(pillow.apply(tile_pixels), shown, seen, &mut result);
                }
                (None, Some(resize)) => crop(&torch::resized_bytes(tile_pixels, tile, resized, resize)?, resized, seen, &mut result),
                (None, None) => crop(tile_pixels, tile, seen, &mut result),
            }
        }
        Ok(result)
    }

    fn resized(&self, tile: Size) -> Size {
        match self.resize.as_ref().map(|resize| resize.to) {
            None => tile,
            Some(Target::Stretch(width, height)) => Size { width, height },
            Some(Target::Short(side)) => {
                let (short, long) = (tile.width.min(tile.height).max(1), tile.width.max(tile.height));
                // METHOD: the long side is rounded down, as torchvision does.
                let long = (u64::from(side) * u64::from(long) / u64::from(short)) as u32;
                if tile.width < tile.height { Size { width: side, height: long } } else { Size { width: long, height: side } }
            }
        }
    }

    fn levels(&self) -> Levels {
        Levels::new(&Normalisation { mean: self.mean, std: self.std })
    }
}

/// A rectangle of a picture: columns and rows from `left`, `top` on.
#[derive(Debug, Clone, Copy)]
struct Window {
    left: u32,
    top: u32,
    size: Size,
}

/// The part of a picture of `size` that the centre crop to `seen` shows.
fn window(size: Size, seen: Size) -> Window {
    let (left, width) = middle(size.width, seen.width);
    let (top, height) = middle(size.height, seen.height);
    Window { left, top, size: Size { width, height } }
}

/// Where a crop to `crop` of `side` pixels begins, and how many of them it shows.
fn middle(side: u32, crop: u32) -> (u32, u32) {
    let spare = side.saturating_sub(crop);
    // METHOD: half a pixel is rounded to the even neighbour, as Python rounds and therefore torchvision.
    ((f64::from(spare) / 2.0).round_ties_even() as u32, side.min(crop))
}

/// Appends the centre crop to `seen` of one picture; zeros surround a smaller one.
fn crop(pixels: &[u8], size: Size, seen: Size, result: &mut Vec<u8>) {
    let Window { left, top, size: shown } = window(size, seen);
    // The smaller half of the border is left and above.
    let (before, above) = ((seen.width - shown.width) / 2, (seen.height - shown.height) / 2);
    let bytes = |pixels: u32| pixels as usize * 3;
    let end = result.len() + bytes(seen.width) * seen.height as usize;
    result.resize(result.len() + bytes(seen.width) * above as usize, 0);
    for row in pixels.chunks_exact(bytes(size.width)).skip(top as usize).take(shown.height as usize) {
        result.resize(result.len() + bytes(before), 0);
        result.extend_from_slice(&row[bytes(left)..][..bytes(shown.width)]);
        result.resize(result.len() + bytes(seen.width - shown.width - before), 0);
    }
    result.resize(end, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(text: &str) -> Result<Preprocess, toml::de::Error> {
        toml::from_str(&format!("mean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]\n{text}"))
    }

    #[test]
    fn a_section_reads_and_a_misspelt_key_is_refused() {
        let preprocess = section("crop = 224\nresize = { to = { short = 256 }, interpolation = \"bicubic\" }").unwrap();
        let resize = preprocess.resize.unwrap();
        assert_eq!((resize.to, resize.interpolation, resize.library), (Target::Short(256), Interpolation::Bicubic, Library::Pillow));
        assert!(resize.antialias);
        let stretched = section("resize = { to = { stretch = [96, 64] }, library = \"torch-f32\", antialias = false }").unwrap();
        assert_eq!(stretched.size(Size { width: 7, height: 7 }), Size { width: 96, height: 64 });
        stretched.check().unwrap();
        assert!(section("resize = { to = { short = 256 }, kernel = \"bicubic\" }").is_err());
        assert!(section("resize = { to = { short = 256 }, antialias = false }").unwrap().check().is_err());
        assert!(section("crop = 0").unwrap().check().is_err());
    }

    #[test]
    fn a_tile_of_the_right_side_goes_in_as_it_is() {
        let preprocess = section("crop = 4\nresize = { to = { short = 8 } }").unwrap();
        let pixels: Vec<u8> = (0..48).map(|value| value * 5).collect();
        let images = preprocess.apply(&pixels, 1, Size { width: 4, height: 4 }, Device::Cpu, Kind::Float).unwrap();
        assert_eq!(images.double_value(&[0, 1, 2, 3]) as f32, (f32::from(pixels[(2 * 4 + 3) * 3 + 1]) / 255.0 - 0.5) / 0.5);
    }

    #[test]
    fn the_middle_of_an_odd_rest_is_rounded_to_even() {
        assert_eq!([middle(5, 4), middle(7, 4), middle(9, 4), middle(3, 8)], [(0, 4), (2, 4), (2, 4), (0, 3)]);
    }

    #[test]
    fn half_precision_is_single_precision_rounded() {
        let preprocess = section("").unwrap();
        let pixels: Vec<u8> = (0..2 * 3 * 3 * 3).map(|value| (value * 37) as u8).collect();
        let tile = Size { width: 3, height: 3 };
        let single = preprocess.apply(&pixels, 2, tile, Device::Cpu, Kind::Float).unwrap();
        for kind in [Kind::Half, Kind::BFloat16] {
            assert_eq!(preprocess.apply(&pixels, 2, tile, Device::Cpu, kind).unwrap(), single.to_kind(kind));
        }
        assert!(preprocess.apply(&pixels, 2, tile, Device::Cpu, Kind::Int64).is_err());
    }
}
