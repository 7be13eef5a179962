//! A published file of weights: a PyTorch checkpoint, a safetensors file, or the index of one that is cut into parts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tch::Tensor;

use super::located::Located;
use super::pickle::shown;
use super::{checkpoint, digest, tensors};

/// How a file is called that lists which part of a checkpoint holds which tensor.
const INDEX: &str = ".index.json";
const MOST_INDEX: u64 = 64 << 20;
/// Tensors may share numbers, and are written out each with its own: so many times the file at most.
const MOST_SHARING: u64 = 4;

/// A published file, opened: its tensors are found and their numbers not yet read.
#[derive(Debug)]
pub struct Published {
    files: Vec<File>,
    tensors: BTreeMap<String, (usize, Located)>,
    /// sha256 of the file; of the digests of the index and its parts, in this order, where there are parts.
    pub sha256: String,
    /// Entries of a checkpoint that are no tensors of its state dict.
    pub left_out: Vec<String>,
}

/// Whether a file begins as a PyTorch checkpoint does.
///
/// # Errors
/// Names the file: it cannot be read.
pub(super) fn is_checkpoint(path: &Path) -> Result<bool> {
    let mut beginning = Vec::new();
    let mut read = || File::open(path)?.take(64).read_to_end(&mut beginning);
    read().with_context(|| format!("cannot read the weight file '{}'", path.display()))?;
    Ok(checkpoint::recognised(&beginning))
}

impl Published {
    /// Finds the tensors of a file. A pickle is parsed as data and never executed. Memory: names and places.
    ///
    /// # Errors
    /// One line that names the file and what is wrong with it: unreadable, damaged, no weights.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let opened = if name.ends_with(INDEX) { Self::sharded(path) } else { Self::whole(path) };
        let published = opened.with_context(|| format!("cannot read the weights '{name}'"))?;
        ensure!(!published.tensors.is_empty(), "'{name}' holds no tensors");
        Ok(published)
    }

    fn whole(path: &Path) -> Result<Self> {
        let mut file = File::open(path)?;
        let (tensors, left_out) = if is_checkpoint(path)? {
            let found = checkpoint::open(&mut file)?;
            (found.tensors, found.left_out)
        } else {
            (tensors::places(&mut file)?.0, Vec::new())
        };
        let tensors = tensors.into_iter().map(|(name, located)| (name, (0, located))).collect();
        Ok(Self { files: vec![file], tensors, sha256: digest::file(path)?, left_out })
    }

    fn sharded(path: &Path) -> Result<Self> {
        let mut text = String::new();
        File::open(path)?.take(MOST_INDEX).read_to_string(&mut text).context("it is no text")?;
        let index: Value = serde_json::from_str(&text).context("it is no JSON")?;
        let Some(Value::Object(map)) = index.get("weight_map") else { bail!("it has no \"weight_map\"") };
        let part_of = |tensor: &str| map.get(tensor).and_then(Value::as_str);
        let mut parts = BTreeSet::new();
        for (tensor, part) in map {
            let part = part.as_str().with_context(|| format!("the part of '{}' is no file name", shown(tensor)))?;
            let mut components = Path::new(part).components();
            let plain = matches!((components.next(), components.next()), (Some(Component::Normal(_)), None)) && !part.ends_with(INDEX);
            ensure!(plain, "'{}' lies in '{}', which is no file beside the index", shown(tensor), shown(part));
            parts.insert(part);
        }
        let mut whole = Self { files: Vec::new(), tensors: BTreeMap::new(), sha256: String::new(), left_out: Vec::new() };
        let mut digests = digest::file(path)?;
        for part in parts {
            let opened = Self::whole(&path.with_file_name(part)).with_context(|| format!("part '{}'", shown(part)))?;
            for (name, (_, located)) in opened.tensors {
                ensure!(
                    part_of(&name) == Some(part),
                    "part '{}' has a tensor '{}' that the index does not place there",
                    shown(part),
                    shown(&name)
                );
                whole.tensors.insert(name, (whole.files.len(), located));
            }
            digests += &opened.sha256;
            whole.left_out.extend(opened.left_out);
            whole.files.extend(opened.files);
        }
        if let Some(missing) = map.keys().find(|name| !whole.tensors.contains_key(*name)) {
            bail!("part '{}' has no tensor '{}'", shown(part_of(missing).unwrap_or_default()), shown(missing));
        }
        whole.sha256 = digest::bytes(digests.as_bytes());
        Ok(whole)
    }

    /// All tensors. Memory: the tensors, and one of them twice.
    ///
    /// # Errors
    /// A file that cannot be read; tensors that would take many times the file.
    pub fn tensors(&mut self) -> Result<BTreeMap<String, Tensor>> {
        let mut on_disk = 0;
        for file in &self.files {
            on_disk += file.metadata()?.len();
        }
        let size: u64 = self.tensors.values().map(|(_, located)| located.size()).sum();
        ensure!(size / MOST_SHARING <= on_disk, "its tensors would take {size} bytes, many times the file's {on_disk}");
        let mut tensors = BTreeMap::new();
        for (name, (file, located)) in &self.tensors {
            let tensor = tensors::read_one(&mut self.files[*file], located).with_context(|| format!("tensor '{name}'"))?;
            tensors.insert(name.clone(), tensor);
        }
        Ok(tensors)
    }
}
