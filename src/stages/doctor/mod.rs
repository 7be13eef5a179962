//! `doctor`: what may go wrong here, said before it does: one check a line. Reads headers only, opens no label and no macro image, and
//! leaves no file behind.

mod gpu;
mod labels;
mod libraries;
mod memory;
mod output;
pub mod phi;
mod processors;
mod slides;
mod weights;

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use self::slides::Slides;
use crate::config::Config;

/// What is looked at besides the machine.
pub struct Asked {
    /// Every setting: which columns the labels have, which pixel size is wanted, which encoder.
    pub config: Config,
    /// Whether the encoder was named, so that its weights are needed.
    pub encoder: bool,
    /// The weight file, where the encoder's word names one.
    pub weights: Option<PathBuf>,
    /// A folder of slides, one slide, or a table that names them.
    pub slides: Option<PathBuf>,
    /// The labels.
    pub labels: Option<PathBuf>,
    /// Where results are to go; it need not be there yet.
    pub out: Option<PathBuf>,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Work goes on, slower or with less than was meant.
    Warning,
    /// A stage will refuse or fail.
    Error,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What was looked at.
    pub check: &'static str,
    /// What was seen.
    pub seen: String,
    /// What to do; empty where nothing is to be done.
    pub advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        write!(f, "{level}\t{}\t{}\t{}", self.check, self.seen, self.advice)
    }
}

fn ok(check: &'static str, seen: impl Into<String>) -> Finding {
    Finding { level: Level::Ok, check, seen: seen.into(), advice: String::new() }
}

fn warning(check: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { level: Level::Warning, check, seen: seen.into(), advice: advice.into() }
}

fn error(check: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { level: Level::Error, check, seen: seen.into(), advice: advice.into() }
}

/// What was asked, and the slides as they were found, once for all checks.
struct Patient<'a> {
    asked: &'a Asked,
    slides: Option<Slides>,
}

type Check = fn(&Patient) -> Vec<Finding>;

/// Every group of checks, in the order of the report. A group that was not asked for finds nothing.
const CHECKS: [Check; 8] =
    [libraries::check, gpu::check, processors::check, memory::check, weights::check, slides::check, labels::check, output::check];

/// Every finding of every check.
pub fn examine(asked: &Asked) -> Vec<Finding> {
    let slides = asked.slides.as_deref().map(|path| Slides::look(path, asked.config.tile.reader));
    let patient = Patient { asked, slides };
    CHECKS.iter().flat_map(|check| check(&patient)).collect()
}

/// Bytes for people, in decimal units.
fn bytes(count: u64) -> String {
    let count = count as f64;
    match count {
        ..1e6 => format!("{:.0} kB", (count / 1e3).ceil()),
        ..1e9 => format!("{:.0} MB", count / 1e6),
        ..1e12 => format!("{:.1} GB", count / 1e9),
        _ => format!("{:.1} TB", count / 1e12),
    }
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// A variable that is a whole number.
fn number(name: &str) -> Option<u64> {
    variable(name)?.trim().parse().ok()
}
