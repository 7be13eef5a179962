//! `wsi report`

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::render::text;
use crate::stages::{complete, report};
use crate::store::pooled::Pooled;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Probe run folders, or folders that hold some
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Folder for report.html, scores.csv and pooled.json
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let summary = report::run(&self.runs, &self.out)?;
        std::io::stdout().write_all(text::table(&Pooled::read(&self.out)?).as_bytes())?;
        tracing::info!("report: '{}'", self.out.join(report::PAGE).display());
        complete(summary).map(drop)
    }
}
