//! `wsi train`

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use clap::builder::PossibleValuesParser;

use super::{DataArguments, MachineArguments, PrintArguments, RuleArguments, SettingsArguments};
use crate::aggregators::AggregatorSettings;
use crate::learn::parallel::{Place, Ranks, launch};
use crate::losses::LossSettings;
use crate::render::text;
use crate::stages::{self, probe, train};
use crate::store::scores::ScoreFile;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    data: DataArguments,
    /// Folder for checkpoints, history and split
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What to train for; docs/losses.md has the formulas [default: ncmi]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(LossSettings::NAMES))]
    loss: Option<String>,
    /// How bags are pooled; docs/aggregators.md has the methods [default: abmil]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(AggregatorSettings::NAMES))]
    aggregator: Option<String>,
    /// Passes over the training set [default: 50]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Seed of every random stream [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Only train; otherwise the model is then probed into OUT/probe, as `wsi probe` does, and its scores are printed
    #[arg(long)]
    no_probe: bool,
    /// Train in N processes on this machine, each with its share of every batch and of --threads; docs/parallel.md has more,
    /// also for several machines
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    nproc: u16,
    #[command(flatten)]
    rules: RuleArguments,
    #[command(flatten)]
    machine: MachineArguments,
    #[command(flatten)]
    settings: SettingsArguments,
    #[command(flatten)]
    print: PrintArguments,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let nproc = usize::from(self.nproc);
        let place = Place::from_environment()?;
        if nproc > 1 && place.is_none() {
            return launch::launch(nproc, self.machine.machine()?.gpus());
        }
        if let Some(place) = &place {
            ensure!(nproc == 1 || nproc == place.size, "--nproc starts {nproc} ranks, and this one is already one of {}", place.size);
        }
        let mut flags = self.rules.settings();
        flags.extend([
            ("train.loss.name", self.loss),
            ("train.model.aggregator.name", self.aggregator),
            ("train.epochs", self.epochs.map(|value| value.to_string())),
            ("seed", self.seed.map(|value| value.to_string())),
        ]);
        let by_file = self.data.split.as_ref().map(|_| "split.name=file");
        let config = self.settings.load_after(by_file, &flags)?;
        let (data, machine) = (self.data.data(), self.machine.machine()?.for_rank(place.as_ref()));
        let ranks = place.as_ref().map_or_else(|| Ok(Ranks::alone()), Ranks::join)?;
        let Some(summary) = train::run_with(&ranks, &config, &data, &self.out, &machine)? else { return Ok(()) };
        let summary = stages::complete(summary)?;
        let mut figures = summary.figures;
        // Digests are for `wsi verify`.
        if let Some(figures) = figures.as_object_mut() {
            figures.retain(|name, _| !["bags", "outputs"].contains(&name.as_str()));
        }
        tracing::info!("train: {} in {:.1} s; {figures}", self.out.display(), summary.seconds);
        if self.no_probe {
            return Ok(());
        }
        let out = self.out.join("probe");
        let inputs = probe::Inputs { train: self.out, data, tiles: None };
        let probed = probe::run(&config, &inputs, &out, &machine).context("the model is trained; --no-probe leaves it at that");
        stages::complete(probed?)?;
        let scores = ScoreFile::read(&out)?;
        self.print.print(&scores, || text::decisions(&scores))
    }
}
