//! Every setting of the program, one section a stage. Precedence: `Default` < file < `--set key=value`.
//!
//! Files list only differences from the defaults, or from the file that they name as `base`; `wsi config` prints the whole truth; an unknown key fails with a
//! suggestion. Paths are no settings: they are arguments of a call and never enter a digest or an output.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use toml::Value;

use crate::aggregators::AggregatorSettings;
use crate::datasets::augment::AugmentationSettings;
use crate::datasets::cohort::CohortSettings;
use crate::datasets::leaks::LeakSettings;
use crate::datasets::split::SplitSettings;
use crate::encoders::{EncoderSpec, Precision};
use crate::learn::TrainSettings;
use crate::learn::optimizers::OptimizerSettings;
use crate::learn::schedule::ScheduleSettings;
use crate::losses::LossSettings;
use crate::probes::ProbeSettings;
use crate::store::heatmap::QuPathOrigin;
use crate::store::values::Dtype;
use crate::tiling::{TileSettings, roi};
use crate::tissue::TissueSettings;

/// All sections.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// One seed; every random stream is named and drawn from it.
    pub seed: u64,
    /// `wsi tile`.
    pub tile: TileSettings,
    /// `wsi extract`.
    pub extract: ExtractSettings,
    /// The labels table.
    pub cohort: CohortSettings,
    /// Who is trained on, validates, is tested.
    pub split: SplitSettings,
    /// What may not stand on two sides of the split.
    pub leaks: LeakSettings,
    /// `wsi train`.
    pub train: TrainSettings,
    /// `wsi probe`.
    pub probe: ProbeSettings,
    /// `wsi heatmap`.
    pub heatmap: HeatmapSettings,
}

/// Settings of `wsi extract`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExtractSettings {
    /// The frozen network: one that comes with the program, by name, or all that describes another.
    pub encoder: EncoderSpec,
    /// Tiles that the device is given at once; 0 leaves it to the program: 256 on a GPU, on a processor 32 or 8 a thread. Changes no vector
    /// on a processor, on a GPU the last bits.
    pub batch_size: usize,
    /// What the network computes in: `auto`, `f32`, `f16` or `bf16`.
    pub precision: Precision,
    /// What features are stored as: `f16` or `f32`.
    pub dtype: Dtype,
    /// Resize tiles of another side than the encoder's; without it they are refused.
    pub resize: bool,
    /// Use random weights, seeded by `seed`, where no weight file is wanted; named in every output.
    pub random_weights: bool,
    /// Largest share of a slide's tiles that may be unreadable, 0–1; a slide with more fails.
    pub max_bad_tiles: f64,
}

impl Default for ExtractSettings {
    fn default() -> Self {
        Self {
            encoder: EncoderSpec::default(),
            batch_size: 0,
            precision: Precision::Auto,
            dtype: Dtype::F16,
            resize: false,
            random_weights: false,
            max_bad_tiles: 0.01,
        }
    }
}

/// Settings of `wsi heatmap`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct HeatmapSettings {
    /// Which pictures of each slide are drawn.
    pub pictures: Vec<Shown>,
    /// How attention becomes a colour.
    pub scaling: Scaling,
    /// Tiles at or above this percentile of attention (or, without attention, this score of the chosen class) are outlined for QuPath, 0–1.
    pub threshold: f64,
    /// Tile objects in a file for QuPath, those of highest attention; 0 for all.
    pub geojson_tiles: usize,
    /// Where QuPath has (0, 0) on slides with bounds.
    pub qupath_origin: QuPathOrigin,
    /// Tiles in each half of a contact sheet.
    pub sheet_tiles: usize,
    /// What of the annotations is looked for.
    pub annotations: SoughtSettings,
}

impl Default for HeatmapSettings {
    fn default() -> Self {
        Self {
            pictures: vec![Shown::Attention],
            scaling: Scaling::Percentile,
            threshold: 0.9,
            geojson_tiles: 0,
            qupath_origin: QuPathOrigin::Bounds,
            sheet_tiles: 12,
            annotations: SoughtSettings::default(),
        }
    }
}

impl HeatmapSettings {
    /// # Errors
    /// A share that is none.
    pub fn validate(&self) -> Result<()> {
        ensure!((0.0..=1.0).contains(&self.threshold), "heatmap.threshold is {}; it wants a share from 0 to 1", self.threshold);
        let share = self.annotations.min_share;
        ensure!(share > 0.0 && share <= 1.0, "heatmap.annotations.min-share is {share}; it wants a share above 0, at most 1");
        Ok(())
    }
}

