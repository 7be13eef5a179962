//! `wsi heatmap`: what a trained model looks at on each slide, as numbers, as pictures and for QuPath; and whether people drew something there.
//!
//! It looks at the test slides of a probe run, with the model that was probed. Nothing is trained and nothing is chosen by what is seen.

mod agree;
mod draw;
mod look;
mod regions;
mod subject;
mod table;
mod turns;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use self::draw::Pens;
use self::look::{Eye, bag_of};
use self::subject::Subject;
use self::turns::{Look, Seen};
use super::{Machine, Selection, write_failed};
use crate::config::Config;
use crate::metrics::froc;
use crate::store::heatmap::{Annotations, FILE, Froc, HeatmapFile, SCHEMA, TILES};
use crate::store::leases::Leases;
use crate::store::run::{self, Opened, Recipe, Run, Summary};
use crate::store::{bag, digest, files};
use crate::tiling::roi::digest_of;
use crate::torch::autocast::exact_single;

pub use subject::usual_folder;

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
    table::write(&run.path("slides.csv"), &file)?;
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
