//! `wsi tile`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{PrintArguments, SelectionArguments, SettingsArguments};
use crate::ground::share;
use crate::stages::{self, Machine, tile};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Folder of slides, one slide, or a CSV table with a column slide or slide_id (and optionally mpp)
    #[arg(long, value_name = "DIR|FILE|CSV")]
    slides: PathBuf,
    /// Folder for coordinates, thumbnails and slides.csv
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Pixel size of the tiles, µm/px [default: 0.5]
    #[arg(long, value_name = "UM")]
    mpp: Option<f64>,
    /// Side of a tile, pixels at that size [default: 224]
    #[arg(long, value_name = "PX")]
    tile_px: Option<u32>,
    /// Distance of neighbouring tiles, same pixels [default: no overlap]
    #[arg(long, value_name = "PX")]
    step_px: Option<u32>,
    /// Smallest share of tissue in a tile, 0 to 1 [default: 0.5]
    #[arg(long, value_name = "SHARE")]
    min_tissue: Option<f64>,
    /// How tissue is found: hsv, otsu or none [default: hsv]
    #[arg(long, value_name = "NAME")]
    tissue: Option<String>,
    /// Annotations, and only what they enclose is tiled: a folder of files named by slide (GeoJSON of QuPath, XML of ASAP, or PNG masks),
    /// or one file for one slide
    #[arg(long, value_name = "DIR|FILE")]
    roi: Option<PathBuf>,
    /// Classes or groups whose outlines count, with commas between [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "roi")]
    roi_classes: Option<Vec<String>>,
    /// Tile what lies outside of the outlines instead
    #[arg(long, requires = "roi")]
    roi_outside: bool,
    /// Pixel size of level 0 for slides that do not state one, µm/px
    #[arg(long, value_name = "UM")]
    slide_mpp: Option<f64>,
    /// Largest share of a slide's tiles that may lie where it cannot be read, such as 1% [default: 1%]
    #[arg(long, value_name = "SHARE", value_parser = share::parse)]
    max_bad_tiles: Option<f64>,
    /// Who reads the pixels: auto, openslide or jpeg-tiles [default: auto, the fastest that can]
    #[arg(long, value_name = "NAME")]
    reader: Option<String>,
    /// Worker threads; 0 takes every processor this process may use
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
    #[command(flatten)]
    selection: SelectionArguments,
    #[command(flatten)]
    settings: SettingsArguments,
    #[command(flatten)]
    print: PrintArguments,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        // {:?} keeps the decimal point, so that "1" reads as a real number in TOML.
        let real = |value: Option<f64>| value.map(|value| format!("{value:?}"));
        let config = self.settings.load(&[
            ("tile.mpp", real(self.mpp)),
            ("tile.tile-px", self.tile_px.map(|value| value.to_string())),
            ("tile.step-px", self.step_px.map(|value| value.to_string())),
            ("tile.min-tissue", real(self.min_tissue)),
            ("tile.tissue.name", self.tissue),
            ("tile.roi.classes", self.roi_classes.map(|classes| format!("{classes:?}"))),
            ("tile.roi.outside", self.roi_outside.then(|| "true".to_owned())),
            ("tile.slide-mpp", real(self.slide_mpp)),
            ("tile.max-bad-tiles", real(self.max_bad_tiles)),
            ("tile.reader", self.reader),
        ])?;
        let machine = Machine::new("cpu", self.threads)?;
        let inputs = tile::Inputs { slides: self.slides, roi: self.roi, selection: self.selection.selection()? };
        let summary = tile::run(&config, &inputs, &self.out, &machine)?;
        if self.print.json {
            self.print.print(&summary, String::new)?;
        }
        stages::complete(summary).map(drop)
    }
}
