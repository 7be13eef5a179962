//! `wsi show`

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::stages::show;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A run, a bag, coordinates, a slide, a checkpoint, or a folder with runs
    #[arg(value_name = "RUN|BAG|SLIDE|CHECKPOINT")]
    path: PathBuf,
    /// Print it for programs
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let facts = show::show(&self.path)?;
        let text = if self.json { serde_json::to_string_pretty(&facts.json())? + "\n" } else { facts.text() };
        Ok(std::io::stdout().write_all(text.as_bytes())?)
    }
}
