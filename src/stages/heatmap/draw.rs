//! Files of one slide: the table of its tiles, pictures, objects for QuPath, a contact sheet.

use std::borrow::Cow;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use image::{Rgb, RgbImage};
use serde_json::json;

use super::look::Sight;
use super::regions;
use crate::config::{HeatmapSettings, Scaling, Shown};
use crate::ground::plan::Plan;
use crate::ground::units::{Coord, Size};
use crate::render::heatmap::{Heatmap, heatmap};
use crate::render::sheet::{Rows, sheet};
use crate::slides::{self, ReaderChoice};
use crate::store::annotations::qupath::{self, Objects, Outline, Tile};
use crate::store::heatmap::{self, GEOJSON, PICTURES, SHEETS};
use crate::store::{digest, files};
use crate::tiling::picture::{THUMBNAIL_PX, jpeg, resized};
use crate::tiling::stream;

/// Side of a tile on a contact sheet, pixels.
const SHEET_TILE_PX: u32 = 128;
/// Red, green, blue of marked regions in QuPath.
const MARKED: [u8; 3] = [213, 94, 0];

/// What all slides of a run have in common.
pub(super) struct Pens<'a> {
    pub(super) folder: &'a Path,
    pub(super) settings: &'a HeatmapSettings,
    pub(super) classes: &'a [String],
    /// The model in words.
    pub(super) model: &'a str,
    /// Where thumbnails are.
    pub(super) tiles: Option<&'a Path>,
}

/// Numbers of tiles from 0 to 1, and what they are.
struct Map<'a> {
    values: Cow<'a, [f64]>,
    what: String,
    ends: [String; 2],
    file: String,
}

