//! Pictures as JPEG, by libjpeg-turbo: written six times faster than by a plain encoder, with the same bytes every time; read at a fraction
//! of their size where that is all that is wanted.

use anyhow::{Result, anyhow, ensure};
use image::RgbImage;
use turbojpeg::{Colorspace, Compressor, Decompressor, Image, PixelFormat, ScalingFactor, Subsamp};

use crate::ground::units::Size;

/// The picture as JPEG bytes of a quality from 1 to 100, its colours not subsampled.
///
/// # Errors
/// A picture of more than 65,535 px along a side.
pub fn encode(picture: &RgbImage, quality: u8) -> Result<Vec<u8>> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let mut compressor = Compressor::new()?;
    compressor.set_quality(quality.into())?;
    compressor.set_subsamp(Subsamp::None)?;
    let pixels = picture.as_raw().as_slice();
    Ok(compressor.compress_to_vec(Image { pixels, width, pitch: 3 * width, height, format: PixelFormat::RGB })?)
}

/// Pixels that a picture may have: 100 megapixels. A damaged header may claim any number.
const MOST_PIXELS: u64 = 100 << 20;

/// A JPEG stream in memory.
pub struct Stored<'a> {
    bytes: &'a [u8],
    /// Its full size.
    pub size: Size,
}

impl<'a> Stored<'a> {
    /// Reads the header; `None` for what libjpeg-turbo does not turn into RGB: no JPEG at all, or one in printing colours.
    ///
    /// # Errors
    /// A picture of more than 100 megapixels.
    pub fn open(bytes: &'a [u8]) -> Result<Option<Self>> {
        let Ok(header) = Decompressor::new()?.read_header(bytes) else { return Ok(None) };
        if matches!(header.colorspace, Colorspace::CMYK | Colorspace::YCCK) {
            return Ok(None);
        }
        let (width, height) = (header.width as u64, header.height as u64);
        ensure!(width * height <= MOST_PIXELS, "it claims {width} × {height} px, more than any photograph has");
        Ok(Some(Self { bytes, size: Size { width: width as u32, height: height as u32 } }))
    }

    /// RGB pixels at 1/`scale` of the size, `scale` 1, 2, 4 or 8: the lowest frequencies of each block of 8 pixels, the others are never
    /// computed. Grey becomes RGB.
    ///
    /// # Errors
    /// What libjpeg-turbo says, also of a stream that ends early: pixels that it would make up are no pixels.
    pub fn decode(&self, scale: u32) -> Result<RgbImage> {
        let factor = ScalingFactor::new(1, scale as usize);
        let mut turbo = Decompressor::new()?;
        turbo.set_scaling_factor(factor)?;
        let (width, height) = (factor.scale(self.size.width as usize), factor.scale(self.size.height as usize));
        let mut pixels = vec![0; width * height * 3];
        let image = Image { pixels: pixels.as_mut_slice(), width, pitch: width * 3, height, format: PixelFormat::RGB };
        turbo.decompress(self.bytes, image).map_err(|error| anyhow!("libjpeg-turbo: {error}"))?;
        Ok(RgbImage::from_raw(width as u32, height as u32, pixels).expect("width × height × 3 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn the_picture_comes_back_nearly() {
        let picture = RgbImage::from_fn(70, 30, |x, y| Rgb([3 * x as u8, 8 * y as u8, 100]));
        let bytes = encode(&picture, 95).unwrap();
        assert_eq!(bytes, encode(&picture, 95).unwrap());
        let back = image::load_from_memory(&bytes).unwrap().to_rgb8();
        assert_eq!(back.dimensions(), picture.dimensions());
        assert!(picture.as_raw().iter().zip(back.as_raw()).all(|(a, b)| a.abs_diff(*b) < 24));

        let stored = Stored::open(&bytes).unwrap().expect("a JPEG");
        assert_eq!(stored.size, Size { width: 70, height: 30 });
        let whole = stored.decode(1).unwrap();
        assert!(picture.as_raw().iter().zip(whole.as_raw()).all(|(a, b)| a.abs_diff(*b) < 24));
        let half = stored.decode(2).unwrap();
        assert_eq!(half.dimensions(), (35, 15));
        assert!(half.get_pixel(10, 5)[0].abs_diff(picture.get_pixel(20, 10)[0]) < 24);
        assert!(Stored::open(&bytes[..bytes.len() / 2]).unwrap().unwrap().decode(1).is_err(), "half a stream is no picture");
        assert!(Stored::open(b"no picture").unwrap().is_none());
    }
}
