//! The region of interest: which tiles lie inside, or outside, of what people drew on the slide.
//!
//! It composes with tissue: a tile is kept if it has enough of both. Borders are those of the drawing, not of the coarse mask.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::ground::polygon::{Polygon, Region};
use crate::ground::units::{Coord, Size};
use crate::slides::SlideFile;
use crate::store::annotations::{self, picture};
use crate::store::digest;
use crate::tissue::Mask;

/// Settings of the region of interest, `[tile.roi]`; they matter only where annotations are given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RoiSettings {
    /// Classes (QuPath) or groups (ASAP) whose outlines are the region; empty means every outline.
    pub classes: Vec<String>,
    /// Classes or groups that are cut out of it, wherever they lie.
    pub except: Vec<String>,
    /// Keep what lies outside instead.
    pub outside: bool,
    /// Smallest share of a tile that must lie there, above 0, at most 1.
    pub min_share: f64,
    /// Where the annotations' coordinates begin.
    pub origin: Origin,
    /// What becomes of a slide on which nothing is drawn.
    pub missing: Missing,
}

impl Default for RoiSettings {
    fn default() -> Self {
        Self { classes: Vec::new(), except: Vec::new(), outside: false, min_share: 0.5, origin: Origin::Canvas, missing: Missing::Refuse }
    }
}

impl RoiSettings {
    /// # Errors
    /// A share that chooses nothing.
    pub fn validate(&self) -> Result<()> {
        if !(self.min_share > 0.0 && self.min_share <= 1.0) {
            bail!("tile.roi.min-share is {}; it wants a share above 0, at most 1", self.min_share);
        }
        Ok(())
    }
}

/// Where (0, 0) of the annotations is. Formats without bounds have both in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// At the corner of the whole canvas: ASAP, and this program.
    Canvas,
    /// At the corner of the scanned area: QuPath, on MIRAX and other slides with bounds.
    Bounds,
}

/// A slide without an annotation file, or without an outline of the classes that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// The slide fails by name.
    Refuse,
    /// The slide is left out by name.
    Skip,
}

/// Why a slide was left out, as [`Missing::Skip`] wants it.
#[derive(Debug)]
pub struct Skipped(String);

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skipped {}

/// Endings of annotation files, in a folder that names them by slide.
const ENDINGS: [&str; 4] = ["geojson", "json", "xml", PICTURE];
const PICTURE: &str = "png";

/// What was drawn on one slide.
#[derive(Debug)]
pub struct Roi {
    drawn: Drawn,
    settings: RoiSettings,
    /// The annotation file, for messages.
    name: String,
}

#[derive(Debug)]
enum Drawn {
    Outlines(Region),
    Painted(Mask),
}

/// How annotation files of a slide may be called, but for their ending: its id, or its file name.
#[derive(Debug, Clone)]
pub struct Names {
    /// File name without its last extension.
    pub id: String,
    /// Name of the slide's file; may be the same.
    pub file: String,
}

impl Names {
    /// Of a file on disk, whose id and file name may be pseudonyms elsewhere.
    fn on_disk(slide: &SlideFile) -> Self {
        Self { id: slide.true_id().to_owned(), file: slide.path.file_name().unwrap_or_default().to_string_lossy().into_owned() }
    }
}

/// The slide's file in `given`, a folder or a file: `<id>.geojson`, `.json`, `.xml` or `.png`, or the slide's file name with one of
/// these added.
///
/// # Errors
/// Two files for the slide.
pub fn find(given: &Path, slide: &Names) -> Result<Option<PathBuf>> {
    if given.is_file() {
        return Ok(Some(given.to_owned()));
    }
    let mut stems = vec![&slide.id, &slide.file];
    stems.dedup();
    let names = stems.iter().flat_map(|stem| ENDINGS.iter().map(move |ending| format!("{stem}.{ending}")));
    let found: Vec<String> = names.filter(|name| given.join(name).is_file()).collect();
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(given.join(one))),
        [one, other, ..] => bail!("there are two annotation files for this slide, '{one}' and '{other}'; keep one"),
    }
}

/// A digest over the annotation files of `slides`, for the recipe.
///
/// # Errors
/// `given` does not exist, or is one file for several slides; a file that cannot be read.
pub fn digest<'a>(given: &Path, slides: impl ExactSizeIterator<Item = &'a SlideFile>) -> Result<String> {
    digest_of(given, slides.map(|slide| (slide.id.as_str(), Names::on_disk(slide))))
}

