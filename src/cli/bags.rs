//! `wsi bags`

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::stages::bags;
use crate::store::formats::{Given, Severity};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// One line a bag: layout, tiles, width, encoder, pixel size, coordinates
    Show {
        #[command(flatten)]
        bags: BagArguments,
        /// One JSON object a bag instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Name every rule that a bag breaks (docs/formats.md); broken rules, unlike bent ones, exit with 1
    Lint {
        #[command(flatten)]
        bags: BagArguments,
        /// One JSON object a rule instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Write bags in another layout
    Convert {
        #[command(flatten)]
        bags: BagArguments,
        /// wsi, clam, trident, stamp or acmil
        #[arg(long, value_name = "LAYOUT")]
        to: String,
        /// Labels: acmil needs them; for stamp and clam they become the tables that those programs train with
        #[arg(long, value_name = "FILE")]
        labels: Option<PathBuf>,
        /// A new folder
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// Which bags, and what their layout does not say.
#[derive(Debug, Args)]
struct BagArguments {
    /// A folder of bags, or a cohort file
    bags: PathBuf,
    /// wsi, clam, trident, stamp, acmil or atlaspatch [default: as it looks]
    #[arg(long, value_name = "LAYOUT")]
    from: Option<String>,
    /// What made the features; chooses one where a folder holds several
    #[arg(long, value_name = "NAME")]
    encoder_name: Option<String>,
    /// µm per level-0 pixel
    #[arg(long, value_name = "UM")]
    slide_mpp: Option<f64>,
    /// Side of the tiles that the encoder was given, pixels
    #[arg(long, value_name = "PX")]
    tile_px: Option<u32>,
    /// Side of a tile's footprint, level-0 pixels
    #[arg(long, value_name = "PX")]
    side_level0: Option<u32>,
}

impl BagArguments {
    fn inputs(self) -> bags::Inputs {
        let given =
            Given { encoder: self.encoder_name, slide_mpp: self.slide_mpp, tile_px: self.tile_px, side_level0_px: self.side_level0 };
        bags::Inputs { root: self.bags, format: self.from, given }
    }
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        match self.verb {
            Verb::Show { bags, json } => {
                let lines = bags::show(&bags.inputs())?;
                print(&if json { objects(&lines) } else { lines })
            }
            Verb::Lint { bags, json } => {
                let found = bags::lint(&bags.inputs())?;
                let plain = found.iter().map(|violation| {
                    let severity = if violation.severity == Severity::Error { "error" } else { "warning" };
                    format!("{}\t{severity}\t{}\t{}", violation.bag, violation.rule, violation.seen)
                });
                let lines: Vec<String> = if json {
                    found.iter().map(serde_json::to_string).collect::<serde_json::Result<_>>()?
                } else {
                    std::iter::once("bag\tseverity\trule\twhat was seen".to_owned()).chain(plain).collect()
                };
                print(&lines)?;
                let errors = found.iter().filter(|violation| violation.severity == Severity::Error).count();
                if errors > 0 {
                    bail!("{errors} rules are broken; see above and docs/formats.md");
                }
                Ok(())
            }
            Verb::Convert { bags, to, labels, out } => bags::convert(&bags.inputs(), &to, labels.as_deref(), &out).map(drop),
        }
    }
}

/// Lines of a table as objects, by the names in its first line.
fn objects(lines: &[String]) -> Vec<String> {
    let Some((head, rows)) = lines.split_first() else { return Vec::new() };
    let object = |row: &String| {
        let cells = head.split('\t').zip(row.split('\t')).map(|(name, cell)| (name.to_owned(), Value::from(cell)));
        Value::Object(cells.collect()).to_string()
    };
    rows.iter().map(object).collect()
}

fn print(lines: &[String]) -> Result<()> {
    Ok(std::io::stdout().write_all((lines.join("\n") + "\n").as_bytes())?)
}
