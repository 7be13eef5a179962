//! The slides: do they open, how large are their pixels, and will `tile` take them with these settings.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;

use super::{Finding, Patient, bytes, error, ok, warning};
use crate::ground::listing::listing;
use crate::ground::units::Geometry;
use crate::slides::{self, ReaderChoice, SlideFile, name_risk};
use crate::stages::one_line;
use crate::tiling::TileSettings;
use crate::tiling::survey::request;

/// METHOD: pixels of light microscopes' scanners, µm: 0.1 at 100×, 1 at 10×; outside of these a unit was mistaken.
const PLAUSIBLE_MPP: std::ops::RangeInclusive<f64> = 0.1..=2.0;

/// A slide of one level with more pixels than this is read in full for its overview.
const LARGE_FLAT_PX: u64 = 100_000_000;

/// The slides of a call.
pub(super) struct Slides {
    /// Or why there are none.
    list: Result<Vec<Looked>, String>,
}

/// One slide.
pub(super) struct Looked {
    pub(super) file: SlideFile,
    bytes: u64,
    /// Or why it cannot be opened.
    pub(super) opened: Result<Opened, String>,
}

/// What an open slide says of itself.
pub(super) struct Opened {
    pub(super) geometry: Geometry,
    /// Why the fast reader does not take it.
    slow: Option<String>,
}

impl Slides {
    /// Opens each slide once, in parallel. Reads headers.
    pub(super) fn look(path: &Path, reader: ReaderChoice) -> Self {
        let list = slides::list(path).map_err(|wrong| one_line(&wrong));
        Self { list: list.map(|list| list.into_par_iter().map(|file| Looked::at(file, reader)).collect()) }
    }

    /// Ids of all that are there; `None` where they could not be listed.
    pub(super) fn ids(&self) -> Option<Vec<String>> {
        Some(self.list.as_ref().ok()?.iter().map(|slide| slide.file.id.clone()).collect())
    }

    /// Those that open, with what they say.
    pub(super) fn opened(&self) -> impl Iterator<Item = (&SlideFile, &Opened)> {
        self.list.iter().flatten().filter_map(|slide| Some((&slide.file, slide.opened.as_ref().ok()?)))
    }
}

impl Looked {
    fn at(file: SlideFile, reader: ReaderChoice) -> Self {
        let bytes = file.files().filter_map(|path| Some(path.metadata().ok()?.len())).sum();
        let opened = slides::open_with(&file.path, reader).map_err(|wrong| one_line(&wrong));
        let opened = opened.map(|slide| Opened { geometry: slide.geometry().clone(), slow: slide.why_openslide().map(str::to_owned) });
        Self { file, bytes, opened }
    }
}

pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let Some(slides) = &patient.slides else { return Vec::new() };
    let list = match &slides.list {
        Ok(list) => list,
        Err(wrong) => return vec![error("slides", wrong, "give a folder of slides, a slide or a table")],
    };
    let settings = &patient.asked.config.tile;
    let mut findings = vec![files(list)];
    if slides.opened().next().is_some() {
        findings.extend([sizes(slides, settings), tiling(slides, settings), pyramids(slides), readers(slides)]);
    }
    findings.push(names(list));
    findings
}

fn files(list: &[Looked]) -> Finding {
    let wrong: Vec<&str> = list.iter().filter_map(|slide| slide.opened.as_ref().err().map(String::as_str)).collect();
    let size = bytes(list.iter().map(|slide| slide.bytes).sum());
    let vendors = counted(list.iter().filter_map(|slide| Some(slide.opened.as_ref().ok()?.geometry.vendor.clone())));
    let seen = format!("{} of {} open, {size}: {vendors}", list.len() - wrong.len(), list.len());
    if wrong.is_empty() {
        ok("slides", seen)
    } else {
        error("slides", format!("{seen}; {}", listing(&wrong, "; ")), "copy or export them again")
    }
}

/// Each value and how often it occurs, the most frequent first.
fn counted(values: impl Iterator<Item = String>) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    listing(&counts.iter().map(|(value, count)| format!("{value} ({count})")).collect::<Vec<_>>(), ", ")
}

