//! `weights`: a published checkpoint becomes a weight file of this program, and what is there is listed.
//!
//! Importing tries the weights on the network first, so that a wrong file is found when it is brought in, not weeks later.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use tch::Device;
use tch::nn::VarStore;

use crate::encoders::EncoderSettings;
use crate::store::weights::{self, Metadata, Weights};

/// Imports `file` for `encoder` into the folder of weight files and returns the new file. Doing it twice is harmless.
///
/// # Errors
/// An unknown encoder, a file that is no checkpoint or does not fit, another file already in its place.
pub fn import(file: &Path, encoder: &str, licence: &str, folder: &Path) -> Result<PathBuf> {
    let settings = EncoderSettings::named(encoder)
        .ok_or_else(|| anyhow!("no encoder is called '{encoder}'; there are: {}", EncoderSettings::NAMES.join(", ")))?;
    let published = weights::read_published(file)?;
    let store = VarStore::new(Device::Cpu);
    settings.build(&store.root());
    weights::load_into(&store, &published.tensors, settings.unused())
        .with_context(|| format!("'{}' is not a checkpoint of {encoder}", file.display()))?;

    let metadata = Metadata {
        encoder: encoder.to_owned(),
        licence: licence.to_owned(),
        source: file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        source_sha256: published.sha256,
    };
    let path = weights::path_in(folder, encoder);
    if path.exists() && weights::load(&path)?.metadata != metadata {
        bail!("'{}' is there already, made from another file or with another licence; remove it first", path.display());
    }
    weights::write(&path, &published.tensors, &metadata)?;
    tracing::info!("weights: '{}' imported for {encoder}", metadata.source);
    Ok(path)
}

/// The weight files of the folder, by name; a file that cannot be read is named in the log and left out.
///
/// # Errors
/// A folder that cannot be read; one that is not there holds no weights.
pub fn list(folder: &Path) -> Result<Vec<(PathBuf, Weights)>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read the folder '{}'", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        match weights::load(&path) {
            Ok(weights) => found.push((path, weights)),
            Err(error) => tracing::warn!("{error:#}"),
        }
    }
    Ok(found)
}
