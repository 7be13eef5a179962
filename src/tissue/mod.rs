//! Tissue or background: a mask on a small picture of the slide.
//!
//! A mask is cheap on purpose: it decides which tiles are read at all. Every member answers the same question, so that
//! the choice is one word in the settings.

pub mod cleaning;
mod colour;
mod contours;
pub mod hsv;
mod ink;
mod median;
mod morphology;
pub mod none;
pub mod otsu;
pub mod quality;
mod texture;

use image::RgbImage;

use crate::ground::units::Size;

crate::registry! {
    /// How tissue is found, by the `name` in `[tile.tissue]`.
    pub enum TissueSettings {
        "hsv" => Hsv(hsv::HsvSettings),
        "otsu" => Otsu(otsu::OtsuSettings),
        "none" => Everything(none::NoneSettings),
    } default "hsv"
}

impl TissueSettings {
    /// The tissue in `image`, whose pixels are `mpp` µm wide.
    pub fn mask(&self, image: &RgbImage, mpp: f64) -> Mask {
        match self {
            Self::Hsv(settings) => settings.mask(image, mpp),
            Self::Otsu(settings) => settings.mask(image, mpp),
            Self::Everything(settings) => settings.mask(image),
        }
    }
}

/// Which pixels of a picture are tissue, with exact area shares in constant time.
#[derive(Debug, Clone, PartialEq)]
pub struct Mask {
    size: Size,
    cells: Vec<bool>,
    /// Tissue pixels above and left of each corner, `[height + 1, width + 1]`.
    sums: Vec<u32>,
}

impl Mask {
    /// `cells`: row by row, `width · height` of them.
    pub fn new(size: Size, cells: Vec<bool>) -> Self {
        let (width, height) = (size.width as usize, size.height as usize);
        assert_eq!(cells.len(), width * height, "a mask has one cell a pixel");
        let mut sums = vec![0_u32; (width + 1) * (height + 1)];
        for y in 0..height {
            let mut row = 0;
            for x in 0..width {
                row += u32::from(cells[y * width + x]);
                sums[(y + 1) * (width + 1) + x + 1] = sums[y * (width + 1) + x + 1] + row;
            }
        }
        Self { size, cells, sums }
    }

    /// The mask with a rectangle (left, top, right, bottom in pixels) made tissue, every pixel that it touches.
    pub fn filled(self, [left, top, right, bottom]: [f64; 4]) -> Self {
        let Self { size, mut cells, .. } = self;
        let within =
            |low: f64, high: f64, length: u32| (low.floor().max(0.0) as u32).min(length)..(high.ceil().max(0.0) as u32).min(length);
        for y in within(top, bottom, size.height) {
            for x in within(left, right, size.width) {
                cells[(y * size.width + x) as usize] = true;
            }
        }
        Self::new(size, cells)
    }

    /// Size in pixels of the picture it was made from.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Whether the pixel is tissue; false outside the picture.
    pub fn at(&self, x: u32, y: u32) -> bool {
        x < self.size.width && y < self.size.height && self.cells[(y * self.size.width + x) as usize]
    }

    /// Share of tissue in the whole picture, 0–1.
    pub fn coverage(&self) -> f32 {
        self.share(0.0, 0.0, f64::from(self.size.width), f64::from(self.size.height))
    }

    /// Share of tissue in a rectangle given by its edges in pixels, 0–1; edges may fall inside pixels, and what lies
    /// outside the picture is no tissue.
    pub fn share(&self, left: f64, top: f64, right: f64, bottom: f64) -> f32 {
        let area = (right - left) * (bottom - top);
        if area <= 0.0 {
            return 0.0;
        }
        let tissue = self.sum_to(right, bottom) - self.sum_to(left, bottom) - self.sum_to(right, top) + self.sum_to(left, top);
        (tissue / area).clamp(0.0, 1.0) as f32
    }

    /// Tissue area above and left of a point. Inside a pixel the mask is constant, so bilinear interpolation is exact.
    fn sum_to(&self, x: f64, y: f64) -> f64 {
        let x = x.clamp(0.0, f64::from(self.size.width));
        let y = y.clamp(0.0, f64::from(self.size.height));
        let (left, top) = (x.floor(), y.floor());
        let at = |x: f64, y: f64| {
            let column = (x as usize).min(self.size.width as usize);
            let row = (y as usize).min(self.size.height as usize);
            f64::from(self.sums[row * (self.size.width as usize + 1) + column])
        };
        let (u, v) = (x - left, y - top);
        let upper = at(left, top) * (1.0 - u) + at(left + 1.0, top) * u;
        let lower = at(left, top + 1.0) * (1.0 - u) + at(left + 1.0, top + 1.0) * u;
        upper * (1.0 - v) + lower * v
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact_areas() {
        let size = Size { width: 3, height: 2 };
        let mask = Mask::new(size, vec![true, false, true, false, true, false]);
        assert_eq!(mask.coverage(), 0.5);
        assert_eq!(mask.share(0.0, 0.0, 1.0, 1.0), 1.0);
        assert_eq!(mask.share(0.5, 0.0, 1.5, 1.0), 0.5);
        assert_eq!(mask.share(0.25, 0.5, 2.0, 1.25), ((0.75 * 0.5 + 1.0 * 0.25) / (1.75 * 0.75)) as f32);
        assert_eq!(mask.share(2.0, 0.0, 4.0, 1.0), 0.5);
    }
}
