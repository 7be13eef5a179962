//! `wsi doctor`

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use super::SettingsArguments;
use crate::stages::doctor::{self, Asked, Level, phi};
use crate::stages::encoders;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Open these slides, and say whether `wsi tile` would take them
    #[arg(long, value_name = "DIR|FILE|CSV")]
    slides: Option<PathBuf>,
    /// Read these labels, and compare them with the slides
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Try the folder for results: space, renames, locks, clock; nothing stays behind
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Read this encoder's weights; as for `wsi extract`
    #[arg(long, value_name = "NAME|FILE|DIR")]
    encoder: Option<String>,
    /// Warnings make the call fail, too
    #[arg(long)]
    strict: bool,
    /// Instead of all that: list the tags, attached pictures and file names of these slides that may tell whose they are; nothing is changed or shown
    #[arg(long, value_name = "DIR|FILE|CSV", conflicts_with_all = ["slides", "labels", "out", "encoder", "strict"])]
    phi: Option<PathBuf>,
    /// One JSON object a finding instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArguments,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        if let Some(slides) = &self.phi {
            return print("slide\tplace\twhat is often there\tcharacters", &phi::places(slides)?, self.json);
        }
        let choice = self.encoder.as_deref().map(encoders::choose).transpose()?;
        let chosen = choice.as_ref().map(|choice| format!("extract.encoder={}", toml::Value::Table(choice.settings.clone())));
        let asked = Asked {
            config: self.settings.load_after(chosen.as_deref(), &[])?,
            encoder: self.encoder.is_some(),
            weights: choice.and_then(|choice| choice.weights),
            slides: self.slides,
            labels: self.labels,
            out: self.out,
        };
        let findings = doctor::examine(&asked);
        print("level\tcheck\twhat was seen\twhat to do", &findings, self.json)?;
        let count = |level| findings.iter().filter(|finding| finding.level == level).count();
        let (warnings, errors) = (count(Level::Warning), count(Level::Error));
        tracing::info!("doctor: {} checks; warnings: {warnings}, errors: {errors}", findings.len());
        if errors > 0 || self.strict && warnings > 0 {
            bail!("doctor: errors: {errors}, warnings: {warnings}; see above");
        }
        Ok(())
    }
}

/// A header and a line an item; or JSON without a header.
fn print<T: std::fmt::Display + serde::Serialize>(header: &str, items: &[T], json: bool) -> Result<()> {
    let mut lines = if json { String::new() } else { format!("{header}\n") };
    for item in items {
        lines += &if json { serde_json::to_string(item)? } else { item.to_string() };
        lines.push('\n');
    }
    Ok(std::io::stdout().write_all(lines.as_bytes())?)
}
