//! Which part of a picture training sees, and what becomes of it.

use std::cell::RefCell;

use anyhow::Result;
use fast_image_resize::images::{CroppedImage, Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::Colours;
use crate::ground::units::Size;

/// Smallest and largest share of width to height of a random part. Source: torchvision's defaults.
const ASPECT: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);
const TRIES: usize = 10;

/// A rectangle of a picture, pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::datasets) struct Crop {
    pub(in crate::datasets) left: f64,
    pub(in crate::datasets) top: f64,
    pub(in crate::datasets) width: f64,
    pub(in crate::datasets) height: f64,
}

impl Crop {
    /// The whole pixels that it touches of a picture of this size: left, top, width, height. Rounding carries none over the picture's edge.
    pub(in crate::datasets) fn pixels(&self, size: Size) -> [u32; 4] {
        let touched = |start: f64, length: f64, side: u32| {
            let first = (start as u32).min(side.saturating_sub(1));
            (first, ((start + length).ceil() as u32).clamp(first + 1, side.max(first + 1)) - first)
        };
        let ((left, width), (top, height)) = (touched(self.left, self.width, size.width), touched(self.top, self.height, size.height));
        [left, top, width, height]
    }
}

/// Random parts, their size and their colours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::datasets) struct Parts {
    pub(super) smallest_area: f64,
    pub(super) colours: Option<Colours>,
}

thread_local! {
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

impl Parts {
    /// A random rectangle: its share of the area uniform, its proportions uniform in their logarithm, then its place; whole pixels.
    /// Where ten tries do not fit, the largest one in the middle of allowed proportions.
    pub(in crate::datasets) fn part(&self, size: Size, random: &mut ChaCha8Rng) -> Crop {
        let (width, height) = (f64::from(size.width), f64::from(size.height));
        for _ in 0..TRIES {
            let area = width * height * random.random_range(self.smallest_area..=1.0);
            let aspect = random.random_range(ASPECT.0.ln()..ASPECT.1.ln()).exp();
            let (wide, high) = ((area * aspect).sqrt().round_ties_even(), (area / aspect).sqrt().round_ties_even());
            if (1.0..=width).contains(&wide) && (1.0..=height).contains(&high) {
                let left = random.random_range(0..=(width - wide) as u32);
                let top = random.random_range(0..=(height - high) as u32);
                return Crop { left: left.into(), top: top.into(), width: wide, height: high };
            }
        }
        let aspect = (width / height).clamp(ASPECT.0, ASPECT.1);
        let (wide, high) = if width / height > aspect { ((height * aspect).round(), height) } else { (width, (width / aspect).round()) };
        Crop { left: ((width - wide) / 2.0).floor(), top: ((height - high) / 2.0).floor(), width: wide, height: high }
    }

    /// The part of an RGB picture as a square of `side` pixels, bilinear with antialiasing, mirrored with probability ½, its colours changed.
    ///
    /// # Errors
    /// A part that does not lie inside the picture.
    pub(in crate::datasets) fn finish(
        &self,
        (pixels, size): (&[u8], Size),
        part: Crop,
        side: u32,
        mut random: ChaCha8Rng,
    ) -> Result<Vec<u8>> {
        let mut pixels = resized((pixels, size), part, side)?;
        if random.random::<bool>() {
            pixels.chunks_exact_mut(3 * side as usize).for_each(|row| row.as_chunks_mut::<3>().0.reverse());
        }
        if let Some(colours) = &self.colours {
            colours.apply(pixels.as_chunks_mut::<3>().0, &mut random);
        }
        Ok(pixels)
    }

    /// A changed copy of a small image: 3 planes of `side`² bytes, in and out.
    pub(super) fn of_small(&self, image: &[u8], side: usize, mut random: ChaCha8Rng) -> Result<Vec<u8>> {
        let plane = side * side;
        let mut interleaved = vec![0; 3 * plane];
        for (place, pixel) in interleaved.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            *pixel = [image[place], image[plane + place], image[2 * plane + place]];
        }
        let size = Size { width: side as u32, height: side as u32 };
        let part = self.part(size, &mut random);
        let changed = self.finish((&interleaved, size), part, side as u32, random)?;
        let mut planes = vec![0; 3 * plane];
        for (place, pixel) in changed.as_chunks::<3>().0.iter().enumerate() {
            [planes[place], planes[plane + place], planes[2 * plane + place]] = *pixel;
        }
        Ok(planes)
    }
}

/// A part of a picture as a square, bilinear with antialiasing; nothing outside the whole pixels of the part is looked at.
fn resized((pixels, size): (&[u8], Size), part: Crop, side: u32) -> Result<Vec<u8>> {
    let image = ImageRef::new(size.width, size.height, pixels, PixelType::U8x3)?;
    let [left, top, width, height] = part.pixels(size);
    let source = CroppedImage::new(&image, left, top, width, height)?;
    // Rounding must not carry the part over the edge.
    let within = |start: f64, first: u32, length: f64, side: u32| {
        let start = (start - f64::from(first)).max(0.0);
        (start, if start + length > f64::from(side) { (f64::from(side) - start).next_down() } else { length })
    };
    let (across, down) = (within(part.left, left, part.width, width), within(part.top, top, part.height, height));
    let mut target = Image::new(side, side, PixelType::U8x3);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .crop(across.0, down.0, across.1, down.1)
        .use_alpha(false);
    RESIZER.with_borrow_mut(|resizer| resizer.resize(&source, &mut target, &options))?;
    Ok(target.into_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::seed;

    const PHOTOGRAPHS: Parts = Parts { smallest_area: 0.08, colours: None };

    #[test]
    fn random_parts_lie_inside_and_have_the_stated_shares() {
        let size = Size { width: 500, height: 375 };
        let mut shares = Vec::new();
        for index in 0..4000 {
            let part = PHOTOGRAPHS.part(size, &mut seed::stream(1, &format!("{index}")));
            assert!(part.left >= 0.0 && part.top >= 0.0 && part.left + part.width <= 500.0 && part.top + part.height <= 375.0);
            assert!((0.74..=1.36).contains(&(part.width / part.height)), "{part:?}");
            shares.push(part.width * part.height / (500.0 * 375.0));
        }
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        // Uniform on 0.08–1 has mean 0.54; parts that do not fit are drawn again. The mean of those that fit, by integration: 0.4319.
        assert!((mean - 0.4319).abs() < 0.012, "{mean}");
        assert!(shares.iter().all(|share| (0.07..=1.0).contains(share)));
    }

    #[test]
    fn a_strip_gives_its_middle() {
        let part = PHOTOGRAPHS.part(Size { width: 1000, height: 10 }, &mut seed::stream(1, "strip"));
        assert_eq!(part, Crop { left: 493.0, top: 0.0, width: 13.0, height: 10.0 });
    }

    #[test]
    fn a_part_of_one_colour_takes_none_from_its_surroundings() {
        // Black around a white square of 20 pixels.
        let size = Size { width: 60, height: 60 };
        let inside = |place: u32| (20..40).contains(&place);
        let pixels: Vec<u8> = (0..60)
            .flat_map(|y| (0..60).map(move |x| (x, y)))
            .flat_map(|(x, y)| [if inside(x) && inside(y) { 255 } else { 0 }; 3])
            .collect();
        let part = Crop { left: 20.0, top: 20.0, width: 20.0, height: 20.0 };
        for side in [7, 20, 33] {
            assert!(resized((&pixels, size), part, side).unwrap().iter().all(|value| *value == 255), "{side}");
        }
    }
}
