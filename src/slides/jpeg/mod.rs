//! Pictures as JPEG, by libjpeg-turbo: written six times faster than by a plain encoder, with the same bytes every time; read at a fraction
//! of their size, or in part, where that is all that is wanted.

use anyhow::{Result, ensure};
use image::RgbImage;
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

use crate::ground::units::Size;

mod turbo;

use turbo::{Header, Region};

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
    header: Header,
    /// Its full size.
    pub size: Size,
}

/// Pixels of a part of a picture.
pub struct Part {
    /// RGB.
    pub image: RgbImage,
    /// Where it begins in the shrunk picture, pixels.
    pub left: u32,
    /// As `left`, from the top.
    pub top: u32,
}

impl<'a> Stored<'a> {
    /// Reads the header; `None` for what is no JPEG.
    ///
    /// # Errors
    /// A picture of more than 100 megapixels.
    pub fn open(bytes: &'a [u8]) -> Result<Option<Self>> {
        let Some(header) = turbo::with(|turbo| Ok(turbo.header(bytes)))? else { return Ok(None) };
        let Header { width, height, .. } = header;
        ensure!(u64::from(width) * u64::from(height) <= MOST_PIXELS, "it claims {width} × {height} px, more than any photograph has");
        Ok(Some(Self { bytes, header, size: Size { width, height } }))
    }

    /// The size at 1/`scale`.
    pub fn shrunk(&self, scale: u32) -> Size {
        Size { width: self.size.width.div_ceil(scale), height: self.size.height.div_ceil(scale) }
    }

    /// RGB pixels at 1/`scale` of the size, `scale` 1, 2, 4 or 8: the lowest frequencies of each block of 8 pixels, the others are never
    /// computed. Grey becomes RGB.
    ///
    /// METHOD: printing colours are taken as inverted, as Adobe's programs write them, and become RGB without a colour profile: Pillow's way.
    ///
    /// # Errors
    /// What libjpeg-turbo says, also of a stream that ends early: pixels that it would make up are no pixels.
    pub fn decode(&self, scale: u32) -> Result<RgbImage> {
        let Size { width, height } = self.shrunk(scale);
        self.region(scale, Region { left: 0, top: 0, width, height })
    }

    /// [`decode`](Self::decode) of at least the rectangle `left, top, width, height` of the shrunk picture, with the same pixels. What lies
    /// below it is not read at all, what lies beside it is not transformed; an end that is missing is seen in the whole picture only.
    ///
    /// # Errors
    /// As [`decode`](Self::decode); a rectangle that is not inside the picture.
    pub fn decode_part(&self, scale: u32, [left, top, width, height]: [u32; 4]) -> Result<Part> {
        let whole = self.shrunk(scale);
        let Some(block) = self.header.block.map(|block| (block / scale).max(1)) else {
            return Ok(Part { image: self.decode(scale)?, left: 0, top: 0 });
        };
        // Colours are smoothed across the edges of blocks: with a block more on the left, on top and on the right, and two rows below, the
        // rectangle's own pixels are those of the whole picture.
        let before = |start: u32| (start / block).saturating_sub(1) * block;
        let (from_left, from_top) = (before(left), before(top));
        let right = (left.saturating_add(width).div_ceil(block) + 1).saturating_mul(block).min(whole.width);
        let bottom = top.saturating_add(height).saturating_add(2).min(whole.height);
        ensure!(from_left < right && from_top < bottom, "no part of a picture of {} × {} px", whole.width, whole.height);
        let region = Region { left: from_left, top: from_top, width: right - from_left, height: bottom - from_top };
        Ok(Part { image: self.region(scale, region)?, left: from_left, top: from_top })
    }