/// As [`digest`], of slides by their ids.
///
/// # Errors
/// As [`digest`].
pub fn digest_of<'a>(given: &Path, slides: impl ExactSizeIterator<Item = (&'a str, Names)>) -> Result<String> {
    let name = given.file_name().unwrap_or(given.as_os_str()).to_string_lossy();
    ensure!(
        given.exists(),
        "annotations: '{name}' does not exist; give a folder of annotation files named by slide, or one file for one slide"
    );
    ensure!(
        !given.is_file() || slides.len() <= 1,
        "annotations: '{name}' is one file for {} slides; give a folder with a file for each, named by slide",
        slides.len()
    );
    let mut digests = Vec::new();
    for (id, names) in slides {
        // Two files for a slide are that slide's failure, later.
        let file = find(given, &names).unwrap_or_default();
        digests.push((id, file.map(|file| digest::file(&file)).transpose()?));
    }
    Ok(digest::bytes(serde_json::to_string(&digests)?.as_bytes()))
}

impl Roi {
    /// Reads what is drawn on `slide`; `given` is a folder of files named by slide, or the one file.
    ///
    /// # Errors
    /// Nothing drawn on the slide (as [`Skipped`] if the settings want that), two files, a damaged file.
    pub fn read(given: &Path, slide: &SlideFile, settings: &RoiSettings) -> Result<Self> {
        Self::read_named(given, &Names::on_disk(slide), settings)
    }

    /// As [`Roi::read`], of a slide by its names.
    ///
    /// # Errors
    /// As [`Roi::read`].
    pub fn read_named(given: &Path, slide: &Names, settings: &RoiSettings) -> Result<Self> {
        let nothing = |reason: String| match settings.missing {
            Missing::Refuse => anyhow::Error::msg(format!("{reason}, or leave such slides out with tile.roi.missing=skip")),
            Missing::Skip => Skipped(reason).into(),
        };
        let Some(path) = find(given, slide)? else {
            let wanted = ENDINGS.map(|ending| format!("'{}.{ending}'", slide.id)).join(", ");
            return Err(nothing(format!("nothing is drawn on this slide: the annotations' folder has none of {wanted}; add one")));
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let settings = settings.clone();
        if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case(PICTURE)) {
            ensure!(
                settings.classes.is_empty() && settings.except.is_empty(),
                "'{name}' is a mask and has no classes; draw outlines, or ask for none"
            );
            let picture = picture::read(&path)?;
            if !settings.outside && !picture.inside.contains(&true) {
                return Err(nothing(format!("nothing is painted in '{name}'; paint something")));
            }
            return Ok(Self { drawn: Drawn::Painted(Mask::new(picture.size, picture.inside)), settings, name });
        }
        let annotations = annotations::read(&path)?;
        let region = annotations.region(&settings.classes, &settings.except);
        if region.outlines.is_empty() && !settings.outside {
            let there: Vec<String> = annotations
                .outlines_by_group()
                .into_iter()
                .map(|(group, count)| if group.is_empty() { format!("{count} without a class") } else { format!("'{group}' ({count})") })
                .collect();
            let there = if there.is_empty() { "no outlines at all".to_owned() } else { there.join(", ") };
            let asked =
                if settings.classes.is_empty() { String::new() } else { format!(" of the class {}", settings.classes.join(" or ")) };
            return Err(nothing(format!("no outline{asked} in '{name}', which has {there}; draw one")));
        }
        Ok(Self { drawn: Drawn::Outlines(region), settings, name })
    }

    /// Moves what was drawn to its place on the canvas.
    ///
    /// # Errors
    /// Outlines that lie wholly beside the canvas, a mask of another shape: they belong to another slide.
    pub fn placed(self, canvas: Size, bounds: Option<(Coord, Size)>) -> Result<Placed> {
        let bounds = bounds.filter(|(corner, size)| (corner.x, corner.y) != (0, 0) || *size != canvas);
        let (corner, size) = match (self.settings.origin, bounds) {
            (Origin::Bounds, Some(bounds)) => bounds,
            _ => (Coord { x: 0, y: 0 }, canvas),
        };
        let drawn = match self.drawn {
            Drawn::Outlines(region) => {
                let by = [corner.x as f64, corner.y as f64];
                let moved = |polygons: Vec<Polygon>| polygons.into_iter().map(|polygon| polygon.moved(by)).collect();
                let region = Region { outlines: moved(region.outlines), holes: moved(region.holes) };
                if !region.outlines.is_empty() && !region.outlines.iter().any(|polygon| touches(polygon, canvas)) {
                    let [x, y] = region.outlines[0].ring()[0];
                    bail!(
                        "everything drawn in '{}' lies beside the slide of {}x{} px, the first point at x={x}, y={y}; draw on this slide, \
                         in pixels of its finest level",
                        self.name,
                        canvas.width,
                        canvas.height
                    );
                }
                PlacedDrawing::Outlines(region)
            }
            Drawn::Painted(mask) => {
                let scale = f64::from(size.width) / f64::from(mask.size().width);
                let off = (f64::from(size.height) / scale - f64::from(mask.size().height)).abs();
                ensure!(
                    off <= 1.0,
                    "the mask '{}' of {}x{} px has another shape than the slide's {}x{} px; export it of this slide, uncut",
                    self.name,
                    mask.size().width,
                    mask.size().height,
                    size.width,
                    size.height
                );
                PlacedDrawing::Painted { mask, corner, size }
            }
        };
        Ok(Placed { drawn, outside: self.settings.outside, min_share: self.settings.min_share })
    }
}