/// A kind of picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
    /// Attention, or, of an aggregator without, the score of the chosen class.
    Attention,
    /// The score of the chosen class.
    Predicted,
    /// The score of every class, a picture each.
    Classes,
}

/// How attention becomes a number from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scaling {
    /// Divided by the slide's largest.
    Raw,
    /// By its place among the slide's tiles: 1 for the highest, 0 for the lowest.
    Rank,
    /// The share of the slide's tiles below it, those as high counted half.
    Percentile,
}

/// `[heatmap.annotations]`: as `[tile.roi]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SoughtSettings {
    /// Classes (QuPath) or groups (ASAP) whose outlines are looked for; empty means every outline.
    pub classes: Vec<String>,
    /// Classes or groups that are cut out of them.
    pub except: Vec<String>,
    /// Smallest share of a tile inside for the tile to count as inside, above 0, at most 1.
    pub min_share: f64,
    /// Where the annotations' coordinates begin.
    pub origin: roi::Origin,
}

impl Default for SoughtSettings {
    fn default() -> Self {
        Self { classes: Vec::new(), except: Vec::new(), min_share: 0.5, origin: roi::Origin::Canvas }
    }
}

impl SoughtSettings {
    /// The same for the reader of annotations; a slide without any is left out, not refused.
    pub fn region(&self) -> roi::RoiSettings {
        roi::RoiSettings {
            classes: self.classes.clone(),
            except: self.except.clone(),
            outside: false,
            min_share: self.min_share,
            origin: self.origin,
            missing: roi::Missing::Skip,
        }
    }
}

impl Config {
    /// [`Config::load_all`] of one file or none.
    ///
    /// # Errors
    /// As [`Config::load_all`].
    pub fn load(file: Option<&Path>, overrides: &[String]) -> Result<Self> {
        Self::load_all(file, overrides)
    }

    /// Reads `files`, each over the former, and applies `overrides` (`key.path=value`, the value in TOML; a bare word is a string).
    ///
    /// # Errors
    /// An unreadable file, malformed TOML, an unknown key (with the nearest known one), a value of the wrong type.
    pub fn load_all<'a>(files: impl IntoIterator<Item = &'a Path>, overrides: &[String]) -> Result<Self> {
        let mut tree = toml::Table::new();
        for file in files {
            overlay(&mut tree, &read(file)?);
        }
        for item in overrides {
            let (key, value) = item.split_once('=').ok_or_else(|| anyhow!("--set wants key=value, not '{item}'"))?;
            set(&mut tree, key.trim(), parse_value(value.trim()))?;
        }
        Self::resolve(tree)
    }

    /// Fills a tree of differences with the defaults.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn resolve(mut tree: toml::Table) -> Result<Self> {
        name_defaults(&mut tree);
        if let Some(encoder) = tree.get_mut("extract").and_then(|extract| extract.get_mut("encoder")).and_then(Value::as_table_mut) {
            EncoderSpec::complete(encoder)?;
        }
        typed(tree, "settings")
    }

    /// Every setting written out, as TOML.
    ///
    /// # Errors
    /// None in practice: every section is plain data.
    pub fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string_pretty(self)?)
    }
}

/// Reads a settings file over the file that it names as `base`, relative to itself.
///
/// # Errors
/// A file that cannot be read, is not TOML, or is its own base.
pub fn read(path: &Path) -> Result<toml::Table> {
    read_over(path, 0)
}

fn read_over(path: &Path, depth: usize) -> Result<toml::Table> {
    ensure!(depth < 8, "'{}': more than 8 settings files name each other as `base`", path.display());
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the settings file '{}'", path.display()))?;
    let mut above: toml::Table = text.parse().with_context(|| format!("'{}' is not valid TOML", path.display()))?;
    let Some(base) = above.remove("base") else { return Ok(above) };
    let base = base.as_str().with_context(|| format!("'{}': `base` must be the name of a settings file", path.display()))?;
    let mut tree = read_over(&path.parent().unwrap_or(Path::new(".")).join(base), depth + 1)?;
    overlay(&mut tree, &above);
    Ok(tree)
}

