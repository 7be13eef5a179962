//! The words of the command line, one verb a file: clap types, each turned into settings and one call; no other logic.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::builder::PossibleValuesParser;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use serde::Serialize;

use crate::config::Config;
use crate::ground::shard::Shard;
use crate::learn::protocol::Protocol;
use crate::stages::extract::ScratchPlace;
use crate::stages::{Data, Machine, Selection};

mod bags;
mod cancel;
mod completions;
mod config;
mod doctor;
mod encoders;
mod extract;
mod gpu_check;
mod heatmap;
mod man;
mod probe;
mod pseudonymise;
mod report;
mod run;
mod show;
mod status;
mod synth;
mod tile;
mod train;
mod verify;
mod view;
mod weights;

/// Whole slides in, trustworthy numbers out.
#[derive(Debug, Parser)]
#[command(name = "wsi", version, about, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Find tissue and lay the grid: slides to coordinates
    Tile(tile::Arguments),
    /// Turn tiles into feature vectors: one bag a slide
    Extract(extract::Arguments),
    /// List the encoders that come with the program, and which weights are here
    Encoders(encoders::Arguments),
    /// Import and list encoder weights
    Weights(weights::Arguments),
    /// Train a model on bags or images
    Train(train::Arguments),
    /// Judge a trained model on its test rows
    Probe(probe::Arguments),
    /// Show what a model looks at: heatmaps, tables, files for QuPath; compared with annotations
    Heatmap(heatmap::Arguments),
    /// Run a pipeline: all stages, all settings of its sweep
    Run(run::Arguments),
    /// How far a pipeline is: done, running, failed or lost, and what to do next
    Status(status::Arguments),
    /// End a pipeline's jobs in Slurm's queue
    Cancel(cancel::Arguments),
    /// Put the scores of many runs on one page
    Report(report::Arguments),
    /// Show slides, and what models make of them, on a page of this machine
    View(view::Arguments),
    /// Say what a run, a bag, a slide or a checkpoint is, on one screen
    Show(show::Arguments),
    /// Make a small synthetic cohort
    Synth(synth::Arguments),
    /// Show, check and convert bags of this and other programs
    Bags(bags::Arguments),
    /// Look for trouble before it happens: machine, libraries, slides, labels, weights, output folder; patients' names in slide files
    Doctor(doctor::Arguments),
    /// Recompute the digests from slides to predictions and name the first that does not hold
    Verify(verify::Arguments),
    /// Put pseudonyms into a table of labels
    Pseudonymise(pseudonymise::Arguments),
    /// Print every setting, resolved
    Config(config::Arguments),
    /// Print what a shell needs to complete words of this program
    Completions(completions::Arguments),
    /// Write the manual pages, one a verb
    Man(man::Arguments),
    /// Compare a device with the processor and measure it (a diagnostic)
    #[command(hide = true)]
    GpuCheck(gpu_check::Arguments),
}

/// The verbs as `--help` lists them: in the order of the river, then what is around it.
const GROUPS: [(&str, &[&str]); 5] = [
    ("From slides to numbers", &["tile", "extract", "train", "probe", "heatmap", "report", "run"]),
    ("Looking", &["view", "show", "status"]),
    ("Before and after", &["doctor", "verify", "bags", "encoders", "weights", "config"]),
    ("Data", &["synth", "pseudonymise"]),
    ("The program itself", &["cancel", "completions", "man", "help"]),
];

/// The whole command line, with its verbs in groups.
pub fn command() -> clap::Command {
    let command = Cli::command();
    let about = |verb: &str| match verb {
        "help" => "Explain a verb".to_owned(),
        _ => command.find_subcommand(verb).and_then(|verb| verb.get_about()).map(ToString::to_string).unwrap_or_default(),
    };
    let line = |verb: &&str| format!("  {verb:<13} {}\n", about(verb));
    let group = |(heading, verbs): &(&str, &[&str])| format!("{heading}:\n{}\n", verbs.iter().map(line).collect::<String>());
    let groups: String = GROUPS.iter().map(group).collect();
    command.help_template(format!("{{about}}\n\n{{usage-heading}} {{usage}}\n\n{groups}Options:\n{{options}}{{after-help}}")).after_help(
        "\n`wsi help VERB` explains a verb. Exit codes: 0 done, 1 failed (also partly), 2 wrong usage, 75 interrupted, the same command continues.",
    )
}

