//! `wsi doctor`

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::stages::doctor;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// List the tags, attached pictures and file names of these slides that may tell whose they are; nothing is changed or shown
    #[arg(long, value_name = "DIR|FILE|CSV")]
    phi: PathBuf,
    /// One JSON object a finding instead of a table
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let findings = doctor::phi(&self.phi)?;
        let mut lines = if self.json { String::new() } else { String::from("slide\tplace\twhat is often there\tcharacters\n") };
        for finding in &findings {
            lines += &if self.json { serde_json::to_string(finding)? } else { finding.to_string() };
            lines.push('\n');
        }
        Ok(std::io::stdout().write_all(lines.as_bytes())?)
    }
}
