//! `wsi pseudonymise`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::stages::pseudonymise;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Labels or another table (CSV, XLSX)
    table: PathBuf,
    /// The file given to `wsi tile --pseudonymise`
    #[arg(long, value_name = "SALTFILE")]
    salt: PathBuf,
    /// Columns with ids of slides or patients
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "slide_id,patient_id")]
    columns: Vec<String>,
    /// The new table (CSV)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        pseudonymise::run(&self.table, &self.salt, &self.columns, &self.out)
    }
}
