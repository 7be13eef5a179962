//! A dozen thumbnails with their masks: wrongly classified slides first, then some of each class.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::PathBuf;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::DynamicImage;
use image::codecs::jpeg::JpegEncoder;

use super::groups::Group;
use crate::render::Picture;
use crate::store::predictions::Prediction;
use crate::store::scores::Decision;

/// Pictures in a report.
const MOST: usize = 12;
/// Longer side, pixels.
const SIDE_PX: u32 = 320;
/// Of 100; tissue stays recognisable at about 15 kB a picture.
const JPEG_QUALITY: u8 = 80;

/// Pictures of the first group's first repeat, and a note for each file that cannot be read.
pub(super) fn pictures(groups: &[Group]) -> (Vec<Picture>, Vec<String>) {
    let Some(group) = groups.first() else { return Default::default() };
    let (mut candidates, mut notes) = (Vec::new(), Vec::new());
    for probe in group.runs.values().next().into_iter().flat_map(BTreeMap::values) {
        let Some(tiles) = &probe.scores.tile_folder else { continue };
        let tiles = probe.folder.join(tiles);
        let rows = probe.predictions.get(&Decision::Lp).or_else(|| probe.predictions.values().next());
        for row in rows.into_iter().flatten() {
            let file = format!("{}.jpg", row.slide_id);
            let found = ["visualization", "thumbnails"].map(|kind| tiles.join(kind).join(&file)).into_iter().find(|path| path.is_file());
            if let Some(path) = found {
                candidates.push((row, &probe.scores.classes, path));
            }
        }
    }
    let mut pictures = Vec::new();
    for (row, classes, path) in choose(candidates) {
        match shrunk(&path) {
            Ok(jpeg) => pictures.push(Picture {
                slide_id: row.slide_id.clone(),
                label: classes[row.label].clone(),
                predicted: classes[row.predicted].clone(),
                jpeg: STANDARD.encode(jpeg),
            }),
            Err(error) => notes.push(format!("The picture of slide '{}' cannot be shown: {error:#}.", row.slide_id)),
        }
    }
    (pictures, notes)
}

type Candidate<'a> = (&'a Prediction, &'a Vec<String>, PathBuf);

/// Errors first, then the classes in turn; within each, by slide name.
fn choose(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by(|a, b| a.0.slide_id.cmp(&b.0.slide_id));
    let mut turn: BTreeMap<usize, usize> = BTreeMap::new();
    let mut ranked: Vec<_> = candidates
        .into_iter()
        .map(|candidate| {
            let right = candidate.0.label == candidate.0.predicted;
            let turn = turn.entry(candidate.0.label).or_default();
            *turn += usize::from(right);
            ((right, if right { *turn } else { 0 }, candidate.0.label), candidate)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().take(MOST).map(|(_, candidate)| candidate).collect()
}

fn shrunk(path: &PathBuf) -> Result<Vec<u8>> {
    let picture = image::open(path).context("it is no readable picture")?;
    let small = if picture.width().max(picture.height()) > SIDE_PX { picture.thumbnail(SIDE_PX, SIDE_PX) } else { picture };
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(Cursor::new(&mut bytes), JPEG_QUALITY).encode_image(&DynamicImage::ImageRgb8(small.to_rgb8()))?;
    Ok(bytes)
}
