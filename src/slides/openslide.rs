//! Slides through the OpenSlide library: Aperio, Hamamatsu, MIRAX, Leica, Ventana, Philips, DICOM, generic TIFF and others.
//!
//! Goode et al., OpenSlide: a vendor-neutral software foundation for digital pathology, J Pathol Inform 2013.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Result, anyhow, bail};
use image::RgbImage;
use openslide_rs::errors::OpenSlideError;
use openslide_rs::{Address, OpenSlide, Region};

use super::{Slide, display_name, ome};
use crate::ground::reader::Reader;
use crate::ground::units::{Coord, Geometry, LevelGeometry, Mpp, Size};

/// METHOD: a TIFF resolution coarser than this is a printing resolution (72 dpi = 353 µm, 300 dpi = 85 µm) left by an
/// image editor, not a microscope's; a slide that states one is treated as one that states none.
const COARSEST_TIFF_MPP: f64 = 50.0;

/// A slide opened by OpenSlide.
///
/// Memory: a cache of decoded tiles, and what is asked for with 7 bytes a pixel.
pub(super) struct OpenSlideReader {
    path: PathBuf,
    name: String,
    /// Replaced by a fresh one after an error: OpenSlide refuses every read after the first that failed.
    slide: RwLock<Arc<OpenSlide>>,
    geometry: Geometry,
    reason: Option<String>,
    cache_bytes: usize,
}

impl OpenSlideReader {
    /// A slide that keeps `cache_bytes` of decoded tiles.
    ///
    /// # Errors
    /// A missing file, an unknown format, a damaged file; one line each.
    pub(super) fn open(path: &Path, cache_bytes: usize) -> Result<Self> {
        let name = display_name(path);
        let slide = OpenSlide::new_with_cache(path, cache_bytes).map_err(|error| cannot_open(&name, path, &error))?;
        let geometry = geometry(&slide);
        if geometry.levels.is_empty() || geometry.canvas().width == 0 || geometry.canvas().height == 0 {
            bail!("'{name}' has no pixels; export the slide again");
        }
        Ok(Self { path: path.to_owned(), name, slide: RwLock::new(Arc::new(slide)), geometry, reason: None, cache_bytes })
    }

    /// The same, with the reason why no faster reader took it.
    pub(super) fn because(self, reason: String) -> Self {
        Self { reason: Some(reason), ..self }
    }

    /// Width and height of a level's stored tiles, if it has any.
    pub(super) fn tile_size(&self, level: usize) -> Option<(u32, u32)> {
        let side = |name: &str| self.slide().property_value(&format!("openslide.level[{level}].tile-{name}")).ok()?.parse().ok();
        side("width").zip(side("height"))
    }

    /// What stands where nothing was scanned.
    pub(super) fn background(&self) -> [u8; 3] {
        let stated = self.slide().property_value("openslide.background-color").ok();
        let colour = stated.filter(|text| text.len() == 6).and_then(|text| u32::from_str_radix(&text, 16).ok());
        colour.map_or([255; 3], |colour| [(colour >> 16) as u8, (colour >> 8) as u8, colour as u8])
    }

    fn slide(&self) -> Arc<OpenSlide> {
        self.slide.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads by the shared handle. Where that has failed, for this place or for another thread's, a handle of its own
    /// tells which, and a fresh one takes the shared one's place.
    fn region(&self, region: &Region) -> std::result::Result<RgbImage, OpenSlideError> {
        let shared = self.slide();
        // The crate asks OpenSlide for its error after every read and lays premultiplied pixels over the background colour.
        if let Ok(image) = shared.read_image_rgb(region) {
            return Ok(image);
        }
        let own = Arc::new(OpenSlide::new_with_cache(&self.path, self.cache_bytes)?);
        let outcome = own.read_image_rgb(region);
        let fresh = if outcome.is_ok() { own } else { Arc::new(OpenSlide::new_with_cache(&self.path, self.cache_bytes)?) };
        let mut current = self.slide.write().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current, &shared) {
            *current = fresh;
        }
        outcome
    }
}

impl Slide for OpenSlideReader {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn stored_tile(&self, level: usize) -> Option<Size> {
        self.tile_size(level).map(|(width, height)| Size { width, height })
    }

