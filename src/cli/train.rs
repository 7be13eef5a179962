//! `wsi train`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{DataArguments, MachineArguments, SettingsArguments};
use crate::stages::{self, train};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    data: DataArguments,
    /// Folder for checkpoints, history and split
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// cross-entropy or ncmi [default: ncmi]
    #[arg(long, value_name = "NAME")]
    loss: Option<String>,
    /// abmil or mean [default: abmil]
    #[arg(long, value_name = "NAME")]
    aggregator: Option<String>,
    /// Passes over the training set [default: 50]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Seed of every random stream [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    machine: MachineArguments,
    #[command(flatten)]
    settings: SettingsArguments,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let config = self.settings.load(&[
            ("train.loss.name", self.loss),
            ("train.model.aggregator.name", self.aggregator),
            ("train.epochs", self.epochs.map(|value| value.to_string())),
            ("seed", self.seed.map(|value| value.to_string())),
        ])?;
        let summary = stages::complete(train::run(&config, &self.data.data(), &self.out, &self.machine.machine()?)?)?;
        tracing::info!("train: {} in {:.1} s; {}", self.out.display(), summary.seconds, summary.figures);
        Ok(())
    }
}