/// The pixel sizes that slides state, or that table and settings give.
fn sizes(slides: &Slides, settings: &TileSettings) -> Finding {
    let size = |(file, opened): (&SlideFile, &Opened)| {
        let given = file.mpp.or((settings.slide_mpp > 0.0).then_some(settings.slide_mpp));
        (file.id.clone(), opened.geometry.mpp.map(|mpp| mpp.mean()).or(given))
    };
    let sizes: Vec<(String, Option<f64>)> = slides.opened().map(size).collect();
    let seen = counted(sizes.iter().map(|(_, mpp)| mpp.map_or("none".to_owned(), |mpp| format!("{mpp:.4}"))));
    let odd: Vec<&str> =
        sizes.iter().filter(|(_, mpp)| mpp.is_some_and(|mpp| !PLAUSIBLE_MPP.contains(&mpp))).map(|(id, _)| id.as_str()).collect();
    let seen = format!("µm/px {seen}");
    if odd.is_empty() {
        return ok("pixel sizes", seen);
    }
    warning(
        "pixel sizes",
        format!("{seen}; no microscope's: {}", listing(&odd, ", ")),
        "look at how they were exported; a table's column mpp does not overrule them",
    )
}

/// Whether the settings fit each slide: pixel size known, square, fine enough.
fn tiling(slides: &Slides, settings: &TileSettings) -> Finding {
    let refused = |(file, opened): (&SlideFile, &Opened)| {
        let wrong = request(&opened.geometry, file, settings).err()?;
        Some(format!("{}: {}", file.id, one_line(&wrong)))
    };
    let (all, wrong): (usize, Vec<String>) = (slides.opened().count(), slides.opened().filter_map(refused).collect());
    let seen = format!("{} of {all} slides at {} µm/px", all - wrong.len(), settings.mpp);
    if wrong.is_empty() { ok("tiles", seen) } else { error("tiles", format!("{seen}; {}", listing(&wrong, "; ")), "each line says what") }
}

fn pyramids(slides: &Slides) -> Finding {
    let levels = counted(slides.opened().map(|(_, opened)| opened.geometry.levels.len().to_string()));
    let flat = |opened: &Opened| {
        let canvas = opened.geometry.canvas();
        opened.geometry.levels.len() == 1 && u64::from(canvas.width) * u64::from(canvas.height) > LARGE_FLAT_PX
    };
    let flat: Vec<&str> = slides.opened().filter(|(_, opened)| flat(opened)).map(|(file, _)| file.id.as_str()).collect();
    let seen = format!("levels {levels}");
    if flat.is_empty() {
        return ok("pyramids", seen);
    }
    warning(
        "pyramids",
        format!("{seen}; large and of one level: {}", listing(&flat, ", ")),
        "they are tiled, slowly: export them as pyramids",
    )
}

fn readers(slides: &Slides) -> Finding {
    let readers = counted(slides.opened().map(|(_, opened)| opened.geometry.reader.to_string()));
    let slow: Vec<&str> = slides.opened().filter_map(|(_, opened)| opened.slow.as_deref()).collect();
    let why = slow.first().map_or(String::new(), |why| format!("; such as: {why}"));
    ok("readers", format!("{readers}{why}"))
}

/// Names that two file systems, or a table and a file system, would read differently; and names that look like a person's.
fn names(list: &[Looked]) -> Finding {
    const CHECK: &str = "slide names";
    let mut folded: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for slide in list {
        folded.entry(slide.file.id.to_lowercase()).or_default().push(&slide.file.id);
    }
    let alike: Vec<String> = folded.into_values().filter(|ids| ids.len() > 1).map(|ids| ids.join(" and ")).collect();
    // macOS writes an ä as an a and a mark; a table written elsewhere does not.
    let marked = |id: &str| id.chars().any(|letter| ('\u{300}'..='\u{36f}').contains(&letter));
    let marked: Vec<&str> = list.iter().map(|slide| slide.file.id.as_str()).filter(|id| marked(id)).collect();
    let risky = list.iter().filter(|slide| name_risk(&slide.file.id).is_some()).count();
    if !alike.is_empty() {
        return warning(
            CHECK,
            format!("the same but for capitals: {}", listing(&alike, "; ")),
            "rename one of each: some file systems take them for one",
        );
    }
    if !marked.is_empty() {
        return warning(
            CHECK,
            format!("letters and marks apart: {}", listing(&marked, ", ")),
            "rename them, or labels written elsewhere will not match",
        );
    }
    if risky > 0 {
        return warning(
            CHECK,
            format!("{risky} look like a patient's number or name"),
            "`wsi doctor --phi` lists them, --pseudonymise hides them",
        );
    }
    ok(CHECK, format!("{}, each once", list.len()))
}