    fn why_openslide(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    fn read(&self, at: Coord, size: Size, level: usize) -> Result<RgbImage> {
        let place = || format!("'{}' at x={} y={} ({}x{} px of level {level})", self.name, at.x, at.y, size.width, size.height);
        let (Ok(x), Ok(y)) = (u32::try_from(at.x), u32::try_from(at.y)) else {
            bail!("{}: the place is outside the slide", place());
        };
        let region =
            Region { address: Address { x, y }, level: u32::try_from(level)?, size: openslide_rs::Size { w: size.width, h: size.height } };
        self.region(&region).map_err(|error| {
            anyhow!("cannot read {}: {}; the file is damaged there, copy or export it again", place(), reason(&error, &self.path))
        })
    }
}

pub(super) fn version() -> Option<String> {
    OpenSlide::version().ok()
}

/// What a slide file carries beside its pixels.
pub(super) struct Inventory {
    /// Names of tags and the lengths of their values in characters.
    pub(super) tags: Vec<(String, usize)>,
    /// Names of attached pictures, which are not opened.
    pub(super) pictures: Vec<String>,
}

/// # Errors
/// As [`OpenSlideReader::open`].
pub(super) fn inventory(path: &Path) -> Result<Inventory> {
    let name = display_name(path);
    let slide = OpenSlide::new(path).map_err(|error| cannot_open(&name, path, &error))?;
    let names = slide.property_names().map_err(|error| cannot_open(&name, path, &error))?;
    let length = |tag: &String| slide.property_value(tag).map_or(0, |value| value.trim().chars().count());
    let pictures = slide.associated_image_names().map_err(|error| cannot_open(&name, path, &error))?;
    // OpenSlide's own names repeat the vendor's.
    let tags = names.into_iter().filter(|tag| !tag.starts_with("openslide.")).map(|tag| (tag.clone(), length(&tag))).collect();
    Ok(Inventory { tags, pictures })
}

fn geometry(slide: &OpenSlide) -> Geometry {
    let levels = slide
        .all_level_dimensions()
        .iter()
        .zip(slide.all_level_downsamples())
        .map(|(size, &downsample)| LevelGeometry { size: Size { width: size.w, height: size.h }, downsample })
        .collect();
    let vendor = slide.property_value("openslide.vendor").unwrap_or_else(|_| "unknown".into());
    Geometry { levels, mpp: mpp(slide, &vendor), bounds: bounds(slide), vendor, reader: Reader::OpenSlide, decode_scales: vec![1] }
}

/// `openslide.mpp-*`, else OME-XML, else the TIFF resolution in pixels per centimetre or inch.
fn mpp(slide: &OpenSlide, vendor: &str) -> Option<Mpp> {
    let valid = |x: f64, y: f64| (x.is_finite() && y.is_finite() && x > 0.0 && y > 0.0).then_some(Mpp { x, y });
    let stated = number(slide, "openslide.mpp-x").zip(number(slide, "openslide.mpp-y")).and_then(|(x, y)| valid(x, y));
    // OpenSlide derives a generic TIFF's pixel size from the same tags as below, whatever they say.
    if let Some(mpp) = stated.filter(|mpp| vendor != "generic-tiff" || mpp.mean() <= COARSEST_TIFF_MPP) {
        return Some(mpp);
    }
    if let Some(mpp) = slide.property_value("tiff.ImageDescription").ok().and_then(|text| ome::pixel_size(&text)) {
        return Some(mpp);
    }
    let micrometres_per_unit = match slide.property_value("tiff.ResolutionUnit").ok()?.as_str() {
        "centimeter" => 10_000.0,
        "inch" => 25_400.0,
        _ => return None,
    };
    let (x, y) = number(slide, "tiff.XResolution").zip(number(slide, "tiff.YResolution"))?;
    valid(micrometres_per_unit / x, micrometres_per_unit / y).filter(|mpp| mpp.mean() <= COARSEST_TIFF_MPP)
}

fn bounds(slide: &OpenSlide) -> Option<(Coord, Size)> {
    let whole = |name: &str| slide.property_value(name).ok()?.parse::<u32>().ok();
    let (x, y) = (whole("openslide.bounds-x")?, whole("openslide.bounds-y")?);
    let (width, height) = (whole("openslide.bounds-width")?, whole("openslide.bounds-height")?);
    Some((Coord { x: x.into(), y: y.into() }, Size { width, height }))
}

fn number(slide: &OpenSlide, property: &str) -> Option<f64> {
    slide.property_value(property).ok()?.trim().parse().ok()
}

fn cannot_open(name: &str, path: &Path, error: &OpenSlideError) -> anyhow::Error {
    match error {
        OpenSlideError::MissingFile(_) => anyhow!("'{name}' does not exist; check the path"),
        OpenSlideError::UnsupportedFile(_) => anyhow!(
            "'{name}' is no slide that OpenSlide can read (not a known format, or not a tiled pyramid); convert it to a pyramidal tiled TIFF"
        ),
        // OpenSlide's own text may repeat the path; outputs hold none.
        _ => anyhow!(
            "'{name}' cannot be opened: {}; the file is damaged or of an unsupported kind, copy or export it again",
            reason(error, path)
        ),
    }
}

/// OpenSlide's words without the folder: they may name the slide and its companions by path, and outputs hold none.
fn reason(error: &OpenSlideError, path: &Path) -> String {
    let text = match error {
        OpenSlideError::LibraryError(text) => text.clone(),
        OpenSlideError::MissingFile(_) => return "the file is gone".to_owned(),
        other => other.to_string(),
    };
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => text.replace(&format!("{}/", folder.display()), ""),
        None => text,
    }
}
