//! `wsi report`

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::render::text;
use crate::stages::complete;
use crate::stages::report::{self, Options};
use crate::store::pooled::Pooled;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Probe and heatmap run folders, or folders that hold some
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Folder for report.html, its charts and its tables
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// No pictures of tissue on the page
    #[arg(long)]
    no_thumbs: bool,
    /// Print pooled.json instead of the table
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let summary = report::run(&self.runs, &self.out, Options { thumbs: !self.no_thumbs })?;
        let pooled = Pooled::read(&self.out)?;
        let text = if self.json { pooled.text()? } else { text::table(&pooled) };
        std::io::stdout().write_all(text.as_bytes())?;
        tracing::info!("report: '{}'", self.out.join(report::PAGE).display());
        complete(summary).map(drop)
    }
}
