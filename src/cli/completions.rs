//! `wsi completions`

use std::io::Write;

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The shell; `source <(wsi completions bash)` for this session, docs/install.md for every one
    shell: Shell,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "wsi", &mut script);
        Ok(std::io::stdout().write_all(&script)?)
    }
}