impl Pens<'_> {
    /// Writes everything of one slide; `slide` is its file, where it is at hand.
    ///
    /// # Errors
    /// A file that cannot be written. A slide that cannot be read is told after everything that needs no slide is there.
    pub(super) fn draw(&self, slide_id: &str, sight: &Sight, slide: Option<&slides::SlideFile>) -> Result<()> {
        heatmap::write_tiles(self.folder, slide_id, self.classes, &sight.scores)?;
        self.objects(slide_id, sight)?;
        let opened = slide.map(|slide| open(slide, sight));
        let read = opened.as_ref().and_then(|opened| opened.as_ref().ok());
        let thumbnail = self.thumbnail(slide_id, sight, read.map(AsRef::as_ref))?;
        for map in self.maps(sight) {
            self.picture(slide_id, sight, &thumbnail, &map)?;
        }
        match opened {
            Some(opened) => self.sheet(slide_id, sight, opened?.as_ref()),
            None => Ok(()),
        }
    }

    /// The map by which tiles are ordered: attention, or the score of the chosen class.
    fn first(&self, sight: &Sight) -> Map<'_> {
        let (Some(attention), Some(percentile)) = (&sight.scores.attention, &sight.scores.percentile) else {
            return self.class_map(sight, sight.predicted, ".png".to_owned());
        };
        let most = attention.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let (values, what, ends): (Vec<f64>, _, _) = match self.settings.scaling {
            Scaling::Percentile => (percentile.clone(), "attention, percentile among the slide's tiles", ["0".into(), "100".into()]),
            Scaling::Raw => (attention.iter().map(|value| value / most).collect(), "attention", ["0".into(), format!("{most:.2e}")]),
            Scaling::Rank => {
                let above = |value: &f64| attention.iter().filter(|other| *other > value).count() as f64;
                let last = (attention.len() - 1).max(1) as f64;
                let values = attention.iter().map(|value| 1.0 - above(value) / last).collect();
                (values, "attention, rank among the slide's tiles", [attention.len().to_string(), "1".into()])
            }
        };
        Map { values: values.into(), what: what.to_owned(), ends, file: ".png".to_owned() }
    }

    fn class_map(&self, sight: &Sight, class: usize, file: String) -> Map<'_> {
        let what = format!("score of the class {}, of each tile alone", self.classes[class]);
        Map { values: sight.scores.classes[class].clone().into(), what, ends: ["0".into(), "1".into()], file }
    }

    fn maps(&self, sight: &Sight) -> Vec<Map<'_>> {
        let mut maps = Vec::new();
        for shown in &self.settings.pictures {
            match shown {
                Shown::Attention => maps.push(self.first(sight)),
                Shown::Predicted => maps.push(self.class_map(sight, sight.predicted, ".predicted.png".to_owned())),
                Shown::Classes => {
                    maps.extend((0..self.classes.len()).map(|class| self.class_map(sight, class, format!(".class-{class}.png"))));
                }
            }
        }
        maps
    }

    fn picture(&self, slide_id: &str, sight: &Sight, thumbnail: &RgbImage, map: &Map) -> Result<()> {
        let (canvas, side) = (canvas(sight), f64::from(sight.header.window.side_level0_px));
        let scale = [f64::from(thumbnail.width()) / f64::from(canvas.width), f64::from(thumbnail.height()) / f64::from(canvas.height)];
        let square = |at: &Coord| {
            let (x, y) = (at.x as f64, at.y as f64);
            [x * scale[0], y * scale[1], (x + side) * scale[0], (y + side) * scale[1]]
        };
        let tiles: Vec<[f64; 4]> = sight.scores.coords.iter().map(square).collect();
        let picture = heatmap(&Heatmap {
            thumbnail,
            width_um: f64::from(canvas.width) * sight.header.mpp.x,
            tiles: &tiles,
            values: &map.values,
            title: &format!("{slide_id}, {}", self.model),
            what: &map.what,
            ends: [&map.ends[0], &map.ends[1]],
        });
        let path = self.folder.join(PICTURES).join(format!("{slide_id}{}", map.file));
        files::write_whole(&path, |temporary| Ok(picture.save_with_format(temporary, image::ImageFormat::Png)?))
    }

    /// The tile run's, else one of the slide, else blank paper.
    fn thumbnail(&self, slide_id: &str, sight: &Sight, slide: Option<&dyn slides::Slide>) -> Result<RgbImage> {
        let known = self.tiles.map(|tiles| tiles.join("thumbnails").join(format!("{slide_id}.jpg"))).filter(|path| path.is_file());
        if let Some(path) = known {
            let context = || format!("the tile run's thumbnail of slide '{slide_id}' cannot be read; tile the slide again");
            return Ok(image::open(&path).with_context(context)?.to_rgb8());
        }
        let canvas = canvas(sight);
        let longest = canvas.width.max(canvas.height);
        let factor = (f64::from(THUMBNAIL_PX) / f64::from(longest)).min(1.0);
        let length = |length: u32| ((f64::from(length) * factor).round() as u32).max(1);
        let size = Size { width: length(canvas.width), height: length(canvas.height) };
        match slide {
            Some(slide) => resized(&slides::overview(slide, 1.0 / factor)?.image, size),
            None => Ok(RgbImage::from_pixel(size.width, size.height, Rgb([255; 3]))),
        }
    }

    fn objects(&self, slide_id: &str, sight: &Sight) -> Result<()> {
        let (scores, header) = (&sight.scores, &sight.header);
        // Regions are marked by percentile, whatever the pictures' scaling is.
        let (marks, class) = match &scores.percentile {
            Some(percentile) => (percentile, "High attention".to_owned()),
            None => (&scores.classes[sight.predicted], format!("High score of {}", self.classes[sight.predicted])),
        };
        let marked: Vec<Coord> =
            scores.coords.iter().zip(marks).filter(|(_, mark)| **mark >= self.settings.threshold).map(|(at, _)| *at).collect();
        let name =
            format!("{} at least {}", if scores.attention.is_some() { "attention percentile" } else { "score" }, self.settings.threshold);
        let outlines = regions::outlines(&marked, header.window.side_level0_px, header.window.step_level0_px)
            .into_iter()
            .map(|polygon| Outline { polygon, name: name.clone(), class: class.clone(), colour: MARKED })
            .collect();
        let mut shown: Vec<usize> = (0..scores.coords.len()).collect();
        if self.settings.geojson_tiles > 0 {
            shown.sort_by(|&a, &b| marks[b].total_cmp(&marks[a]));
            shown.truncate(self.settings.geojson_tiles);
            shown.sort_unstable();
        }
        let measured = |tile: usize| {
            let mut measurements = Vec::new();
            if let (Some(attention), Some(percentile)) = (&scores.attention, &scores.percentile) {
                measurements.extend([("attention".to_owned(), attention[tile]), ("attention percentile".to_owned(), percentile[tile])]);
            }
            measurements.extend(self.classes.iter().zip(&scores.classes).map(|(class, values)| (format!("p_{class}"), values[tile])));
            Tile { at: scores.coords[tile], measurements }
        };
        let origin = self.settings.qupath_origin;
        let corner = origin.corner(header.bounds);
        let path = self.folder.join(GEOJSON).join(format!("{slide_id}.geojson"));
        qupath::write(
            &path,
            &Objects {
                key: &format!("{}, {slide_id}", self.model),
                side: header.window.side_level0_px,
                tiles: shown.into_iter().map(measured).collect(),
                outlines,
                origin: corner,
                note: json!({ "slide_id": slide_id, "model": self.model, "origin": origin, "corner_level0_px": [corner.x, corner.y] }),
            },
        )
    }

    fn sheet(&self, slide_id: &str, sight: &Sight, slide: &dyn slides::Slide) -> Result<()> {
        let map = self.first(sight);
        let mut order: Vec<usize> = (0..map.values.len()).collect();
        order.sort_by(|&a, &b| map.values[b].total_cmp(&map.values[a]));
        let half = self.settings.sheet_tiles.min(order.len());
        let last: Vec<usize> = order[order.len() - half..].iter().rev().copied().collect();
        let rows = |tiles: &[usize]| -> Result<Vec<(Option<RgbImage>, String)>> {
            let words = tiles
                .iter()
                .map(|&tile| format!("{:.3} {},{}", map.values[tile], sight.scores.coords[tile].x, sight.scores.coords[tile].y));
            Ok(pixels(sight, tiles, slide_id, slide)?.into_iter().zip(words).collect())
        };
        let (most, least) = (format!("{slide_id}: highest, {}", map.what), format!("{slide_id}: lowest, {}", map.what));
        let picture =
            sheet(&[Rows { heading: &most, tiles: rows(&order[..half])? }, Rows { heading: &least, tiles: rows(&last)? }], SHEET_TILE_PX);
        files::write_bytes(&self.folder.join(SHEETS).join(format!("{slide_id}.jpg")), &jpeg(&picture)?)
    }
}