/// Whether the polygon's box and the canvas have a point in common.
fn touches(polygon: &Polygon, canvas: Size) -> bool {
    let within = |axis: usize, length: u32| {
        let at = || polygon.ring().iter().map(|point| point[axis]);
        at().any(|at| at < f64::from(length)) && at().any(|at| at > 0.0)
    };
    within(0, canvas.width) && within(1, canvas.height)
}

/// A region of interest in level-0 pixels of the canvas.
#[derive(Debug)]
pub struct Placed {
    drawn: PlacedDrawing,
    outside: bool,
    min_share: f64,
}

#[derive(Debug)]
enum PlacedDrawing {
    Outlines(Region),
    /// A mask that covers the rectangle at `corner`.
    Painted {
        mask: Mask,
        corner: Coord,
        size: Size,
    },
}

impl Placed {
    /// Whether each square of `side` level-0 pixels has enough of the wanted side; corners row by row.
    pub fn keeps(&self, corners: &[Coord], side: u32) -> Vec<bool> {
        let inside = match &self.drawn {
            PlacedDrawing::Outlines(region) => region.shares(corners, side),
            PlacedDrawing::Painted { mask, corner, size } => {
                let scale_x = f64::from(mask.size().width) / f64::from(size.width);
                let scale_y = f64::from(mask.size().height) / f64::from(size.height);
                let share = |at: &Coord| {
                    let (left, top, side) = ((at.x - corner.x) as f64, (at.y - corner.y) as f64, f64::from(side));
                    mask.share(left * scale_x, top * scale_y, (left + side) * scale_x, (top + side) * scale_y)
                };
                corners.iter().map(share).collect()
            }
        };
        let wanted = |share: f32| if self.outside { 1.0 - share } else { share };
        inside.into_iter().map(|share| f64::from(wanted(share)) >= self.min_share).collect()
    }

    /// What was drawn, one region a piece, level-0 pixels.
    pub fn pieces(&self) -> Region {
        match &self.drawn {
            PlacedDrawing::Outlines(region) => region.clone(),
            PlacedDrawing::Painted { .. } => Region { outlines: self.borders(), holes: Vec::new() },
        }
    }

