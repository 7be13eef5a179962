//! `wsi run`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::json;

use super::{MachineArguments, PrintArguments, RuleArguments, ScratchArguments};
use crate::ground::shard::Shard;
use crate::learn::parallel::{Place, Ranks};
use crate::pipeline::executors::{self, Call, Order, Ran};
use crate::pipeline::{self, Outcome, Part, Pipeline};
use crate::render::text;
use crate::stages::report;
use crate::store::pooled::Pooled;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Pipeline file
    pipeline: PathBuf,
    /// data=DIR, out=DIR, executor.name=slurm, or any setting; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// One of the sizes that the pipeline file offers in [scale]; without it the full one
    #[arg(long, value_name = "NAME")]
    scale: Option<String>,
    /// The parts of every run as a file names them: a run's split.csv, CLAM's splits_0.csv or ACMIL's JSON
    #[arg(long, value_name = "FILE")]
    split: Option<PathBuf>,
    /// What this cluster asks of jobs: a name in configs/sites/ or a file; docs/cluster.md
    #[arg(long, value_name = "NAME|FILE")]
    site: Option<String>,
    /// Print what would be run or submitted, scripts included; nothing is written
    #[arg(long)]
    dry_run: bool,
    /// Only this stage, here, as a job of an executor does it; stages before it are ended where they are not
    #[arg(long, value_name = "STAGE", value_parser = PossibleValuesParser::new(pipeline::STAGES), conflicts_with = "dry_run")]
    stage: Option<String>,
    /// With --stage: share i of n, of the slides, or from `train` on of the trainings; every n may follow any other
    #[arg(long, value_name = "I/N", default_value_t, requires = "stage")]
    shard: Shard,
    #[command(flatten)]
    scratch: ScratchArguments,
    #[command(flatten)]
    rules: RuleArguments,
    #[command(flatten)]
    machine: MachineArguments,
    #[command(flatten)]
    print: PrintArguments,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let mut overrides = self.overrides;
        overrides.extend(self.split.map(|path| format!("split-file={}", path.display())));
        overrides.extend(self.site.map(|site| format!("executor.site={}", toml::Value::from(site))));
        let flags = self.rules.settings();
        overrides.extend(flags.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?))));
        let mut pipeline = Pipeline::load(&self.pipeline, self.scale.as_deref(), &overrides)?;
        let machine = [self.machine.given(), self.scratch.given()].concat();
        pipeline.scratch = self.scratch.place();
        if let Some(stage) = self.stage {
            return run_stage(&pipeline, &stage, self.shard, &self.machine, self.print);
        }
        let order = Order {
            call: Call { pipeline: self.pipeline, scale: self.scale, overrides },
            program: std::env::args().next().unwrap_or_else(|| "wsi".to_owned()),
            machine: &machine,
            dry: self.dry_run,
        };
        let ran = executors::run(&pipeline, &order, || self.machine.machine())?;
        match ran {
            Ran::Here(outcome) => show(&outcome, self.print),
            Ran::Submitted(what) => self.print.print(&json!({ "submitted": what }), || what.clone()),
            Ran::Nothing => {
                let folder = pipeline.folder.display().to_string();
                let text = format!("nothing to do: every stage of '{}' is complete in '{folder}'\n", pipeline.name);
                self.print.print(&json!({ "complete": folder }), || text)
            }
        }
    }
}

/// What a job does: one stage, a share of it, alone or as one of the processes that train together.
fn run_stage(pipeline: &Pipeline, stage: &str, shard: Shard, machine: &MachineArguments, print: PrintArguments) -> Result<()> {
    let part = Part::new(pipeline, Some(stage), shard)?;
    let place = if stage == "train" { Place::from_environment()? } else { None };
    let machine = machine.machine()?.for_rank(place.as_ref());
    let ranks = place.as_ref().map_or_else(|| Ok(Ranks::alone()), Ranks::join)?;
    let outcome = pipeline::execute(pipeline, &machine, part, &ranks)?;
    if outcome.report.is_some() { show(&outcome, print) } else { Ok(()) }
}

fn show(outcome: &Outcome, print: PrintArguments) -> Result<()> {
    let Some(folder) = &outcome.report else { return Ok(()) };
    let page = folder.join(report::PAGE).display().to_string();
    match &outcome.verdict {
        Some(verdict) => print.print(&json!({ "report": page, "verdict": verdict }), || format!("{verdict}\n\nreport: {page}\n")),
        None => {
            let pooled = Pooled::read(folder)?;
            print.print(&json!({ "report": page, "pooled": pooled }), || format!("{}\nreport: {page}\n", text::table(&pooled)))
        }
    }
}