impl Cli {
    /// What this process was called with; prints help or a wrong usage and ends the process, where that is asked for.
    pub fn given() -> Self {
        let matches = command().get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// Does what was asked.
    ///
    /// # Errors
    /// Whatever the verb reports; the caller prints it once.
    pub fn run(self) -> Result<()> {
        match self.verb {
            Verb::Tile(arguments) => arguments.run(),
            Verb::Extract(arguments) => arguments.run(),
            Verb::Encoders(arguments) => arguments.run(),
            Verb::Weights(arguments) => arguments.run(),
            Verb::Train(arguments) => arguments.run(),
            Verb::Probe(arguments) => arguments.run(),
            Verb::Heatmap(arguments) => arguments.run(),
            Verb::Run(arguments) => arguments.run(),
            Verb::Status(arguments) => arguments.run(),
            Verb::Cancel(arguments) => arguments.run(),
            Verb::Report(arguments) => arguments.run(),
            Verb::View(arguments) => arguments.run(),
            Verb::Show(arguments) => arguments.run(),
            Verb::Synth(arguments) => arguments.run(),
            Verb::Bags(arguments) => arguments.run(),
            Verb::Doctor(arguments) => arguments.run(),
            Verb::Verify(arguments) => arguments.run(),
            Verb::Pseudonymise(arguments) => arguments.run(),
            Verb::Config(arguments) => arguments.run(),
            Verb::Completions(arguments) => arguments.run(),
            Verb::Man(arguments) => arguments.run(),
            Verb::GpuCheck(arguments) => arguments.run(),
        }
    }
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, Args)]
struct PrintArguments {
    /// Print the result as JSON, for programs
    #[arg(long)]
    json: bool,
}

impl PrintArguments {
    /// Prints `value` for programs, or `text` for people.
    fn print(self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<()> {
        let text = if self.json { serde_json::to_string_pretty(value)? + "\n" } else { text() };
        Ok(std::io::stdout().write_all(text.as_bytes())?)
    }
}

/// Where settings come from.
#[derive(Debug, Args)]
struct SettingsArguments {
    /// Settings file (TOML); lists only what differs from the defaults; may be repeated, a later file wins
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// One setting, for example train.loss.temperature=0.5; may be repeated, wins over the file
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

impl SettingsArguments {
    /// `flags`: the verb's own flags as key and value; they win over `--set`.
    fn load(&self, flags: &[(&str, Option<String>)]) -> Result<Config> {
        self.load_after(None, flags)
    }

    /// As [`Self::load`], with a setting that goes before `--set`, because it chooses the family's member that others are about.
    fn load_after(&self, first: Option<&str>, flags: &[(&str, Option<String>)]) -> Result<Config> {
        let mut overrides: Vec<String> = first.map(str::to_owned).into_iter().chain(self.overrides.clone()).collect();
        overrides.extend(flags.iter().filter_map(|(key, value)| value.as_ref().map(|value| format!("{key}={value}"))));
        Config::load_all(self.config.iter().map(PathBuf::as_path), &overrides)
    }
}

/// The device that is there.
const AUTO: &str = "auto";

/// Where the work runs; never changes a result.
#[derive(Debug, Args)]
struct MachineArguments {
    /// cpu, cuda:N or auto
    #[arg(long, default_value = AUTO, value_name = "DEVICE")]
    device: String,
    /// Worker threads; 0 takes every processor this process may use
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
}

impl MachineArguments {
    /// The arguments again, where they are not the usual ones: for a job's command line.
    fn given(&self) -> Vec<String> {
        let device = (self.device != AUTO).then(|| ["--device".to_owned(), self.device.clone()]);
        let threads = (self.threads > 0).then(|| ["--threads".to_owned(), self.threads.to_string()]);
        device.into_iter().chain(threads).flatten().collect()
    }

