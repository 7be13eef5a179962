//! `wsi verify`

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use crate::stages::verify::{self, Inputs, State};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Run folders of tile, extract, train or probe, or folders with some below them, such as a pipeline's
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// The slides that were tiled; without them the chain begins at the coordinates
    #[arg(long, value_name = "DIR|FILE|CSV")]
    slides: Option<PathBuf>,
    /// The secret that gave the slides their pseudonyms
    #[arg(long, value_name = "SALTFILE", requires = "slides")]
    pseudonymise: Option<PathBuf>,
    /// What was trained on, where it is no run of this program
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The labels that were trained on
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// One JSON object a link instead of a table
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let inputs = Inputs { runs: self.runs, slides: self.slides, salt: self.pseudonymise, data: self.data, labels: self.labels };
        let links = verify::links(&inputs)?;
        let mut lines = if self.json { String::new() } else { String::from("run\tlink\tstate\twhat was seen\n") };
        for link in &links {
            lines += &if self.json { serde_json::to_string(link)? } else { link.to_string() };
            lines.push('\n');
        }
        std::io::stdout().write_all(lines.as_bytes())?;
        let count = |state| links.iter().filter(|link| link.state == state).count();
        tracing::info!("verify: {} links ok, {} broken, {} not checked", count(State::Ok), count(State::Broken), count(State::NotChecked));
        if let Some(first) = links.iter().find(|link| link.state == State::Broken) {
            bail!("the chain breaks first at {}, {}: {}", first.run, first.link, first.seen);
        }
        Ok(())
    }
}
