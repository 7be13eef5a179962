//! `wsi config`

use std::io::Write;

use anyhow::Result;
use clap::Args;

use super::SettingsArguments;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: SettingsArguments,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        Ok(std::io::stdout().write_all(self.settings.load(&[])?.to_toml()?.as_bytes())?)
    }
}
