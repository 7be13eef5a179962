//! `wsi heatmap`: what a trained model looks at on each slide, as numbers, as pictures and for QuPath; and whether people drew something there.
//!
//! It looks at the test slides of a probe run, with the model that was probed. Nothing is trained and nothing is chosen by what is seen.

mod agree;
mod draw;
mod look;
mod regions;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use self::agree::Compared;
use self::draw::Pens;
use self::look::{Eye, Sight, bag_of};
use super::{Machine, Selection, write_failed};
use crate::config::Config;
use crate::ground::interrupt;
use crate::ground::progress::Progress;
use crate::metrics::froc::{self, Detection};
use crate::slides::SlideFile;
use crate::store::heatmap::{Annotations, FILE, Froc, HeatmapFile, SCHEMA, SlideMap, TILES};
use crate::store::leases::Leases;
use crate::store::predictions::{self, Prediction};
use crate::store::run::{self, Opened, Recipe, Run, Summary};
use crate::store::scores::{self, Decision, ScoreFile};
use crate::store::table::{self, Cells};
use crate::store::{bag, digest, files};
use crate::tiling::roi::{Names, Placed, Roi, Skipped, digest_of};
use crate::torch::autocast::exact_single;

/// Paths of a call.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// A probe run, or a train run that has one.
    pub run: PathBuf,
    /// The bags, where they are no longer where the probe run says.
    pub data: Option<PathBuf>,
    /// The tile run behind the bags, for thumbnails; `None` takes the one that the probe run names.
    pub tiles: Option<PathBuf>,
    /// The slides, for contact sheets; and for thumbnails, where there is no tile run.
    pub slides: Option<PathBuf>,
    /// What people drew: a folder of files named by slide, or one file for one slide.
    pub annotations: Option<PathBuf>,
    /// Which of the slides; shares are not offered.
    pub selection: Selection,
    /// Also bags of slides that were not tested; nothing is said of how they agree with annotations.
    pub every_bag: bool,
}

/// A probe run and what belongs to it, opened.
struct Subject {
    probe: PathBuf,
    scores: ScoreFile,
    train: PathBuf,
    bags: PathBuf,
    tiles: Option<PathBuf>,
    /// By slide.
    tested: BTreeMap<String, Prediction>,
    slides: Vec<String>,
}

/// Where the probe run is: the folder itself, or `probe` inside it.
fn probe_folder(folder: &Path) -> Result<PathBuf> {
    let found = [folder.to_owned(), folder.join("probe")].into_iter().find(|folder| folder.join(scores::FILE).is_file());
    found.with_context(|| {
        format!(
            "'{}' is no probe run and has none in 'probe'; give a finished one, or run `wsi probe` on the training first",
            folder.display()
        )
    })
}

/// The folder that a call without `--out` writes into.
///
/// # Errors
/// No probe run.
pub fn usual_folder(run: &Path) -> Result<PathBuf> {
    Ok(probe_folder(run)?.join("heatmap"))
}

impl Subject {
    fn open(inputs: &Inputs) -> Result<Self> {
        let probe = probe_folder(&inputs.run)?;
        run::finished(&probe, "probe")?;
        let scores = ScoreFile::read(&probe)?;
        let train = probe.join(&scores.train_folder);
        let named = scores.bag_folder.as_ref().map(|bags| probe.join(bags)).filter(|bags| bags.is_dir());
        let data = inputs
            .data
            .clone()
            .or(named)
            .context("the probe run does not say where its bags are, or they are gone from there; give --data")?;
        let bags = bag::folder(&data);
        let tiles =
            inputs.tiles.clone().or_else(|| scores.tile_folder.as_ref().map(|tiles| probe.join(tiles))).filter(|tiles| tiles.is_dir());
        let mut all = predictions::read(&probe, &scores.classes)?;
        let rows = all.remove(&Decision::Own).or_else(|| all.into_values().next()).unwrap_or_default();
        let tested: BTreeMap<String, Prediction> = rows.into_iter().map(|row| (row.slide_id.clone(), row)).collect();
        let slides = if inputs.every_bag {
            let mut names = files::names_in(&bags)?;
            names.retain(|name| !name.starts_with('.'));
            names.sort();
            names.iter().filter_map(|name| name.strip_suffix(".h5")).map(str::to_owned).collect()
        } else {
            tested.keys().cloned().collect()
        };
        let slides = inputs.selection.narrow(slides, |id: &String| id)?;
        Ok(Self { probe, scores, train, bags, tiles, tested, slides })
    }

    /// What the annotation files of its slides may be called.
    fn names(&self) -> Vec<(String, Names)> {
        let one = |id: &'_ String| -> (String, Names) {
            // A bag that cannot be read is that slide's failure, later.
            let header = bag::read_header(&bag_of(&self.bags, id)).ok().flatten();
            (id.clone(), Names { id: id.clone(), file: header.map_or_else(|| id.clone(), |header| header.slide_file) })
        };
        self.slides.iter().map(one).collect()
    }
}

