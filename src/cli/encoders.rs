//! `wsi encoders`

use std::io::Write;

use anyhow::Result;
use clap::Args;

use crate::encoders::EncoderSpec;
use crate::stages::encoders;
use crate::store::weights;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print the whole description of this one, to start your own from
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// One JSON object an encoder instead of a table
    #[arg(long, conflicts_with = "name")]
    json: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let mut text = String::new();
        if let Some(name) = self.name {
            text += &toml::to_string_pretty(&EncoderSpec::built_in(&name)?)?;
        } else {
            let listed = encoders::list(&weights::folder())?;
            if !self.json {
                text += "name\twidth\tpx\tweights\tlicence\tsource\n";
            }
            for encoder in &listed {
                if self.json {
                    text += &serde_json::to_string(encoder)?;
                } else {
                    let encoders::Listed { name, width, px, licence, weights, source } = encoder;
                    let width = width.map_or_else(|| "?".to_owned(), |width| width.to_string());
                    text += &format!("{name}\t{width}\t{px}\t{weights}\t{licence}\t{source}");
                }
                text.push('\n');
            }
        }
        Ok(std::io::stdout().write_all(text.as_bytes())?)
    }
}
