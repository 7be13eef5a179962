//! Slides of the recipe in question, the worst first: wrong, and sure of it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::groups::Group;
use super::pictures::{self, JPEG};
use super::sides::Side;
use crate::metrics::classification::argmax;
use crate::render::Picture;
use crate::render::blocks::{Block, Cell, Column, Section, Table};
use crate::render::names;
use crate::store::predictions::Prediction;
use crate::store::scores::Decision;
use crate::store::table::{self, Cells};

/// The table of all slides, inside a report folder.
pub(super) const TABLE: &str = "slides.csv";
/// Pictures in a report.
const MOST: usize = 12;
/// Slides up to which the page lists all, and how many of more.
const ALL: usize = 200;
const SOME: usize = 50;

/// A slide over the repeats.
pub(super) struct Judged {
    pub slide: String,
    pub patient: String,
    /// Class indices: the label, and what is most probable on the mean over repeats.
    pub label: usize,
    pub most_probable: usize,
    /// The class of the surest wrong decision; the label where there is none.
    pub taken_for: usize,
    /// Of each class, mean over repeats.
    pub probabilities: Vec<f64>,
    /// Repeats that decided wrongly, and all.
    pub wrong: (usize, usize),
    /// Mean over repeats of the probability of a wrong decision; 0 for a right one.
    pub badness: f64,
}

/// Every test slide of the group, the worst first, then by name.
pub(super) fn judged(group: &Group) -> Vec<Judged> {
    let decision = [Decision::Lp, Decision::Own, Decision::Cc, Decision::Knn]
        .into_iter()
        .find(|decision| group.probes().any(|probe| probe.predictions.contains_key(decision)));
    let Some(decision) = decision else { return Vec::new() };
    let mut by_slide: BTreeMap<&str, Vec<&Prediction>> = BTreeMap::new();
    for prediction in group.probes().flat_map(|probe| probe.predictions.get(&decision).into_iter().flatten()) {
        by_slide.entry(&prediction.slide_id).or_default().push(prediction);
    }
    let one = |all: Vec<&Prediction>| {
        let count = all.len() as f64;
        let mean = |class: usize| all.iter().map(|one| one.probabilities[class]).sum::<f64>() / count;
        let probabilities: Vec<f64> = (0..all[0].probabilities.len()).map(mean).collect();
        let wrong = || all.iter().filter(|one| one.predicted != one.label);
        let surest = wrong().max_by(|a, b| a.probabilities[a.predicted].total_cmp(&b.probabilities[b.predicted]));
        Judged {
            slide: all[0].slide_id.clone(),
            patient: all[0].patient_id.clone(),
            label: all[0].label,
            most_probable: argmax(&probabilities),
            taken_for: surest.map_or(all[0].label, |one| one.predicted),
            probabilities,
            wrong: (wrong().count(), all.len()),
            badness: wrong().map(|one| one.probabilities[one.predicted]).sum::<f64>() / count,
        }
    };
    let mut slides: Vec<Judged> = by_slide.into_values().map(one).collect();
    slides.sort_by(|a, b| b.badness.total_cmp(&a.badness).then(a.slide.cmp(&b.slide)));
    slides
}

/// The section and the table that it names, which is written into `folder`; pictures only with `thumbs`.
///
/// # Errors
/// A table that cannot be written.
pub(super) fn section(sides: &[Side], groups: &[Group], folder: &Path, thumbs: bool, notes: &mut Vec<String>) -> Result<Option<Section>> {
    // NCMI's where there is one: the page asks about it.
    let asked = sides.first().and_then(|side| side.recipes.first()).map(|recipe| recipe.group);
    let group = asked.or(groups.first()).filter(|group| !names::of_images(&group.key.aggregator));
    let Some(group) = group else { return Ok(None) };
    let slides = judged(group);
    let Some(classes) = group.probes().next().map(|probe| probe.scores.classes.clone()) else { return Ok(None) };
    if slides.is_empty() {
        return Ok(None);
    }
    write(&folder.join(TABLE), &slides, &classes)?;
    let mut blocks = Vec::new();
    let mut shown = String::new();
    if thumbs {
        let (pictures, without) = pictures_of(group, &slides, &classes, notes);
        if without > 0 {
            shown = match pictures.is_empty() {
                true => " No pictures: the folder of the tiling run is not there, or the probe was not told of it (--tiles).".to_owned(),
                false => format!(" {} without a picture in the tile run.", names::count(without, "slide")),
            };
        } else {
            shown = " Thumbnails show the tissue mask and the grid.".to_owned();
        }
        if !pictures.is_empty() {
            blocks.push(Block::Slides(pictures));
        }
    }
    blocks.push(Block::Folded(
        format!("Slides in numbers, {}", if slides.len() > ALL { format!("the worst {SOME}") } else { "all".to_owned() }),
        vec![Block::Table(listed(&slides, &classes))],
    ));
    let key = &group.key;
    let lead = format!(
        "{} ({}), wrongly classified slides first, by how sure the model was, mean over seeds. {TABLE} beside this page lists all {}.{shown}",
        names::recipe_and_decision(&key.loss, key.epochs, Decision::Lp),
        names::setting(&key.split, &key.aggregator, &key.encoder),
        slides.len(),
    );
    Ok(Some(Section { id: "slides", title: "Slides".to_owned(), lead, blocks }))
}