    fn region(&self, scale: u32, region: Region) -> Result<RgbImage> {
        let format = if self.header.printing { PixelFormat::CMYK } else { PixelFormat::RGB };
        let mut pixels = turbo::with(|turbo| turbo.decode(self.bytes, scale, region, format))?;
        if self.header.printing {
            pixels = pixels.as_chunks::<4>().0.iter().flat_map(printed).collect();
        }
        Ok(RgbImage::from_raw(region.width, region.height, pixels).expect("width × height × 3 bytes"))
    }
}

/// Inverted cyan, magenta, yellow and black → red, green and blue.
fn printed(&[cyan, magenta, yellow, black]: &[u8; 4]) -> [u8; 3] {
    [cyan, magenta, yellow].map(|ink| {
        let product = u32::from(255 - ink) * u32::from(black) + 128;
        black - (((product >> 8) + product) >> 8) as u8
    })
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

    /// Coarse and fine structure in all colours.
    fn busy(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([(x * x / 7 + 3 * y) as u8, (y * y / 5 + x * 11) as u8, ((x ^ y) * 5) as u8]))
    }

    #[test]
    fn a_part_has_the_pixels_of_the_whole() {
        let picture = busy(203, 157);
        for subsampling in [Subsamp::None, Subsamp::Sub2x1, Subsamp::Sub2x2, Subsamp::Sub1x2, Subsamp::Sub4x1, Subsamp::Gray] {
            let mut compressor = Compressor::new().unwrap();
            compressor.set_subsamp(subsampling).unwrap();
            let pixels = picture.as_raw().as_slice();
            let image = Image { pixels, width: 203, pitch: 3 * 203, height: 157, format: PixelFormat::RGB };
            let bytes = compressor.compress_to_vec(image).unwrap();
            let stored = Stored::open(&bytes).unwrap().expect("a JPEG");
            for scale in [1, 2, 4, 8] {
                let whole = stored.decode(scale).unwrap();
                for index in 0..60u32 {
                    let (left, top) = (index * 31 % whole.width(), index * 17 % whole.height());
                    let (width, height) = (1 + index * 13 % (whole.width() - left), 1 + index * 7 % (whole.height() - top));
                    let part = stored.decode_part(scale, [left, top, width, height]).unwrap();
                    for (x, y) in (left..left + width).flat_map(|x| (top..top + height).map(move |y| (x, y))) {
                        let found = part.image.get_pixel(x - part.left, y - part.top);
                        assert_eq!(found, whole.get_pixel(x, y), "{subsampling:?} 1/{scale} {left},{top} {width}×{height} at {x},{y}");
                    }
                }
            }
        }
    }

    #[test]
    fn printing_colours_become_red_green_and_blue() {
        // Ink by ink, inverted as Adobe stores it: 255 is none.
        let inks =
            [[255, 255, 255, 255], [0, 255, 255, 255], [255, 0, 255, 255], [255, 255, 0, 255], [255, 255, 255, 0], [128, 64, 200, 220]];
        let wanted = [[255, 255, 255], [0, 255, 255], [255, 0, 255], [255, 255, 0], [0, 0, 0], [110, 55, 173]];
        for (inks, wanted) in inks.into_iter().zip(wanted) {
            assert_eq!(printed(&inks), wanted);
            let pixels = inks.repeat(32 * 32);
            let mut compressor = Compressor::new().unwrap();
            compressor.set_quality(100).unwrap();
            compressor.set_subsamp(Subsamp::None).unwrap();
            let image = Image { pixels: &pixels[..], width: 32, pitch: 128, height: 32, format: PixelFormat::CMYK };
            let bytes = compressor.compress_to_vec(image).unwrap();
            let stored = Stored::open(&bytes).unwrap().expect("a JPEG");
            for image in [stored.decode(1).unwrap(), stored.decode(4).unwrap(), stored.decode_part(1, [9, 9, 3, 3]).unwrap().image] {
                assert!(
                    image.pixels().all(|pixel| pixel.0.iter().zip(wanted).all(|(found, wanted)| found.abs_diff(wanted) <= 3)),
                    "{inks:?}"
                );
            }
        }
    }
}
