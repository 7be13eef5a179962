//! `wsi show`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::PrintArguments;
use crate::stages::show;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A run, a bag, coordinates, a slide, a checkpoint, or a folder with runs or slides
    #[arg(value_name = "RUN|BAG|SLIDE|CHECKPOINT")]
    path: PathBuf,
    #[command(flatten)]
    print: PrintArguments,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let facts = show::show(&self.path)?;
        self.print.print(&facts.json(), || facts.text())
    }
}
