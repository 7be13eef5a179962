//! One slide after the other: the model looks, and other threads draw what it saw. A slide that fails stops no other.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use anyhow::{Context, Result, bail};

use super::agree::{self, Compared};
use super::draw::{self, Pens};
use super::look::{Eye, Sight, bag_of};
use super::subject::Subject;
use crate::config::Config;
use crate::ground::interrupt;
use crate::ground::progress::Progress;
use crate::ground::units::Coord;
use crate::metrics::froc::Detection;
use crate::slides::SlideFile;
use crate::stages::one_line;
use crate::store::heatmap::SlideMap;
use crate::tiling::roi::{self, Names, Placed, Roi, Skipped};

/// All that is needed to look at a slide.
pub(super) struct Look<'a> {
    pub(super) subject: &'a Subject,
    pub(super) eye: &'a Eye,
    pub(super) config: &'a Config,
    pub(super) annotations: Option<&'a Path>,
    pub(super) slides: Option<&'a [SlideFile]>,
    /// Why the first slide without a drawing of the wanted classes has none.
    pub(super) nothing: RefCell<Option<String>>,
}

/// What was seen of all slides.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) maps: Vec<SlideMap>,
    pub(super) detections: Vec<Detection>,
    pub(super) branches: usize,
    pub(super) failed: BTreeMap<String, String>,
}

