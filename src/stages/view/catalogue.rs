//! What there is to look at, found once at the start: slides, and runs that say something of them. Requests name both by their numbers here,
//! never by a path.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::Inputs;
use super::runs::{self, Found, Kind};
use crate::render::heatmap;
use crate::slides::{self, SlideFile};
use crate::stages::on_one_line;

/// Steps of the colour map.
const COLOURS: u8 = 128;

/// The slides and runs of one viewer.
pub(super) struct Catalogue {
    /// By id.
    pub(super) slides: Vec<Shown>,
    pub(super) runs: Vec<Found>,
    /// Where people's annotations are, named by slide.
    pub(super) annotations: Option<PathBuf>,
    /// What was left out, in sentences.
    notes: Vec<String>,
    /// Folders whose paths are in no answer, longest first.
    folders: Vec<String>,
}

/// One slide.
pub(super) struct Shown {
    pub(super) id: String,
    /// `None` where only runs know of it.
    pub(super) file: Option<SlideFile>,
}

impl Catalogue {
    /// # Errors
    /// A path that is not there, or that holds neither runs nor slides; slides that cannot be listed.
    pub(super) fn find(inputs: &Inputs) -> Result<Self> {
        let mut found = Self { slides: Vec::new(), runs: Vec::new(), annotations: None, notes: Vec::new(), folders: Vec::new() };
        let mut files = BTreeMap::new();
        for given in &inputs.given {
            let path = found.canonical(given)?;
            let runs = if path.is_dir() { runs::find(&path)? } else { Vec::new() };
            if runs.is_empty() {
                found.take_slides(&path, &mut files).with_context(|| format!("'{}' holds no run that can be shown", given.display()))?;
            }
            runs.into_iter().for_each(|run| found.take_run(run));
        }
        if let Some(slides) = &inputs.slides {
            let path = found.canonical(slides)?;
            found.take_slides(&path, &mut files)?;
        }
        for number in 0..found.runs.len() {
            if let Some(tile) = runs::tile_run_of(&found.runs[number]) {
                found.take_run(tile);
            }
        }
        if let Some(annotations) = &inputs.annotations {
            let path = found.canonical(annotations)?;
            if !path.is_dir() {
                bail!("'{}' is no folder; give the folder of the annotations, one file a slide", annotations.display());
            }
            found.annotations = Some(path);
        }
        found.list(files)?;
        Ok(found)
    }

    /// An existing path, whose folder is kept out of every answer.
    fn canonical(&mut self, given: &Path) -> Result<PathBuf> {
        let path = given.canonicalize().with_context(|| format!("'{}' does not exist; give runs, or slides", given.display()))?;
        for folder in path.parent().into_iter().chain(given.parent()) {
            self.hide(folder);
        }
        self.hide(&path);
        Ok(path)
    }

    fn hide(&mut self, folder: &Path) {
        let folder = format!("{}/", folder.display());
        // The root is in every path, and within others.
        if folder.len() > 2 && !self.folders.contains(&folder) {
            self.folders.push(folder);
            self.folders.sort_by_key(|folder| std::cmp::Reverse(folder.len()));
        }
    }

    fn take_run(&mut self, mut run: Found) {
        if self.runs.iter().any(|known| known.folder == run.folder) {
            return;
        }
        // Two folders of the same relative name stay two.
        let (name, mut number) = (run.name.clone(), 1);
        while self.runs.iter().any(|known| known.name == run.name) {
            number += 1;
            run.name = format!("{name} ({number})");
        }
        if let Some(folder) = run.folder.parent() {
            self.hide(folder);
        }
        self.runs.push(run);
    }

    fn take_slides(&mut self, path: &Path, files: &mut BTreeMap<String, SlideFile>) -> Result<()> {
        for file in slides::list(path)? {
            if let Some(folder) = file.path.parent() {
                self.hide(folder);
            }
            let known = files.entry(file.id.clone()).or_insert_with(|| file.clone());
            if known.path != file.path {
                self.notes.push(format!("Two slides are called '{}'; the one given first is shown.", file.id));
            }
        }
        Ok(())
    }

