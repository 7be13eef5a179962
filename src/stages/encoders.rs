//! Which encoders there are, and what `--encoder` may name: one of them, a description of another, an exported network, a
//! training run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use toml::{Table, Value};

use crate::encoders::{EncoderSpec, exported};
use crate::learn::checkpoint;
use crate::store::{run, weights};

/// What a word after `--encoder` stands for.
pub struct Choice {
    /// `[extract.encoder]`, as far as the word decides it.
    pub settings: Table,
    /// The file that the word itself names.
    pub weights: Option<PathBuf>,
}

impl Choice {
    /// The whole description.
    ///
    /// # Errors
    /// An unknown name, settings that are not complete.
    pub fn spec(mut self) -> Result<EncoderSpec> {
        EncoderSpec::complete(&mut self.settings)?;
        Value::Table(self.settings).try_into().context("the encoder's description")
    }
}

/// Finds out what `word` names: an encoder that comes with the program, a description (`.toml`), an exported network (`.pt`,
/// `.pt2`), or the folder of a `wsi train` run on images.
///
/// # Errors
/// A file that cannot be read; a run that is not finished or has no encoder. A word that is no file is taken for a name, which the
/// settings then know or refuse.
pub fn choose(word: &str) -> Result<Choice> {
    let path = Path::new(word);
    let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    // A folder that is called like an encoder is not meant.
    if path.is_dir() && EncoderSpec::names().all(|name| name != word) {
        return trained(path);
    }
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the encoder's description '{word}'"))?;
            let mut settings: Table = text.parse().with_context(|| format!("'{word}' is not valid TOML"))?;
            settings.entry("name").or_insert_with(|| Value::from(stem()));
            Ok(Choice { settings, weights: None })
        }
        Some(ending) if exported::ENDINGS.contains(&ending) => {
            ensure!(path.is_file(), "'{word}' is not there");
            let mut settings = Table::from_iter([("name".to_owned(), Value::from(stem()))]);
            settings.insert("architecture".into(), named("exported"));
            settings.insert("input".into(), Value::try_from(&EncoderSpec::default().input)?);
            Ok(Choice { settings, weights: Some(path.to_owned()) })
        }
        Some("safetensors" | "pth" | "bin") if path.is_file() => bail!(
            "'{word}' holds weights, not an encoder; say which network they are for: `wsi weights import {word} --encoder NAME`, or --encoder NAME --weights FILE"
        ),
        _ => Ok(Choice { settings: Table::from_iter([("name".to_owned(), Value::from(word))]), weights: None }),
    }
}

/// The encoder that `wsi train` trained on images.
fn trained(folder: &Path) -> Result<Choice> {
    run::finished(folder, "train")?;
    let config = super::settings_of(folder)?;
    let architecture = &config.train.model.encoder;
    // What the network saw follows from the data that it was trained on, not from its architecture.
    let input = config.train.data.evaluation(&config.train.image_folder);
    let input =
        input.with_context(|| format!("'{}' was not trained on images; it has no encoder that could take tiles", folder.display()))?;
    let best = folder.join(checkpoint::BEST);
    let weights = if best.is_file() { best } else { folder.join(checkpoint::LAST) };
    // The folder's own name says loss, seed and digest.
    let name = folder.file_name().map_or_else(|| architecture.name().to_owned(), |name| name.to_string_lossy().into_owned());
    let mut settings = Table::from_iter([("name".to_owned(), Value::from(name))]);
    settings.insert("architecture".into(), Value::try_from(architecture)?);
    settings.insert("input".into(), Value::try_from(input)?);
    Ok(Choice { settings, weights: Some(weights) })
}

fn named(name: &str) -> Value {
    Value::Table(Table::from_iter([("name".to_owned(), Value::from(name))]))
}

/// One encoder, and whether it can be used here.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// D, numbers a tile, where the settings tell.
    pub width: Option<i64>,
    /// Side of its tiles, pixels.
    pub px: u32,
    /// Licence of its weights.
    pub licence: String,
    /// `here` or `missing`.
    pub weights: String,
    /// Where to ask for them.
    pub source: String,
}

/// Every encoder that comes with the program.
///
/// # Errors
/// None in practice: what comes with the program is whole.
pub fn list(folder: &Path) -> Result<Vec<Listed>> {
    EncoderSpec::names()
        .map(|name| {
            let spec = EncoderSpec::built_in(name)?;
            let weights = if weights::path_in(folder, name).is_file() { "here" } else { "missing" };
            Ok(Listed {
                width: spec.architecture.width(),
                px: spec.px()?,
                weights: weights.to_owned(),
                licence: spec.weights.licence,
                source: spec.weights.source,
                name: spec.name,
            })
        })
        .collect()
}