    /// The borders of what was drawn, level-0 pixels.
    pub fn borders(&self) -> Vec<Polygon> {
        match &self.drawn {
            PlacedDrawing::Outlines(region) => region.outlines.iter().chain(&region.holes).cloned().collect(),
            PlacedDrawing::Painted { mask, corner, size } => {
                let by = [corner.x as f64, corner.y as f64];
                mask.contours(*size).into_iter().map(|polygon| polygon.moved(by)).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANVAS: Size = Size { width: 1000, height: 500 };

    fn slide(id: &str) -> SlideFile {
        SlideFile {
            id: id.into(),
            file: format!("centre/{id}.svs"),
            path: format!("centre/{id}.svs").into(),
            companions: Vec::new(),
            mpp: None,
            former_id: None,
        }
    }

    fn square(class: &str, from: f64, to: f64) -> String {
        format!(
            r#"{{"type":"Feature","properties":{{"classification":{{"name":"{class}"}}}},"geometry":{{"type":"Polygon","coordinates":[[[{from},{from}],[{to},{from}],[{to},{to}],[{from},{to}]]]}}}}"#
        )
    }

    /// Which of five tiles of 100 px in the top row are kept.
    fn kept(folder: &Path, settings: &RoiSettings, bounds: Option<(Coord, Size)>) -> Vec<bool> {
        let roi = Roi::read(folder, &slide("a"), settings).unwrap().placed(CANVAS, bounds).unwrap();
        roi.keeps(&(0..5).map(|column| Coord { x: 100 * column, y: 0 }).collect::<Vec<_>>(), 100)
    }

    #[test]
    fn classes_holes_inside_and_outside() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("[{},{}]", square("Tumor", 0.0, 250.0), square("Necrosis", 0.0, 100.0));
        std::fs::write(folder.path().join("a.geojson"), text).unwrap();
        let settings = RoiSettings { classes: vec!["Tumor".into()], ..RoiSettings::default() };
        assert_eq!(kept(folder.path(), &settings, None), [true, true, true, false, false]);
        let whole = RoiSettings { min_share: 1.0, ..settings.clone() };
        assert_eq!(kept(folder.path(), &whole, None), [true, true, false, false, false]);
        let except = RoiSettings { except: vec!["Necrosis".into()], ..settings.clone() };
        assert_eq!(kept(folder.path(), &except, None), [false, true, true, false, false]);
        let outside = RoiSettings { outside: true, ..except };
        assert_eq!(kept(folder.path(), &outside, None), [true, false, true, true, true], "half is enough on either side");
        let bounds = Some((Coord { x: 200, y: 0 }, Size { width: 800, height: 500 }));
        assert_eq!(kept(folder.path(), &settings, bounds), [true, true, true, false, false], "canvas");
        let from_bounds = RoiSettings { origin: Origin::Bounds, ..settings };
        assert_eq!(kept(folder.path(), &from_bounds, bounds), [false, false, true, true, true]);
    }

    #[test]
    fn a_mask_of_any_scale() {
        let folder = tempfile::tempdir().unwrap();
        for scale in [1, 2, 10] {
            let (width, height) = (10 * scale, 5 * scale);
            let painted = image::GrayImage::from_fn(width, height, |x, _| image::Luma([u8::from(x / scale == 1)]));
            painted.save(folder.path().join("a.png")).unwrap();
            assert_eq!(kept(folder.path(), &RoiSettings::default(), None), [false, true, false, false, false]);
        }
        image::GrayImage::from_pixel(10, 10, image::Luma([1])).save(folder.path().join("a.png")).unwrap();
        let roi = Roi::read(folder.path(), &slide("a"), &RoiSettings::default()).unwrap();
        let error = roi.placed(CANVAS, None).unwrap_err().to_string();
        assert!(error.contains("another shape than the slide's 1000x500"), "{error}");
    }

    #[test]
    fn what_is_missing_is_said_and_skipped_only_on_demand() {
        let folder = tempfile::tempdir().unwrap();
        let read = |settings: &RoiSettings| Roi::read(folder.path(), &slide("a"), settings).unwrap_err();
        let skip = RoiSettings { missing: Missing::Skip, ..RoiSettings::default() };
        assert!(read(&RoiSettings::default()).to_string().contains("none of 'a.geojson', 'a.json', 'a.xml', 'a.png'"));
        assert!(read(&skip).is::<Skipped>() && !read(&RoiSettings::default()).is::<Skipped>());

        std::fs::write(folder.path().join("a.svs.geojson"), format!("[{}]", square("Stroma", 0.0, 50.0))).unwrap();
        let tumour = RoiSettings { classes: vec!["Tumour".into()], ..RoiSettings::default() };
        let error = read(&tumour).to_string();
        assert!(error.contains("no outline of the class Tumour in 'a.svs.geojson', which has 'Stroma' (1)"), "{error}");
        assert!(read(&RoiSettings { classes: vec!["Tumour".into()], ..skip }).is::<Skipped>());

        std::fs::write(folder.path().join("a.json"), format!("[{}]", square("", 5000.0, 5050.0))).unwrap();
        assert!(read(&tumour).to_string().contains("two annotation files"));
        std::fs::remove_file(folder.path().join("a.svs.geojson")).unwrap();
        let far = Roi::read(folder.path(), &slide("a"), &RoiSettings::default()).unwrap().placed(CANVAS, None);
        assert!(far.unwrap_err().to_string().contains("lies beside the slide of 1000x500 px"));
    }

    #[test]
    fn one_file_is_for_one_slide() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("drawn.geojson");
        std::fs::write(&file, "[]").unwrap();
        let slides = [slide("a"), slide("b")];
        assert!(digest(&file, slides.iter()).unwrap_err().to_string().contains("one file for 2 slides"));
        assert!(digest(&file, slides[..1].iter()).is_ok());
        assert!(digest(&folder.path().join("no"), slides.iter()).unwrap_err().to_string().contains("does not exist"));
    }
}