impl Look<'_> {
    /// The model looks on this thread; others draw what it saw.
    pub(super) fn at_all(&self, pens: &Pens, threads: usize) -> Result<Seen> {
        let progress = Progress::new("slides", self.subject.slides.len());
        let failed = Mutex::new(BTreeMap::new());
        let folders = self.folders(pens.folder);
        let note = |id: &str, error: &anyhow::Error| {
            // Outputs hold no absolute paths.
            let reason = folders.iter().fold(one_line(error), |reason, folder| reason.replace(folder, ""));
            failed.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), reason);
        };
        let slides = self.slides;
        let mut seen = Seen::default();
        let mut lesions = 0;
        let (send, receive) = mpsc::sync_channel::<(&str, Sight)>(1);
        // The threads own it together: with the last of them it goes, and sending fails instead of waiting.
        let receive = Arc::new(Mutex::new(receive));
        let (note, progress_of) = (&note, &progress);
        std::thread::scope(|scope| -> Result<()> {
            for _ in 0..threads.max(1) {
                let receive = Arc::clone(&receive);
                scope.spawn(move || {
                    loop {
                        let next = receive.lock().unwrap_or_else(PoisonError::into_inner).recv();
                        let Ok((id, sight)) = next else { return };
                        if let Err(error) = file_of(slides, id).and_then(|slide| pens.draw(id, &sight, slide)) {
                            note(id, &error);
                        }
                        progress_of.add(1, id);
                    }
                });
            }
            drop(receive);
            let send = send; // dropped at the end of this block, which ends the threads
            for id in &self.subject.slides {
                interrupt::check()?;
                match self.at(id) {
                    Ok((sight, map, compared)) => {
                        let found = compared.iter().flat_map(|compared| &compared.detections);
                        seen.detections.extend(found.map(|d| Detection { lesion: d.lesion.map(|lesion| lesion + lesions), ..*d }));
                        lesions += map.agreement.as_ref().map_or(0, |agreement| agreement.lesions);
                        seen.branches = seen.branches.max(sight.scores.branches.len().max(usize::from(sight.scores.attention.is_some())));
                        seen.maps.push(map);
                        if send.send((id, sight)).is_err() {
                            break; // no thread is left: its panic is told when the scope ends
                        }
                    }
                    Err(error) => {
                        note(id, &error);
                        progress.add(1, id);
                    }
                }
            }
            Ok(())
        })?;
        progress.finish();
        seen.failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(seen)
    }

    /// Where files are that a message may name.
    fn folders(&self, out: &Path) -> Vec<String> {
        let of_slides = self.slides.unwrap_or_default().iter().filter_map(|slide| slide.path.parent());
        let all = [Some(out), Some(&*self.subject.bags), self.subject.tiles.as_deref(), self.annotations].into_iter().flatten();
        let mut folders: Vec<String> = all.chain(of_slides).map(|folder| format!("{}/", folder.display())).collect();
        folders.sort_by_key(|folder| std::cmp::Reverse(folder.len()));
        folders.dedup();
        folders
    }

    fn at(&self, id: &str) -> Result<(Sight, SlideMap, Option<Compared>)> {
        let sight = self.eye.look(&bag_of(&self.subject.bags, id))?;
        check(&sight)?;
        let known = self.subject.tested.get(id);
        let attention = sight.scores.attention.as_ref();
        let compared = match (self.annotations, attention, known) {
            (Some(given), Some(attention), Some(_)) => {
                let drawn = self.drawn(given, id, &sight)?;
                drawn.map(|drawn| {
                    agree::compare(
                        drawn.as_ref(),
                        &sight.scores.coords,
                        sight.header.window.side_level0_px,
                        sight.header.mpp.mean(),
                        attention,
                    )
                })
            }
            _ => None,
        };
        let classes = &self.subject.scores.classes;
        let map = SlideMap {
            slide_id: id.to_owned(),
            patient_id: known.map(|row| row.patient_id.clone()).unwrap_or_default(),
            label: known.map(|row| classes[row.label].clone()).unwrap_or_default(),
            predicted: classes[sight.predicted].clone(),
            probabilities: sight.probabilities.clone(),
            tiles: sight.scores.coords.len(),
            side_level0_px: sight.header.window.side_level0_px,
            canvas: draw::canvas(&sight),
            bounds: sight.header.bounds,
            mpp: sight.header.mpp,
            agreement: compared.as_ref().map(|compared| compared.agreement.clone()),
        };
        Ok((sight, map, compared))
    }

    /// What was drawn: `None` where the slide has no annotation file, `Some(None)` where it has one with nothing in it.
    fn drawn(&self, given: &Path, id: &str, sight: &Sight) -> Result<Option<Option<Placed>>> {
        let names = Names { id: id.to_owned(), file: sight.header.slide_file.clone() };
        if roi::find(given, &names)?.is_none() {
            return Ok(None);
        }
        match Roi::read_named(given, &names, &self.config.heatmap.annotations.region()) {
            Ok(roi) => Ok(Some(Some(roi.placed(draw::canvas(sight), sight.header.bounds)?))),
            Err(error) if error.is::<Skipped>() => {
                self.nothing.borrow_mut().get_or_insert_with(|| error.to_string());
                Ok(Some(None))
            }
            Err(error) => Err(error),
        }
    }
}

/// The slide's file, for its contact sheet.
fn file_of<'a>(slides: Option<&'a [SlideFile]>, id: &str) -> Result<Option<&'a SlideFile>> {
    let Some(slides) = slides else { return Ok(None) };
    let found = slides.iter().find(|slide| slide.id == id);
    found.map(Some).with_context(|| format!("--slides has no slide '{id}', so it has no contact sheet"))
}

/// # Errors
/// A bag that does not say how large its slide is, or with a tile that does not touch it.
fn check(sight: &Sight) -> Result<()> {
    let id = &sight.header.slide_id;
    let canvas = sight.header.canvas.with_context(|| format!("the bag of '{id}' does not say how large its slide is; extract it again"))?;
    let side = i64::from(sight.header.window.side_level0_px);
    let beside = |at: &&Coord| at.x + side <= 0 || at.y + side <= 0 || at.x >= i64::from(canvas.width) || at.y >= i64::from(canvas.height);
    if let Some(at) = sight.scores.coords.iter().find(beside) {
        bail!(
            "the bag of '{id}' has a tile at x={} y={}, beside its slide of {}x{} px; extract it again",
            at.x,
            at.y,
            canvas.width,
            canvas.height
        );
    }
    Ok(())
}
