//! `wsi probe`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{DataArguments, MachineArguments, PrintArguments, SettingsArguments};
use crate::render::text;
use crate::stages::{self, probe};
use crate::store::scores::ScoreFile;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A finished train run
    #[arg(long, value_name = "DIR")]
    train: PathBuf,
    #[command(flatten)]
    data: DataArguments,
    /// The tile run behind the bags, for the report's pictures
    #[arg(long, value_name = "DIR")]
    tiles: Option<PathBuf>,
    /// Folder for scores and predictions
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    machine: MachineArguments,
    #[command(flatten)]
    settings: SettingsArguments,
    #[command(flatten)]
    print: PrintArguments,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let config = self.settings.load(&[])?;
        let inputs = probe::Inputs { train: self.train, data: self.data.data(), tiles: self.tiles };
        stages::complete(probe::run(&config, &inputs, &self.out, &self.machine.machine()?)?)?;
        let scores = ScoreFile::read(&self.out)?;
        self.print.print(&scores, || text::decisions(&scores))
    }
}
