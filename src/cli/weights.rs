//! `wsi weights`

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::stages::weights;
use crate::store::weights::folder;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Convert a published checkpoint (PyTorch state dict or safetensors) into a weight file
    Import {
        /// The checkpoint; it is parsed as data, never executed
        file: PathBuf,
        /// Network that it belongs to
        #[arg(long, value_name = "NAME")]
        encoder: String,
        /// Licence of the weights, kept in the file
        #[arg(long, value_name = "NAME", default_value = "unknown")]
        licence: String,
    },
    /// Print the weight files that are there, as tab-separated columns
    List,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let folder = folder();
        match self.verb {
            Verb::Import { file, encoder, licence } => drop(weights::import(&file, &encoder, &licence, &folder)?),
            Verb::List => {
                let mut lines = String::from("file\tencoder\tlicence\tsha256\tsource\n");
                for (path, weights) in weights::list(&folder)? {
                    let (name, metadata) = (path.file_stem().unwrap_or_default().to_string_lossy(), &weights.metadata);
                    lines += &format!("{name}\t{}\t{}\t{}\t{}\n", metadata.encoder, metadata.licence, weights.sha256, metadata.source);
                }
                std::io::stdout().write_all(lines.as_bytes())?;
            }
        }
        Ok(())
    }
}
