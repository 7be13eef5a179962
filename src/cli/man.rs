//! `wsi man`

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;

use super::Cli;
use crate::store::files;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Folder for wsi.1, wsi-tile.1 and so on; `man -l DIR/wsi.1` shows one
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let mut program = Cli::command().disable_help_subcommand(true);
        program.build();
        write(&program, &self.out)
    }
}

/// The page of a command and those of the commands inside it.
fn write(command: &Command, folder: &Path) -> Result<()> {
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    man.render(&mut page)?;
    files::write_bytes(&folder.join(man.get_filename()), &page)?;
    command.get_subcommands().filter(|inner| !inner.is_hide_set()).try_for_each(|inner| write(inner, folder))
}