/// Puts the settings of `above` over those of `tree`. Another member of a family (`name`) drops the settings of the former one.
pub fn overlay(tree: &mut toml::Table, above: &toml::Table) {
    if let (Some(former), Some(name)) = (tree.get("name"), above.get("name"))
        && former != name
    {
        tree.clear();
    }
    for (key, value) in above {
        match (tree.get_mut(key), value) {
            (Some(Value::Table(below)), Value::Table(value)) => overlay(below, value),
            _ => {
                tree.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Sections that choose a member by `name`, and the member meant where none is named.
const FAMILIES: [(&str, &str); 9] = [
    ("tile.tissue", TissueSettings::DEFAULT),
    ("extract.encoder", EncoderSpec::DEFAULT),
    ("split", SplitSettings::DEFAULT),
    ("train.model.aggregator", AggregatorSettings::DEFAULT),
    ("train.model.encoder", crate::model::DEFAULT_ENCODER),
    ("train.loss", LossSettings::DEFAULT),
    ("train.augmentation", AugmentationSettings::DEFAULT),
    ("train.optimizer", OptimizerSettings::DEFAULT),
    ("train.schedule", ScheduleSettings::DEFAULT),
];

/// Adds `name` to sections that have settings but no name.
fn name_defaults(tree: &mut toml::Table) {
    for (section, default) in FAMILIES {
        let mut table = Some(&mut *tree);
        for part in section.split('.') {
            table = table.and_then(|table| table.get_mut(part)).and_then(Value::as_table_mut);
        }
        // An encoder that is described in full has a name of its own, or none yet.
        let described = |table: &toml::Table| table.get("architecture").is_some_and(|architecture| architecture.get("name").is_some());
        if let Some(table) = table.filter(|table| !described(table)) {
            table.entry("name").or_insert_with(|| Value::String(default.to_owned()));
        }
    }
}

/// Sets `key` (dotted) in the tree. Choosing another member of a family (`….name`) drops the settings of the former one.
///
/// # Errors
/// A part of the path is no table.
pub fn set(tree: &mut toml::Table, key: &str, value: Value) -> Result<()> {
    name_defaults(tree);
    let (table, last) = entry(tree, key)?;
    if last == "name" && table.get("name").is_some_and(|former| *former != value) {
        table.clear();
    }
    table.insert(last.to_owned(), value);
    Ok(())
}

/// The table that the last part of `key` (dotted) belongs into, made where it is missing, and that part.
///
/// # Errors
/// A part of the path is no table.
pub fn entry<'a, 'b>(tree: &'a mut toml::Table, key: &'b str) -> Result<(&'a mut toml::Table, &'b str)> {
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().filter(|part| !part.is_empty()).ok_or_else(|| anyhow!("--set: '{key}' is not a key"))?;
    let mut table = tree;
    for part in parts {
        let next = table.entry(part).or_insert_with(|| Value::Table(toml::Table::new()));
        let Value::Table(next) = next else { bail!("--set: '{part}' in '{key}' is a value, not a section") };
        table = next;
    }
    Ok((table, last))
}

/// A value as TOML; what is not TOML is taken as a string, so that `train.loss.name=ncmi` needs no quotes.
pub fn parse_value(text: &str) -> Value {
    format!("v = {text}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

/// A tree as what it stands for; `what` names it in errors.
///
/// # Errors
/// An unknown key (with the nearest known one), a value of the wrong type.
pub fn typed<T: serde::de::DeserializeOwned>(tree: toml::Table, what: &str) -> Result<T> {
    serde_path_to_error::deserialize(Value::Table(tree)).map_err(|error| {
        let path = error.path().to_string();
        let message = error.inner().message().to_owned();
        match suggestion(&message) {
            Some(near) => anyhow!("{what}: at '{path}': {message}; did you mean '{near}'?"),
            None => anyhow!("{what}: at '{path}': {message}"),
        }
    })
}

/// serde's message lists the known names in backticks after the unknown one; the nearest is offered.
fn suggestion(message: &str) -> Option<String> {
    let mut words = message.split('`').skip(1).step_by(2);
    let unknown = words.next()?;
    words
        .map(|known| (strsim::damerau_levenshtein(unknown, known), known))
        .filter(|(distance, _)| *distance <= 3)
        .min()
        .map(|(_, known)| known.to_owned())
}
