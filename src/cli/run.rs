//! `wsi run`

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::MachineArguments;
use crate::pipeline::{self, Pipeline};
use crate::render::text;
use crate::stages::report;
use crate::store::pooled::Pooled;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Pipeline file
    pipeline: PathBuf,
    /// data=DIR, out=DIR, or any setting; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    #[command(flatten)]
    machine: MachineArguments,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let pipeline = Pipeline::load(&self.pipeline, &self.overrides)?;
        let outcome = pipeline::execute(&pipeline, &self.machine.machine()?)?;
        if let Some(folder) = outcome.report {
            let mut out = std::io::stdout().lock();
            out.write_all(text::table(&Pooled::read(&folder)?).as_bytes())?;
            writeln!(out, "\nreport: {}", folder.join(report::PAGE).display())?;
        }
        Ok(())
    }
}