/// What identifies a heatmap run.
///
/// # Errors
/// No finished probe run, bags or annotations that are not there.
pub fn recipe(config: &Config, inputs: &Inputs) -> Result<Recipe> {
    recipe_of(config, inputs, &Subject::open(inputs)?)
}

fn recipe_of(config: &Config, inputs: &Inputs, subject: &Subject) -> Result<Recipe> {
    // A bag that cannot be read is that slide's failure, later.
    let seal = |id: &String| bag::seal(&bag_of(&subject.bags, id)).ok().flatten();
    let bags: Vec<_> = subject.slides.iter().map(|id| (id, seal(id))).collect();
    let mut digests = BTreeMap::from([
        ("probe".to_owned(), run::finished(&subject.probe, "probe")?.digest),
        ("bags".to_owned(), digest::settings(&bags)?),
    ]);
    if let Some(given) = &inputs.annotations {
        let names = subject.names();
        digests.insert("annotations".to_owned(), digest_of(given, names.iter().map(|(id, names)| (id.as_str(), names.clone())))?);
    }
    if inputs.slides.is_some() {
        digests.insert("sheets".to_owned(), "of the slides that were tiled".to_owned());
    }
    Ok(recipe_from(config, digests))
}

pub(super) fn recipe_from(config: &Config, inputs: BTreeMap<String, String>) -> Recipe {
    Recipe { stage: "heatmap".to_owned(), settings: json!({ "heatmap": config.heatmap }), inputs }
}

/// Looks at every slide. Outputs in `out`: `heatmap.json`, `slides.csv`, and for each slide `tiles/<id>.csv`, `pictures/<id>.png`,
/// `geojson/<id>.geojson` and, with slides, `sheets/<id>.jpg`. A slide that fails is named in the summary and stops no other.
///
/// Memory: the model, the bag in work and two more for each thread that draws.
///
/// # Errors
/// Wrong settings, no finished probe run, a model that cannot be loaded, a folder that cannot be written, an interruption.
pub fn run(config: &Config, inputs: &Inputs, out: &Path, machine: &Machine) -> Result<Summary> {
    let settings = &config.heatmap;
    settings.validate()?;
    let subject = Subject::open(inputs)?;
    let recipe = recipe_of(config, inputs, &subject)?;
    if let Some(summary) = run::done(out, &recipe)? {
        return Ok(summary);
    }
    let files_of_slides = inputs.slides.as_ref().map(|slides| inputs.selection.slides(slides)).transpose()?;
    let trained = super::settings_of(&subject.train)?;
    ensure!(!subject.slides.is_empty(), "there is no slide to look at: the probe run has no test slides");
    let widths = subject.slides.iter().filter_map(|id| bag::read_shape(&bag_of(&subject.bags, id)).ok());
    let width = widths.map(|(_, width)| width).find(|width| *width > 0).context("none of the bags can be read; give --data")?;
    // Sums of floats depend on how many threads share them, and outputs must not; f32 is what was asked for.
    tch::set_num_threads(1);
    exact_single()?;
    let best = subject.scores.checkpoint == "best";
    let eye = Eye::open(&trained, &subject.train, best, width, subject.scores.classes.len(), machine.device)?;
    let run = match Run::open(out, recipe)? {
        Opened::Done(summary) => return Ok(summary),
        Opened::Work(run) => run,
    };
    let leases = Leases::open(&run.folder)?;
    let waited = leases.wait_for("looking")?;
    if let Some(summary) = run.finished_by_another()? {
        return Ok(summary);
    }
    if !waited {
        return Err(run.without_leases());
    }
    let scores = &subject.scores;
    let model = format!("{} with {}, seed {}", scores.aggregator, scores.loss, scores.seed);
    let pens = Pens { folder: &run.folder, settings, classes: &scores.classes, model: &model, tiles: subject.tiles.as_deref() };

    let look = Look {
        subject: &subject,
        eye: &eye,
        config,
        annotations: inputs.annotations.as_deref(),
        slides: files_of_slides.as_deref(),
        nothing: RefCell::default(),
    };
    let Seen { maps, detections, branches, failed } = look.at_all(&pens, machine.threads)?;
    let annotated = inputs.annotations.is_some() && branches > 0;
    let lesions: usize = maps.iter().filter_map(|map| Some(map.agreement.as_ref()?.lesions)).sum();
    let nothing = look.nothing.into_inner().filter(|_| annotated && lesions == 0 && !settings.annotations.classes.is_empty());
    if let Some(reason) = nothing {
        bail!("no tested slide has an outline of the classes {}: {reason}", settings.annotations.classes.join(", "));
    }
    let compared = maps.iter().filter(|map| map.agreement.is_some()).count();
    let froc = froc::sensitivities(detections, lesions, compared).map(|shares| Froc {
        points: froc::FALSE_POSITIVES.into_iter().zip(shares).collect(),
        score: shares.iter().sum::<f64>() / shares.len() as f64,
        lesions,
        slides: compared,
    });
    let file = HeatmapFile {
        schema: SCHEMA,
        classes: scores.classes.clone(),
        loss: scores.loss.clone(),
        aggregator: scores.aggregator.clone(),
        encoder: scores.encoder.clone(),
        group: scores.group.clone(),
        recipe: scores.recipe()?,
        labels: scores.labels.clone(),
        seed: scores.seed,
        epochs: scores.epochs,
        checkpoint: scores.checkpoint.clone(),
        split: scores.split.clone(),
        branches,
        origin: settings.qupath_origin,
        train_folder: files::relative(&run.folder, &subject.train)?,
        tile_folder: subject.tiles.as_ref().map(|tiles| files::relative(&run.folder, tiles)).transpose()?,
        bag_folder: files::relative(&run.folder, &subject.bags)?,
        annotations: annotated
            .then(|| Annotations { classes: settings.annotations.classes.clone(), min_share: settings.annotations.min_share }),
        slides: maps,
        froc,
    };
    write_table(&run.path("slides.csv"), &file)?;
    file.write(&run.folder)?;
    write_failed(&run, &failed)?;
    let tables: Vec<String> = file.slides.iter().map(|map| format!("{TILES}/{}.csv", map.slide_id)).collect();
    let digested: Vec<&str> = [FILE, "slides.csv"].into_iter().chain(tables.iter().map(String::as_str)).collect();
    let mean = mean(file.slides.iter().filter_map(|map| map.agreement.as_ref()).map(|agreement| agreement.auroc));
    let figures = json!({
        "slides": file.slides.len(),
        "attention_auroc": mean,
        "froc": file.froc.as_ref().map(|froc| froc.score),
        "outputs": digest::outputs(&run.folder, &digested)?,
    });
    let summary = run.finish(figures, failed)?;
    leases.close()?;
    Ok(summary)
}

