//! `wsi probe`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{DataArguments, MachineArguments, SettingsArguments};
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
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let config = self.settings.load(&[])?;
        let inputs = probe::Inputs { train: self.train, data: self.data.data(), tiles: self.tiles };
        stages::complete(probe::run(&config, &inputs, &self.out, &self.machine.machine()?)?)?;
        let scores = ScoreFile::read(&self.out)?;
        for (decision, of) in &scores.decisions {
            let (f1, auc) = (of.macro_f1, of.macro_auc);
            tracing::info!(
                "probe: {:3} macro-F1 {:.3} ({:.3} to {:.3}), macro-AUC {:.3} ({:.3} to {:.3})",
                decision.name(),
                f1.value,
                f1.low,
                f1.high,
                auc.value,
                auc.low,
                auc.high
            );
        }
        Ok(())
    }
}
