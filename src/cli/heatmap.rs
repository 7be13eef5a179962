//! `wsi heatmap`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{MachineArguments, PrintArguments, SettingsArguments};
use crate::render::text;
use crate::stages::{self, Selection, heatmap};
use crate::store::heatmap::HeatmapFile;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A finished probe run, or a train run that has one in `probe`
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The slides, for contact sheets of the tiles looked at most and least: a folder, one slide, or a CSV with a column slide
    #[arg(long, value_name = "SLIDES")]
    slides: Option<PathBuf>,
    /// What people drew, to compare attention with: a folder of files named by slide (GeoJSON of QuPath, XML of ASAP, or PNG masks), or one
    /// file for one slide
    #[arg(long, value_name = "DIR|FILE")]
    annotations: Option<PathBuf>,
    /// Classes or groups whose outlines count, with commas between [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "annotations")]
    annotation_classes: Option<Vec<String>>,
    /// Where QuPath has (0, 0) on slides with bounds (MIRAX and others): bounds, or canvas for images added with --no-crop [default: bounds]
    #[arg(long, value_name = "NAME")]
    qupath_origin: Option<String>,
    /// The bags, where they are no longer where the probe run says
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The tile run behind the bags, for thumbnails, where it is not the one that the probe run names
    #[arg(long, value_name = "DIR")]
    tiles: Option<PathBuf>,
    /// Only the slides that this table names
    #[arg(long, value_name = "FILE")]
    only: Option<PathBuf>,
    /// Every slide that has a bag, not the tested ones alone; no agreement is computed for the others
    #[arg(long)]
    every_bag: bool,
    /// Folder for numbers, pictures and GeoJSON [default: heatmap, in the probe run]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    machine: MachineArguments,
    #[command(flatten)]
    settings: SettingsArguments,
    #[command(flatten)]
    print: PrintArguments,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let config = self.settings.load(&[
            ("heatmap.annotations.classes", self.annotation_classes.map(|classes| format!("{classes:?}"))),
            ("heatmap.qupath-origin", self.qupath_origin),
        ])?;
        let out = self.out.map_or_else(|| heatmap::usual_folder(&self.run), Ok)?;
        let inputs = heatmap::Inputs {
            run: self.run,
            data: self.data,
            tiles: self.tiles,
            slides: self.slides,
            annotations: self.annotations,
            selection: Selection { only: self.only, ..Selection::default() },
            every_bag: self.every_bag,
        };
        let summary = heatmap::run(&config, &inputs, &out, &self.machine.machine()?)?;
        let file = HeatmapFile::read(&out)?;
        self.print.print(&file, || text::heatmap(&file))?;
        tracing::info!("heatmap: '{}'", out.display());
        stages::complete(summary).map(drop)
    }
}