/// Mean of the values that are numbers; `None` where none is.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.filter(|value| value.is_finite()).fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// All that is needed to look at a slide.
struct Look<'a> {
    subject: &'a Subject,
    eye: &'a Eye,
    config: &'a Config,
    annotations: Option<&'a Path>,
    slides: Option<&'a [SlideFile]>,
    /// Why the first slide without a drawing of the wanted classes has none.
    nothing: RefCell<Option<String>>,
}

/// What was seen of all slides.
#[derive(Default)]
struct Seen {
    maps: Vec<SlideMap>,
    detections: Vec<Detection>,
    branches: usize,
    failed: BTreeMap<String, String>,
}

impl Look<'_> {
    /// The model looks on this thread; others draw what it saw.
    fn at_all(&self, pens: &Pens, threads: usize) -> Result<Seen> {
        let progress = Progress::new("slides", self.subject.slides.len());
        let failed = Mutex::new(BTreeMap::new());
        let folders = self.folders(pens.folder);
        let note = |id: &str, error: &anyhow::Error| {
            // Outputs hold no absolute paths.
            let reason = folders.iter().fold(super::one_line(error), |reason, folder| reason.replace(folder, ""));
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
        if crate::tiling::roi::find(given, &names)?.is_none() {
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
    let beside = |at: &&crate::ground::units::Coord| {
        at.x + side <= 0 || at.y + side <= 0 || at.x >= i64::from(canvas.width) || at.y >= i64::from(canvas.height)
    };
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

fn write_table(path: &Path, file: &HeatmapFile) -> Result<()> {
    let text = |cell: &dyn Fn(&SlideMap) -> &str| Cells::Text(file.slides.iter().map(|map| cell(map).to_owned()).collect());
    let agreed = |cell: &dyn Fn(&crate::store::heatmap::Agreement) -> String| {
        Cells::Text(file.slides.iter().map(|map| map.agreement.as_ref().map(cell).unwrap_or_default()).collect())
    };
    let number = |value: f64| if value.is_finite() { value.to_string() } else { String::new() };
    let columns: Vec<(String, Cells)> = file
        .classes
        .iter()
        .enumerate()
        .map(|(class, name)| (format!("p_{name}"), Cells::Real(file.slides.iter().map(|map| map.probabilities[class]).collect())))
        .collect();
    let mut all = vec![
        ("slide_id", text(&|map| &map.slide_id)),
        ("patient_id", text(&|map| &map.patient_id)),
        ("label", text(&|map| &map.label)),
        ("predicted", text(&|map| &map.predicted)),
        ("tiles", Cells::Whole(file.slides.iter().map(|map| map.tiles as i64).collect())),
    ];
    all.extend(columns.iter().map(|(name, cells)| (name.as_str(), cells.clone())));
    if file.annotations.is_some() {
        all.extend([
            ("tiles_inside", agreed(&|a| a.tiles_inside.to_string())),
            ("attention_auroc", agreed(&|a| number(a.auroc))),
            ("attention_auprc", agreed(&|a| number(a.auprc))),
            ("pointing", agreed(&|a| a.pointing.to_string())),
            ("lesions", agreed(&|a| a.lesions.to_string())),
        ]);
    }
    table::write(path, all)
}