/// The slide of the bag.
fn open(file: &slides::SlideFile, sight: &Sight) -> Result<Box<dyn slides::Slide>> {
    let header = &sight.header;
    let slide = slides::open_with(&file.path, ReaderChoice::from(header.window.reader))?;
    let same = digest::files_fast(file.files())? == header.slide_digest;
    ensure!(same, "'{}' is not the slide that the bag is of; give the --slides that were tiled", file.file);
    Ok(slide)
}

/// The tiles as the encoder saw them, at the size of the sheet; `None` for one that cannot be read.
fn pixels(sight: &Sight, tiles: &[usize], slide_id: &str, slide: &dyn slides::Slide) -> Result<Vec<Option<RgbImage>>> {
    let header = &sight.header;
    let plan = Plan {
        slide_id: slide_id.to_owned(),
        slide_file: header.slide_file.clone(),
        slide_digest: header.slide_digest.clone(),
        canvas: canvas(sight),
        bounds: header.bounds,
        mpp: header.mpp,
        mpp_source: header.mpp_source.clone(),
        window: header.window.clone(),
        fingerprint: None,
        tissue: vec![1.0; tiles.len()],
        coords: tiles.iter().map(|&tile| sight.scores.coords[tile]).collect(),
    };
    let side = plan.window.tile_px;
    let mut found = Vec::new();
    stream::for_each_batch(slide, &plan, tiles.len().max(1), 1, |batch| {
        let mut images = batch.pixels.chunks_exact(side as usize * side as usize * 3);
        for status in batch.status {
            let image = if status == crate::ground::tile_status::TileStatus::Ok { images.next() } else { None };
            let image = image.and_then(|pixels| RgbImage::from_raw(side, side, pixels.to_vec()));
            found.push(image.map(|image| resized(&image, Size { width: SHEET_TILE_PX, height: SHEET_TILE_PX })).transpose()?);
        }
        Ok(())
    })?;
    Ok(found)
}

/// The slide's canvas, which `turns` has seen to be known before anything is drawn.
pub(super) fn canvas(sight: &Sight) -> Size {
    sight.header.canvas.unwrap_or(Size { width: 1, height: 1 })
}