/// The worst slides, then right ones of each class in turn; and how many slides have no picture.
fn pictures_of(group: &Group, slides: &[Judged], classes: &[String], notes: &mut Vec<String>) -> (Vec<Picture>, usize) {
    let folders: Vec<_> = group.probes().filter_map(|probe| Some(probe.folder.join(probe.scores.tile_folder.as_ref()?))).collect();
    let found = |slide: &str| {
        let file = format!("{slide}.jpg");
        let places = folders.first().map(|folder| ["visualization", "thumbnails"].map(|kind| folder.join(kind).join(&file)));
        places.into_iter().flatten().find(|path| path.is_file())
    };
    let (mut turn, mut ranked, mut without): (BTreeMap<usize, usize>, Vec<_>, usize) = (BTreeMap::new(), Vec::new(), 0);
    for (place, slide) in slides.iter().enumerate() {
        let Some(path) = found(&slide.slide) else {
            without += 1;
            continue;
        };
        let right = slide.badness == 0.0;
        let turn = turn.entry(slide.label).or_default();
        *turn += usize::from(right);
        ranked.push(((right, if right { *turn } else { place }, slide.label), slide, path));
    }
    ranked.sort_by_key(|(rank, ..)| *rank);
    let mut shown = Vec::new();
    for (_, slide, path) in ranked.into_iter().take(MOST) {
        match pictures::shrunk(&path, &JPEG) {
            Ok(jpeg) => shown.push(Picture {
                slide_id: slide.slide.clone(),
                label: classes[slide.label].clone(),
                predicted: classes[slide.taken_for].clone(),
                remark: remark(slide),
                alt: format!("Thumbnail of slide {}, class {}, with tissue mask", slide.slide, classes[slide.label]),
                jpeg,
            }),
            Err(error) => notes.push(format!("The picture of slide '{}' cannot be shown: {error:#}.", slide.slide)),
        }
    }
    (shown, without)
}

/// How sure, and how often.
pub(super) fn remark(slide: &Judged) -> String {
    let (wrong, all) = slide.wrong;
    let often = if all > 1 && wrong > 0 { format!(", wrong in {wrong} of {all} seeds") } else { String::new() };
    format!("p of its class {:.2}{often}", slide.probabilities[slide.label])
}

fn listed(slides: &[Judged], classes: &[String]) -> Table {
    let count = if slides.len() > ALL { SOME } else { slides.len() };
    let columns = vec![
        Column::text("Slide"),
        Column::text("Patient"),
        Column::text("Class"),
        Column::text("Most probable"),
        Column::number("p of its class", "mean over seeds"),
        Column::number("Wrong in", "of seeds"),
    ];
    let line = |slide: &Judged| {
        vec![
            Cell::text(&slide.slide),
            Cell::text(&slide.patient),
            Cell::text(&classes[slide.label]),
            Cell::text(&classes[slide.most_probable]),
            Cell::text(&names::score(slide.probabilities[slide.label])),
            Cell::text(&format!("{} of {}", slide.wrong.0, slide.wrong.1)),
        ]
    };
    Table { name: "Slides, the worst first".to_owned(), columns, rows: slides[..count].iter().map(line).collect(), folded: None }
}

fn write(path: &Path, slides: &[Judged], classes: &[String]) -> Result<()> {
    let text = |cell: &dyn Fn(&Judged) -> String| Cells::Text(slides.iter().map(cell).collect());
    let names: Vec<String> = classes.iter().map(|class| format!("p_{class}")).collect();
    let mut columns = vec![
        ("slide_id", text(&|slide| slide.slide.clone())),
        ("patient_id", text(&|slide| slide.patient.clone())),
        ("label", text(&|slide| classes[slide.label].clone())),
        ("most_probable", text(&|slide| classes[slide.most_probable].clone())),
        ("wrong", Cells::Whole(slides.iter().map(|slide| slide.wrong.0 as i64).collect())),
        ("repeats", Cells::Whole(slides.iter().map(|slide| slide.wrong.1 as i64).collect())),
    ];
    for (class, name) in names.iter().enumerate() {
        columns.push((name, Cells::Real(slides.iter().map(|slide| slide.probabilities[class]).collect())));
    }
    table::write(path, columns)
}