    fn machine(&self) -> Result<Machine> {
        Machine::new(&self.device, self.threads)
    }
}

/// Which slides of a cohort one call works on.
#[derive(Debug, Args)]
struct SelectionArguments {
    /// Work on share i of n of the slides; the call that leaves none open finishes the folder [default: everything; in a Slurm array the
    /// task's share with --steal]
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// After the share, go on with slides of other shares that nobody has begun
    #[arg(long, requires = "shard")]
    steal: bool,
    /// Only the slides that this table names, such as the failed.csv of an earlier run
    #[arg(long, value_name = "FILE")]
    only: Option<PathBuf>,
    /// Name slides by a keyed hash of their ids, in every output and message; FILE holds the key, at least 16 random bytes
    #[arg(long, value_name = "SALTFILE")]
    pseudonymise: Option<PathBuf>,
}

impl SelectionArguments {
    /// # Errors
    /// A task of a Slurm array that cannot know its share.
    fn selection(self) -> Result<Selection> {
        let of_array = || Shard::of_slurm_array(|name| std::env::var(name).ok()).map_err(anyhow::Error::msg);
        let (shard, steal) = match self.shard {
            Some(shard) => (shard, self.steal),
            None => match of_array()? {
                Some(shard) => {
                    tracing::info!("share {shard}, as a task of a Slurm array; --shard 1/1 takes everything");
                    (shard, true)
                }
                None => (Shard::default(), false),
            },
        };
        Ok(Selection { shard, steal, only: self.only, salt: self.pseudonymise })
    }
}

/// Where slides are copied before they are read.
#[derive(Debug, Args)]
struct ScratchArguments {
    /// Copy each slide to this folder, on a disk of the machine itself, before it is read, and remove the copy afterwards
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Copies take at most so much together; slides beyond it are read where they are [default: half of what is free]
    #[arg(long, value_name = "GB", requires = "scratch")]
    scratch_gb: Option<u64>,
}

impl ScratchArguments {
    /// The arguments again, for a job's command line.
    fn given(&self) -> Vec<String> {
        let folder = self.scratch.iter().flat_map(|folder| ["--scratch".to_owned(), folder.display().to_string()]);
        let most = self.scratch_gb.iter().flat_map(|gb| ["--scratch-gb".to_owned(), gb.to_string()]);
        folder.chain(most).collect()
    }

    fn place(self) -> Option<ScratchPlace> {
        const GB: u64 = 1_000_000_000;
        self.scratch.map(|folder| ScratchPlace { folder, most: self.scratch_gb.map(|gb| gb.saturating_mul(GB)) })
    }
}

/// What is trained on.
#[derive(Debug, Args)]
struct DataArguments {
    /// An extract run, a folder of bags, or the folder of an image set
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Labels, for bags: a table (CSV, XLSX) or a folder of class folders
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// The parts as a file names them: a run's split.csv, CLAM's splits_0.csv or ACMIL's JSON
    #[arg(long, value_name = "FILE")]
    split: Option<PathBuf>,
}

impl DataArguments {
    fn data(&self) -> Data {
        Data { data: self.data.clone(), labels: self.labels.clone(), split: self.split.clone() }
    }
}

/// What a run is held to.
#[derive(Debug, Args)]
struct RuleArguments {
    /// Go on although patients, slides or centres stand on two sides of the split; every output repeats the reason
    #[arg(long, value_name = "REASON")]
    allow_leak: Option<String>,
    /// strict: as the settings say; paper: the epoch of the best validation macro-F1 + AUC, no verdict by intervals [default: strict]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(Protocol::NAMES))]
    protocol: Option<String>,
}

impl RuleArguments {
    /// The settings that they stand for.
    fn settings(&self) -> Vec<(&'static str, Option<String>)> {
        // A reason is text, whatever it looks like as TOML.
        let reason = self.allow_leak.as_ref().map(|reason| toml::Value::from(reason.as_str()).to_string());
        let implied = self.protocol.iter().flat_map(|name| Protocol::settings(name)).map(|&(key, value)| (key, Some(value.to_owned())));
        [("leaks.allow", reason), ("train.protocol", self.protocol.clone())].into_iter().chain(implied).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_stands_in_one_group() {
        let program = Cli::command();
        let mut verbs: Vec<&str> = program.get_subcommands().filter(|verb| !verb.is_hide_set()).map(clap::Command::get_name).collect();
        verbs.push("help");
        let mut listed: Vec<&str> = GROUPS.iter().flat_map(|(_, verbs)| verbs.iter().copied()).collect();
        verbs.sort_unstable();
        listed.sort_unstable();
        assert_eq!(listed, verbs);
        let help = command().render_help().to_string();
        assert!(help.find("tile ").unwrap() < help.find("extract ").unwrap() && help.contains("Options:"), "{help}");
    }
}
