//! `wsi synth`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::stages::{Machine, synth};
use crate::synth::CohortSettings;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Folder for slides/ and labels.csv
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Slides of each of the three classes, a multiple of 4
    #[arg(long, default_value_t = CohortSettings::default().slides_per_class, value_name = "N")]
    slides_per_class: usize,
    /// Same seed, same slides
    #[arg(long, default_value_t = CohortSettings::default().seed, value_name = "S")]
    seed: u64,
    /// Worker threads; 0 takes every processor this process may use
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let settings = CohortSettings { slides_per_class: self.slides_per_class, seed: self.seed };
        synth::run(&settings, &self.out, &Machine::new("cpu", self.threads)?)?;
        Ok(())
    }
}
