//! `wsi run`

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::{MachineArguments, RuleArguments};
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
    /// One of the sizes that the pipeline file offers in [scale]; without it the full one
    #[arg(long, value_name = "NAME")]
    scale: Option<String>,
    /// The parts of every run as a file names them: a run's split.csv, CLAM's splits_0.csv or ACMIL's JSON
    #[arg(long, value_name = "FILE")]
    split: Option<PathBuf>,
    #[command(flatten)]
    rules: RuleArguments,
    #[command(flatten)]
    machine: MachineArguments,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let mut overrides = self.overrides;
        overrides.extend(self.split.map(|path| format!("split-file={}", path.display())));
        let flags = self.rules.settings();
        overrides.extend(flags.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?))));
        let pipeline = Pipeline::load(&self.pipeline, self.scale.as_deref(), &overrides)?;
        let outcome = pipeline::execute(&pipeline, &self.machine.machine()?)?;
        if let Some(folder) = outcome.report {
            let mut out = std::io::stdout().lock();
            match outcome.verdict {
                Some(verdict) => writeln!(out, "{verdict}")?,
                None => out.write_all(text::table(&Pooled::read(&folder)?).as_bytes())?,
            }
            writeln!(out, "\nreport: {}", folder.join(report::PAGE).display())?;
        }
        Ok(())
    }
}