    /// All slides, by id, those that runs alone know of included.
    fn list(&mut self, mut files: BTreeMap<String, SlideFile>) -> Result<()> {
        let mut all: BTreeMap<String, Option<SlideFile>> = BTreeMap::new();
        let mut left_out = 0;
        for run in &self.runs {
            for id in run.slides()? {
                // It becomes part of the names of files.
                if is_name(&id) {
                    all.entry(id).or_default();
                } else {
                    left_out += 1;
                }
            }
        }
        while let Some((id, file)) = files.pop_first() {
            all.insert(id, Some(file));
        }
        if left_out > 0 {
            self.notes.push(format!("{left_out} slides are left out: what the runs call them is no file name."));
        }
        if all.is_empty() {
            bail!("the runs hold no slides yet; run `wsi tile` to its end, or give slides");
        }
        self.slides = all.into_iter().map(|(id, file)| Shown { id, file }).collect();
        Ok(())
    }

    /// An error on one line, without the folders that it names.
    pub(super) fn plain(&self, error: &anyhow::Error) -> String {
        let mut text = on_one_line(&format!("{error:#}"));
        for folder in &self.folders {
            text = text.replace(folder, "");
        }
        text
    }

    /// Everything for the list of slides: which viewer it is, the colours of values from 0 to 1, notes, runs, slides as `[id, whether there is a file]`, and what each run says of them as
    /// `[slide, label, predicted, probability]`; classes by number in the run's own order, −1 for what is not known.
    pub(super) fn json(&self, viewer: &str) -> Value {
        let number: HashMap<&str, usize> = self.slides.iter().enumerate().map(|(number, slide)| (slide.id.as_str(), number)).collect();
        let slides: Vec<Value> = self.slides.iter().map(|slide| json!([slide.id, slide.file.is_some()])).collect();
        let runs: Vec<Value> = self
            .runs
            .iter()
            .map(|run| {
                let class = |name: &str| run.classes.iter().position(|class| class == name).map_or(-1, |class| class as i64);
                let said = run.said.iter().filter_map(|(id, said)| {
                    let probability = (said.probability * 1e4).round() / 1e4;
                    Some(json!([number.get(id.as_str())?, class(&said.label), class(&said.predicted), probability]))
                });
                let stage = match run.kind {
                    Kind::Tile => "tile",
                    Kind::Probe => "probe",
                    Kind::Heatmap(_) => "heatmap",
                };
                json!({"name": run.name, "stage": stage, "note": run.note.as_ref().map(|note| self.plain(&anyhow::anyhow!(note.clone()))),
                       "classes": run.classes, "said": said.collect::<Vec<_>>()})
            })
            .collect();
        let colours = (0..COLOURS).map(|place| heatmap::colour(f64::from(place) / f64::from(COLOURS - 1)).0);
        let colours: Vec<String> = colours.map(|[red, green, blue]| format!("#{red:02x}{green:02x}{blue:02x}")).collect();
        json!({"viewer": viewer, "colours": colours, "notes": self.notes, "slides": slides, "runs": runs, "annotations": self.annotations.is_some()})
    }
}

/// Whether an id is the name of a file, of one folder.
fn is_name(id: &str) -> bool {
    !id.is_empty() && !id.starts_with('.') && !id.contains(['/', '\\', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_lead_elsewhere_are_no_names() {
        assert!(is_name("lung_001") && is_name("präparat 1.2") && is_name("a..b"));
        for id in ["", "..", "../x", "/etc/passwd", "a/b", "a\\b", ".hidden", "a\0b"] {
            assert!(!is_name(id), "{id:?}");
        }
    }

    #[test]
    fn folders_are_left_out_of_messages() {
        let mut catalogue = Catalogue { slides: vec![], runs: vec![], annotations: None, notes: vec![], folders: vec![] };
        catalogue.hide(Path::new("/data"));
        catalogue.hide(Path::new("/data/slides"));
        catalogue.hide(Path::new("/"));
        let error = anyhow::anyhow!("cannot read '/data/slides/a.tif'\nand '/data/b'").context("first");
        assert_eq!(catalogue.plain(&error), "first: cannot read 'a.tif' and 'b'");
    }
}
