//! `weights`: a published checkpoint becomes a weight file of this program; what is there is listed and checked.
//!
//! Importing tries the weights on the network first, so that a wrong file is found when it is brought in, not weeks later.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tch::nn::VarStore;
use tch::{Device, Tensor};

use crate::encoders::{EncoderSettings, EncoderSpec, vit};
use crate::store::weights::{self, Metadata, Published};

/// What the importer says of a file.
pub struct Import<'a> {
    /// The encoder that the weights are for.
    pub encoder: EncoderSpec,
    /// Their licence, where it is not the one that the encoder's description names.
    pub licence: Option<&'a str>,
    /// sha256 that the file must have, or its beginning, where it is not the one that the description states for a file of this
    /// name.
    pub sha256: Option<&'a str>,
}

/// Imports `file` into the folder of weight files and returns the new file. Doing it twice is harmless.
///
/// Memory: the larger of the network and the file's tensors, and one tensor more.
///
/// # Errors
/// An unknown encoder, a file that is no checkpoint, has another digest, does not fit or holds numbers that are not finite, another file
/// already in its place. Nothing is written then.
pub fn import(file: &Path, import: &Import, folder: &Path) -> Result<PathBuf> {
    let EncoderSpec { name: encoder, architecture, weights: stated, .. } = &import.encoder;
    let licence = import.licence.unwrap_or(&stated.licence);
    let wanted = variables(architecture)?;
    let source = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();

    let mut published = Published::open(file)?;
    // The description's digest is that of one file; the same weights are published in others, too.
    let known = if source == stated.file { &stated.sha256 } else { "" };
    let expected = import.sha256.unwrap_or(known).to_ascii_lowercase();
    ensure!(
        published.sha256.starts_with(&expected),
        "'{source}' has the sha256 {} instead of {expected}; it is another file, or damaged on its way",
        published.sha256
    );
    if !published.left_out.is_empty() {
        tracing::info!("weights: left out of '{source}', no tensors of a state dict: {}", some(&published.left_out));
    }
    let (tensors, names) = under_our_names(published.tensors()?, architecture, &wanted);
    if let Err(misfit) = weights::check_fit(&wanted, &tensors, architecture.unused()) {
        let others = others(&tensors, architecture);
        let hint = if others.is_empty() { String::new() } else { format!("; it fits {}", others.join(" and ")) };
        return Err(misfit.context(format!("'{source}' is not a checkpoint of {encoder}{hint}")));
    }

    let metadata = Metadata {
        encoder: encoder.clone(),
        licence: licence.to_owned(),
        source,
        source_sha256: published.sha256,
        names,
        tensors_sha256: String::new(),
    };
    let path = weights::path_in(folder, encoder);
    if path.exists() {
        let (there, _) = weights::describe(&path)?;
        let same = (&there.licence, &there.source_sha256) == (&metadata.licence, &metadata.source_sha256);
        ensure!(same, "'{}' is there already, made from another file or with another licence; remove it first", path.display());
    }
    weights::write(&path, &tensors, &metadata)?;
    tracing::info!("weights: '{}' imported for {encoder}", metadata.source);
    Ok(path)
}

/// The published tensors under the network's names, and what was done to the names.
fn under_our_names(
    mut tensors: BTreeMap<String, Tensor>,
    architecture: &EncoderSettings,
    wanted: &BTreeMap<String, Vec<i64>>,
) -> (BTreeMap<String, Tensor>, String) {
    if let EncoderSettings::Vit(_) = architecture {
        let published: Vec<String> = tensors.keys().cloned().collect();
        let renamed = vit::names::renamed(tensors);
        tensors = renamed.tensors;
        if !renamed.left_out.is_empty() {
            tracing::info!("weights: left out, of no use here: {}", some(&renamed.left_out));
        }
        if !tensors.keys().eq(&published) {
            return (tensors, "as timm names them".to_owned());
        }
    }
    let (tensors, unwrapped) = weights::unwrapped(wanted, tensors);
    let Some(unwrapped) = unwrapped else { return (tensors, String::new()) };
    if !unwrapped.left_out.is_empty() {
        tracing::info!("weights: left out, not under '{}': {}", unwrapped.prefix, some(&unwrapped.left_out));
    }
    (tensors, format!("without '{}'", unwrapped.prefix))
}

fn variables(architecture: &EncoderSettings) -> Result<BTreeMap<String, Vec<i64>>> {
    let store = VarStore::new(Device::Cpu);
    architecture.build(&store.root())?;
    Ok(weights::wanted(&store))
}

/// Widest Vision Transformer that is built only to see whether somebody's weights fit it: 86 million parameters.
const WIDEST_TRIED: i64 = 768;

/// Other encoders that tensors fit, told by names and shapes.
fn others(tensors: &BTreeMap<String, Tensor>, but: &EncoderSettings) -> Vec<&'static str> {
    let fits = |name: &&str| {
        let Ok(EncoderSpec { architecture, .. }) = EncoderSpec::built_in(name) else { return false };
        let small = !matches!(architecture, EncoderSettings::Vit(_)) || architecture.width().is_some_and(|width| width <= WIDEST_TRIED);
        let fits = || weights::check_fit(&variables(&architecture)?, tensors, architecture.unused());
        small && architecture != *but && fits().is_ok()
    };
    EncoderSpec::names().filter(fits).collect()
}

/// The first names of a list.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 12;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

/// One weight file: where it is, where it came from and its sha256, or why it cannot be read.
pub type Listed = (PathBuf, Result<(Metadata, String)>);

/// The weight files of the folder, by name.
///
/// # Errors
/// A folder that cannot be read; one that is not there holds no weights.
pub fn list(folder: &Path) -> Result<Vec<Listed>> {
    Ok(files(folder)?.into_iter().map(|path| (path.clone(), weights::describe(&path))).collect())
}

/// The weight files called `names`, or all: whether their tensors are those that were imported, and fit their encoder.
///
/// # Errors
/// A folder that cannot be read, a name that is not there.
pub fn verify(folder: &Path, names: &[String]) -> Result<Vec<Listed>> {
    let paths = if names.is_empty() { files(folder)? } else { names.iter().map(|name| weights::path_in(folder, name)).collect() };
    if let Some(missing) = paths.iter().find(|path| !path.is_file()) {
        bail!("there is no weight file '{}'; `wsi weights list` names those that are there", missing.display());
    }
    Ok(paths.into_iter().map(|path| (path.clone(), verified(&path))).collect())
}

fn verified(path: &Path) -> Result<(Metadata, String)> {
    let weights = weights::load(path)?;
    ensure!(!weights.metadata.tensors_sha256.is_empty(), "'{}' has no digest of its tensors; import it again", path.display());
    if let Ok(EncoderSpec { architecture, .. }) = EncoderSpec::built_in(&weights.metadata.encoder) {
        weights::check_fit(&variables(&architecture)?, &weights.tensors, architecture.unused())
            .with_context(|| format!("'{}' for {}", path.display(), weights.metadata.encoder))?;
    }
    Ok((weights.metadata, weights.sha256))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read the folder '{}'", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    paths.sort();
    Ok(paths)
}
