//! `wsi synth`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::{Map, json};

use crate::stages::{Machine, synth};
use crate::synth::CohortSettings;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Which cohort; docs/synthetic.md describes them
    #[arg(value_name = "COHORT", default_value = CohortSettings::DEFAULT, value_parser = PossibleValuesParser::new(CohortSettings::NAMES))]
    cohort: String,
    /// Folder for slides and labels
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Slides of each of the three classes, a multiple of 4 (demo, rare) [default: 8; rare: 16]
    #[arg(long, value_name = "N")]
    slides_per_class: Option<usize>,
    /// Share of the real cohort's size, above 0 and at most 1 (camelyon17, bracs) [default: 0.2; bracs: 0.1]
    #[arg(long, value_name = "SHARE")]
    scale: Option<f64>,
    /// Mean share of the tissue that lesions take (rare) [default: 0.02]
    #[arg(long, value_name = "SHARE")]
    lesion_share: Option<f64>,
    /// Same seed, same slides
    #[arg(long, default_value_t = 0, value_name = "S")]
    seed: u64,
    /// Worker threads; 0 takes every processor this process may use
    #[arg(long, default_value_t = 0, value_name = "N")]
    threads: usize,
}

impl Arguments {
    pub(super) fn run(self) -> Result<()> {
        let settings = self.settings()?;
        synth::run(&settings, &self.out, &Machine::new("cpu", self.threads)?)?;
        Ok(())
    }

    fn settings(&self) -> Result<CohortSettings> {
        let mut given = Map::from_iter([("name".to_owned(), json!(self.cohort)), ("seed".to_owned(), json!(self.seed))]);
        given.extend(self.slides_per_class.map(|value| ("slides-per-class".to_owned(), json!(value))));
        given.extend(self.scale.map(|value| ("scale".to_owned(), json!(value))));
        given.extend(self.lesion_share.map(|value| ("lesion-share".to_owned(), json!(value))));
        serde_json::from_value(given.into()).with_context(|| format!("the cohort '{}' does not have that option", self.cohort))
    }
}
