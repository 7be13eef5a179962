//! Letters and flat shapes on pictures of pixels, in a face that comes with its package: no file of the machine is looked for.

use std::convert::Infallible;

use embedded_graphics::mono_font::iso_8859_1::{FONT_7X13, FONT_9X18_BOLD};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::prelude::{DrawTarget, Drawable, OriginDimensions, Pixel, Point, Size};
use embedded_graphics::text::{Baseline, Text};
use image::{Rgb, RgbImage};

/// Two sizes of one face.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Letters {
    Small,
    Large,
}

impl Letters {
    fn font(self) -> &'static MonoFont<'static> {
        match self {
            Self::Small => &FONT_7X13,
            Self::Large => &FONT_9X18_BOLD,
        }
    }

    /// Pixels that the text is wide.
    pub(super) fn width(self, text: &str) -> u32 {
        self.font().character_size.width * text.chars().count() as u32
    }

    pub(super) fn height(self) -> u32 {
        self.font().character_size.height
    }

    /// As much of the text as fits into `width` pixels, with an ellipsis where some is left out.
    pub(super) fn fitted(self, text: &str, width: u32) -> String {
        if self.width(text) <= width {
            return text.to_owned();
        }
        let letters = (width / self.font().character_size.width).saturating_sub(3) as usize;
        text.chars().take(letters).chain("...".chars()).collect()
    }
}

/// Writes `text` with its top-left corner at (x, y); what does not fit on the picture is cut off.
pub(super) fn write(image: &mut RgbImage, text: &str, (x, y): (u32, u32), letters: Letters, ink: Rgb<u8>) {
    let style = MonoTextStyle::new(letters.font(), Rgb888::new(ink.0[0], ink.0[1], ink.0[2]));
    let Ok(_) = Text::with_baseline(text, Point::new(x as i32, y as i32), style, Baseline::Top).draw(&mut Canvas(image));
}

/// Fills the rectangle from (left, top) up to, without, (right, bottom), as far as it lies on the picture.
pub(super) fn fill(image: &mut RgbImage, [left, top, right, bottom]: [u32; 4], colour: Rgb<u8>) {
    for y in top..bottom.min(image.height()) {
        for x in left..right.min(image.width()) {
            image.put_pixel(x, y, colour);
        }
    }
}

struct Canvas<'a>(&'a mut RgbImage);

impl OriginDimensions for Canvas<'_> {
    fn size(&self) -> Size {
        Size::new(self.0.width(), self.0.height())
    }
}

impl DrawTarget for Canvas<'_> {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(at, colour) in pixels {
            if let (Ok(x), Ok(y)) = (u32::try_from(at.x), u32::try_from(at.y))
                && x < self.0.width()
                && y < self.0.height()
            {
                self.0.put_pixel(x, y, Rgb([colour.r(), colour.g(), colour.b()]));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_leave_ink_inside_the_picture_only() {
        let mut image = RgbImage::from_pixel(30, 20, Rgb([255; 3]));
        write(&mut image, "µm and much more", (4, 2), Letters::Small, Rgb([0; 3]));
        assert!(image.pixels().any(|pixel| pixel.0 == [0; 3]));
        assert!((0..4).all(|x| (0..20).all(|y| image.get_pixel(x, y).0 == [255; 3])));
        assert_eq!((Letters::Small.width("µm"), Letters::Small.fitted("a long name", 49)), (14, "a lo...".to_owned()));
    }
}
