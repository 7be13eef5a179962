//! `wsi extract`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{MachineArguments, PrintArguments, ScratchArguments, SelectionArguments, SettingsArguments};
use crate::ground::share;
use crate::stages::{self, encoders, extract};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Folder of slides, one slide, or a CSV table, as given to `wsi tile`
    #[arg(long, value_name = "DIR|FILE|CSV")]
    slides: PathBuf,
    /// Folder that `wsi tile` wrote
    #[arg(long, value_name = "DIR")]
    tiles: PathBuf,
    /// Folder for bags and slides.csv
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Network that turns tiles into vectors: a name of `wsi encoders`, a description of your own (FILE.toml), an exported network
    /// (FILE.pt of torch.jit.save, FILE.pt2 of torch.export.save), or the folder of a `wsi train` run on images [default: efficientnet-lite0]
    #[arg(long, value_name = "NAME|FILE|DIR")]
    encoder: Option<String>,
    /// Weight file (safetensors) [default: the encoder's own, see `wsi weights list`]
    #[arg(long, value_name = "FILE", conflicts_with = "random_weights")]
    weights: Option<PathBuf>,
    /// Tiles that the device is given at once [default: 256 on a GPU, on a processor 32 or 8 a thread]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Resize tiles that have another side than the encoder wants
    #[arg(long)]
    resize: bool,
    /// Use random weights; every output says so
    #[arg(long)]
    random_weights: bool,
    /// Largest share of a slide's tiles that may be unreadable, such as 1%; a slide with more fails [default: 1%]
    #[arg(long, value_name = "SHARE", value_parser = share::parse)]
    max_bad_tiles: Option<f64>,
    #[command(flatten)]
    scratch: ScratchArguments,
    #[command(flatten)]
    selection: SelectionArguments,
    #[command(flatten)]
    machine: MachineArguments,
    #[command(flatten)]
    settings: SettingsArguments,
    #[command(flatten)]
    print: PrintArguments,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let choice = self.encoder.as_deref().map(encoders::choose).transpose()?;
        let chosen = choice.as_ref().map(|choice| format!("extract.encoder={}", toml::Value::Table(choice.settings.clone())));
        let config = self.settings.load_after(
            chosen.as_deref(),
            &[
                ("extract.batch-size", self.batch_size.map(|value| value.to_string())),
                ("extract.resize", self.resize.then(|| "true".to_owned())),
                ("extract.random-weights", self.random_weights.then(|| "true".to_owned())),
                ("extract.max-bad-tiles", self.max_bad_tiles.map(|value| format!("{value:?}"))),
            ],
        )?;
        let inputs = extract::Inputs {
            slides: self.slides,
            tiles: self.tiles,
            weights: self.weights.or(choice.and_then(|choice| choice.weights)),
            selection: self.selection.selection()?,
            scratch: self.scratch.place(),
        };
        let summary = extract::run(&config, &inputs, &self.out, &self.machine.machine()?)?;
        if self.print.json {
            self.print.print(&summary, String::new)?;
        }
        stages::complete(summary).map(drop)
    }
}
