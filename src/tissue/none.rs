//! No choice: everything on the slide is read. For cohorts that were cut to tissue before, and for tests.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::Mask;
use crate::ground::units::Size;

/// Settings of `none`: there are none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct NoneSettings {}

impl NoneSettings {
    pub(super) fn mask(&self, image: &RgbImage) -> Mask {
        let (width, height) = image.dimensions();
        Mask::new(Size { width, height }, vec![true; (width * height) as usize])
    }
}
