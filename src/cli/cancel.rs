//! `wsi cancel`

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::ground::listing::listing;
use crate::pipeline::status;
use crate::render::names;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A pipeline's folder: OUT/<pipeline's name>
    folder: PathBuf,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let (jobs, arrays) = status::cancel(&self.folder)?;
        let what = match jobs {
            0 => "no job of this folder is in Slurm's queue".to_owned(),
            jobs => format!(
                "{} cancelled (numbers {}); what is done stays done",
                names::count(jobs, "job"),
                listing(&arrays.into_iter().collect::<Vec<_>>(), ", ")
            ),
        };
        Ok(writeln!(std::io::stdout(), "{what}")?)
    }
}
