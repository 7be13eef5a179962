//! `wsi status`

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::pipeline::status;
use crate::render;
use crate::store::files;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A pipeline's folder: OUT/<pipeline's name>
    folder: PathBuf,
    /// Print it for programs
    #[arg(long, conflicts_with = "html")]
    json: bool,
    /// Write it as a page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let status = status::status(&self.folder)?;
        if let Some(path) = &self.html {
            return files::write_bytes(path, render::status::page(&status).as_bytes());
        }
        let text = if self.json { serde_json::to_string_pretty(&status)? + "\n" } else { render::status::text(&status) };
        Ok(std::io::stdout().write_all(text.as_bytes())?)
    }
}
