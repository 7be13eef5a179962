//! The heatmaps that are worth a look: where a model was wrong and sure, and where it looked elsewhere.

use std::collections::BTreeSet;

use super::compare::MEASURES;
use super::{Eyes, Seen};
use crate::render::Picture;
use crate::stages::report::pictures::{self, Limit};
use crate::store::heatmap::{PICTURES, SlideMap};

/// Pictures on the page.
const MOST: usize = 8;
/// Wide enough for the legend to be read.
const PICTURE: Limit = Limit { side_px: 480, bytes: 25_000 };

/// The pictures of the slides that went wrong most surely, then of those with the least agreement.
pub(super) fn worst(all: &[Eyes], notes: &mut Vec<String>) -> Vec<Picture> {
    let mut ranked: Vec<(f64, Seen, &str)> = Vec::new();
    for eyes in all {
        for seen in eyes.seen() {
            let SlideMap { label, predicted, probabilities, .. } = seen.slide;
            let chosen = seen.run.file.classes.iter().position(|class| class == predicted).and_then(|class| probabilities.get(class));
            let badness = match (label.is_empty() || label == predicted, chosen) {
                (false, Some(&chosen)) => 1.0 + chosen,
                _ => 1.0 - Some(MEASURES[0].1(seen.slide)).filter(|auroc| auroc.is_finite()).unwrap_or(1.0),
            };
            if badness > 0.0 {
                ranked.push((badness, seen, &eyes.name));
            }
        }
    }
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.slide.slide_id.cmp(&b.1.slide.slide_id)).then(a.1.run.name.cmp(&b.1.run.name)));
    let mut shown = Vec::new();
    // One slide as one recipe sees it, once: other seeds show much the same.
    let mut known = BTreeSet::new();
    for (_, seen, recipe) in ranked {
        let SlideMap { slide_id, label, predicted, .. } = seen.slide;
        if shown.len() == MOST || !known.insert((slide_id.as_str(), recipe)) {
            continue;
        }
        let path = seen.run.folder.join(PICTURES).join(format!("{slide_id}.png"));
        if !path.is_file() {
            continue;
        }
        let auroc = MEASURES[0].1(seen.slide);
        let agrees = if auroc.is_finite() { format!(", AUROC {auroc:.2}") } else { String::new() };
        match pictures::shrunk(&path, &PICTURE) {
            Ok(jpeg) => shown.push(Picture {
                slide_id: slide_id.clone(),
                label: if label.is_empty() { predicted.clone() } else { label.clone() },
                predicted: predicted.clone(),
                remark: format!("{recipe}, seed {}{agrees}", seen.run.file.seed),
                alt: format!("Attention of {recipe} over slide {slide_id}, class {label}"),
                jpeg,
            }),
            Err(error) => notes.push(format!("The heatmap of slide '{slide_id}' in '{}' cannot be shown: {error:#}.", seen.run.name)),
        }
    }
    shown
}
