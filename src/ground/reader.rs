//! Which code brought a slide's pixels: a plan names it, so that bags can be made again from the same ones.

use serde::{Deserialize, Serialize};

/// A reader of slides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reader {
    /// The OpenSlide library; also the reader of plans that name none.
    #[default]
    #[serde(rename = "openslide")]
    OpenSlide,
    /// Stored JPEG tiles of a TIFF, decoded by libjpeg-turbo.
    JpegTiles,
}

impl std::fmt::Display for Reader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::OpenSlide => "openslide",
            Self::JpegTiles => "jpeg-tiles",
        })
    }
}
