//! `wsi config`

use anyhow::Result;
use clap::Args;

use super::{PrintArguments, SettingsArguments};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: SettingsArguments,
    #[command(flatten)]
    print: PrintArguments,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let config = self.settings.load(&[])?;
        let text = config.to_toml()?;
        self.print.print(&config, || text)
    }
}
