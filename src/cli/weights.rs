//! `wsi weights`

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::stages::encoders;
use crate::stages::weights::{self, Import, Listed};
use crate::store::weights::folder;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Convert a published checkpoint into a weight file: a PyTorch state dict, safetensors, or the index of one in parts
    Import {
        /// The checkpoint, or the `.index.json` of one in parts; it is parsed as data, never executed
        file: PathBuf,
        /// Encoder that it belongs to: a name of `wsi encoders`, or a description of your own (FILE.toml)
        #[arg(long, value_name = "NAME|FILE")]
        encoder: String,
        /// Licence of the weights, kept in the file [default: the one in the encoder's description]
        #[arg(long, value_name = "NAME")]
        licence: Option<String>,
        /// Refuse the file if its sha256 does not begin so [default: what the encoder's description says of a file of this name]
        #[arg(long, value_name = "HEX")]
        sha256: Option<String>,
    },
    /// Print the weight files that are there, as tab-separated columns
    List {
        /// One JSON object a file instead
        #[arg(long)]
        json: bool,
    },
    /// Read weight files in full: are their tensors those that were imported, and do they fit their encoder?
    Verify {
        /// Which ones; all where none is named
        names: Vec<String>,
    },
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let folder = folder();
        match self.verb {
            Verb::Import { file, encoder, licence, sha256 } => {
                let encoder = encoders::choose(&encoder)?.spec()?;
                let said = Import { encoder, licence: licence.as_deref(), sha256: sha256.as_deref() };
                weights::import(&file, &said, &folder).map(drop)
            }
            Verb::List { json } => print(weights::list(&folder)?, json),
            Verb::Verify { names } => print(weights::verify(&folder, &names)?, false),
        }
    }
}

/// One line a good file; the others are named in the log and make the call fail.
fn print(listed: Vec<Listed>, json: bool) -> Result<()> {
    let (all, mut bad) = (listed.len(), 0);
    let mut lines = if json { String::new() } else { String::from("file\tencoder\tlicence\tsha256\tsource\n") };
    for (path, file) in listed {
        match file {
            Ok((metadata, sha256)) => {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                lines += &if json {
                    let (encoder, licence, source) = (&metadata.encoder, &metadata.licence, &metadata.source);
                    json!({ "file": name, "encoder": encoder, "licence": licence, "sha256": sha256, "source": source }).to_string() + "\n"
                } else {
                    format!("{name}\t{}\t{}\t{sha256}\t{}\n", metadata.encoder, metadata.licence, metadata.source)
                };
            }
            Err(error) => {
                bad += 1;
                tracing::warn!("{error:#}");
            }
        }
    }
    std::io::stdout().write_all(lines.as_bytes())?;
    ensure!(bad == 0, "{bad} of {all} weight files cannot be used");
    Ok(())
}
