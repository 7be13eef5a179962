//! Weight files: safetensors with their origin as a note, made once from whatever was published, loaded by name.
//!
//! A folder holds one file an encoder, `<encoder>.safetensors`. The sha256 of that file is part of every bag.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tch::Tensor;
use tch::nn::VarStore;

use super::{digest, published, tensors};

pub use super::published::Published;

/// Where a weight file came from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// The encoder it was imported for.
    pub encoder: String,
    /// Its licence, as the importer stated it.
    pub licence: String,
    /// File name of the original.
    pub source: String,
    /// sha256 of the original.
    pub source_sha256: String,
    /// How the original's names became the network's; empty where they are the same.
    pub names: String,
    /// sha256 over names, kinds, shapes and numbers of the tensors; set when the file is written.
    pub tensors_sha256: String,
}

/// A weight file in memory.
pub struct Weights {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Empty fields for a file that this program did not write.
    pub metadata: Metadata,
    /// sha256 of the file.
    pub sha256: String,
}

/// The folder of weight files: `WSI_WEIGHTS`, else `weights/` beside the program, else the user's data folder.
pub fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("WSI_WEIGHTS") {
        return folder.into();
    }
    let beside = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.join("weights")));
    if let Some(folder) = beside.filter(|folder| folder.is_dir()) {
        return folder;
    }
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let data = data.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share")));
    data.unwrap_or_default().join("wsi/weights")
}

/// The weight file of an encoder inside `folder`.
pub fn path_in(folder: &Path, encoder: &str) -> PathBuf {
    folder.join(format!("{encoder}.safetensors"))
}

/// The encoder's own tensors, where the file is a checkpoint of `wsi train` with more in it; all of them elsewhere.
pub fn encoder_of(tensors: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    const INSIDE: &str = "model.encoder.";
    if !tensors.keys().any(|name| name.starts_with(INSIDE)) {
        return tensors;
    }
    tensors.into_iter().filter_map(|(name, tensor)| Some((name.strip_prefix(INSIDE)?.to_owned(), tensor))).collect()
}

/// Reads a weight file and compares its tensors with the digest that was taken when it was written. Memory: the tensors, and one of them twice.
///
/// # Errors
/// One line that names the file and what is wrong with it.
pub fn load(path: &Path) -> Result<Weights> {
    if published::is_checkpoint(path)? {
        bail!("'{}' is a PyTorch checkpoint; convert it once with `wsi weights import FILE --encoder NAME`", path.display());
    }
    let (tensors, note) = tensors::read(path)?;
    let metadata = metadata(path, note)?;
    let expected = &metadata.tensors_sha256;
    ensure!(
        expected.is_empty() || *expected == tensors_sha256(&tensors)?,
        "the tensors of '{}' are not those that were imported: the file was damaged or changed; import it again",
        path.display()
    );
    Ok(Weights { tensors, metadata, sha256: digest::file(path)? })
}

/// Where a weight file came from, and its sha256, without reading its tensors.
///
/// # Errors
/// As [`load`], but for the tensors' digest.
pub fn describe(path: &Path) -> Result<(Metadata, String)> {
    Ok((metadata(path, tensors::note(path)?)?, digest::file(path)?))
}

/// Writes a weight file, whole or not at all; equal content gives equal bytes.
///
/// # Errors
/// Names the file; a number that is not finite, by its tensor.
pub fn write(path: &Path, tensors: &BTreeMap<String, Tensor>, metadata: &Metadata) -> Result<()> {
    for (name, tensor) in tensors {
        let finite = !tensor.is_floating_point() || tch::no_grad(|| bool::try_from(tensor.isfinite().all()))?;
        ensure!(finite, "tensor '{name}' holds numbers that are not finite; the file is damaged, or training diverged");
    }
    let metadata = Metadata { tensors_sha256: tensors_sha256(tensors)?, ..metadata.clone() };
    tensors::write(path, tensors, &serde_json::to_value(metadata)?)
}

/// Names and shapes of a network's variables.
pub fn wanted(store: &VarStore) -> BTreeMap<String, Vec<i64>> {
    store.variables().into_iter().map(|(name, variable)| (name, variable.size())).collect()
}

/// Whether tensors are those of a network with the variables `wanted`. A name that begins as one of `unused` may be left over, and
/// batch counters may be missing; nothing else.
///
/// # Errors
/// Lists every missing and every unexpected tensor and every wrong shape.
pub fn check_fit(wanted: &BTreeMap<String, Vec<i64>>, tensors: &BTreeMap<String, Tensor>, unused: &[&str]) -> Result<()> {
    let mut faults = BTreeSet::new();
    for (name, shape) in wanted {
        match tensors.get(name) {
            None if name.ends_with(COUNTER) => {}
            None => drop(faults.insert(format!("missing: {name} {shape:?}"))),
            Some(tensor) if tensor.size() != *shape => {
                faults.insert(format!("wrong shape: {name} {:?} instead of {shape:?}", tensor.size()));
            }
            Some(_) => {}
        }
    }
    let unexpected = |name: &&String| !wanted.contains_key(*name) && !unused.iter().any(|beginning| name.starts_with(beginning));
    faults.extend(tensors.keys().filter(|name| unexpected(name)).map(|name| format!("unexpected: {name}")));
    if !faults.is_empty() {
        let list = faults.into_iter().collect::<Vec<_>>().join("\n  ");
        bail!("the weights do not fit the network:\n  {list}");
    }
    Ok(())
}

/// Copies tensors into the variables of the same name, if they fit ([`check_fit`]).
///
/// # Errors
/// Those of [`check_fit`]; the variables are then unchanged.
pub fn load_into(store: &VarStore, tensors: &BTreeMap<String, Tensor>, unused: &[&str]) -> Result<()> {
    check_fit(&wanted(store), tensors, unused)?;
    tch::no_grad(|| {
        for (name, mut variable) in store.variables() {
            if let Some(tensor) = tensors.get(&name) {
                variable.copy_(tensor);
            }
        }
    });
    Ok(())
}

/// Batches that a batch norm has seen; of no use afterwards, and some files leave it out.
const COUNTER: &str = "num_batches_tracked";

/// What training scripts and wrappers put in front of an encoder's names.
const WRAPPINGS: [&str; 8] = ["module.", "model.", "backbone.", "encoder.", "teacher.", "_orig_mod.", "network.", "net."];
/// Wrappers in wrappers.
const DEEPEST_WRAPPING: usize = 4;

/// Takes a wrapper's prefix off the names: the one under which most of what the network wants is found. Tensors that lie elsewhere are left
/// out, and named. Also says what was done.
pub fn unwrapped(
    wanted: &BTreeMap<String, Vec<i64>>,
    mut tensors: BTreeMap<String, Tensor>,
) -> (BTreeMap<String, Tensor>, Option<Unwrapped>) {
    let found = |prefix: &str| wanted.keys().filter(|name| tensors.contains_key(&format!("{prefix}{name}"))).count();
    let prefixes: BTreeSet<&str> = tensors.keys().flat_map(|name| beginnings(name)).collect();
    let best = prefixes.into_iter().map(|prefix| (found(prefix), prefix)).rev().max_by_key(|(count, _)| *count);
    let Some((_, prefix)) = best.filter(|(count, _)| *count > found("")) else { return (tensors, None) };
    let prefix = prefix.to_owned();
    let (inside, outside): (Vec<_>, Vec<_>) = std::mem::take(&mut tensors).into_iter().partition(|(name, _)| name.starts_with(&prefix));
    let stripped = inside.into_iter().map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor)).collect();
    (stripped, Some(Unwrapped { prefix, left_out: outside.into_iter().map(|(name, _)| name).collect() }))
}

/// What [`unwrapped`] did.
#[derive(Debug, PartialEq)]
pub struct Unwrapped {
    /// The prefix that it took away.
    pub prefix: String,
    /// Names without it.
    pub left_out: Vec<String>,
}

/// The wrappers' prefixes of a name, from the shortest to the longest.
fn beginnings(name: &str) -> impl Iterator<Item = &str> {
    let mut length = 0;
    let longer = std::iter::from_fn(move || {
        length += WRAPPINGS.iter().find(|wrapping| name[length..].starts_with(**wrapping))?.len();
        Some(&name[..length])
    });
    longer.take(DEEPEST_WRAPPING)
}

fn tensors_sha256(tensors: &BTreeMap<String, Tensor>) -> Result<String> {
    let mut hash = Sha256::new();
    for (name, tensor) in tensors {
        hash.update(format!("{name}\0{} {:?}\0", tensors::dtype(name, tensor)?, tensor.size()));
        hash.update(tensors::bytes(tensor));
    }
    Ok(digest::hex(&hash.finalize()))
}

fn metadata(path: &Path, note: Value) -> Result<Metadata> {
    match note {
        Value::Null => Ok(Metadata::default()),
        note => serde_json::from_value(note).with_context(|| format!("the header of '{}'", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> BTreeMap<String, Tensor> {
        names.iter().map(|name| ((*name).to_owned(), Tensor::from_slice(&[1f32]))).collect()
    }

    #[test]
    fn a_wrapper_is_taken_off_and_what_lies_beside_it_is_named() {
        let wanted = BTreeMap::from([("a.weight".to_owned(), vec![1]), ("a.bias".to_owned(), vec![1])]);
        let keys = |tensors: &BTreeMap<String, Tensor>| tensors.keys().cloned().collect::<Vec<_>>();
        let (tensors, how) = unwrapped(&wanted, named(&["teacher.backbone.a.weight", "teacher.backbone.a.bias", "teacher.head.w"]));
        assert_eq!(keys(&tensors), ["a.bias", "a.weight"]);
        let how = how.unwrap();
        assert_eq!((how.prefix.as_str(), &how.left_out[..]), ("teacher.backbone.", &["teacher.head.w".to_owned()][..]));
        let (tensors, how) = unwrapped(&wanted, named(&["a.weight", "a.bias", "module.a.bias"]));
        assert!(how.is_none() && tensors.len() == 3);
        let (tensors, how) = unwrapped(&wanted, named(&["module.a.weight"]));
        assert_eq!(
            (keys(&tensors), how.unwrap().prefix.as_str()),
            (vec!["a.weight".to_owned()], "module."),
            "what is missing is said by its own name"
        );
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused_by_name_and_changed_files_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let mut tensors = named(&["a", "b"]);
        write(&path, &tensors, &Metadata::default()).unwrap();
        assert_eq!(load(&path).unwrap().tensors.len(), 2);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(load(&path).err().unwrap().to_string().contains("import it again"));
        tensors.insert("c".to_owned(), Tensor::from_slice(&[1f32, f32::NAN]));
        std::fs::remove_file(&path).unwrap();
        let error = write(&path, &tensors, &Metadata::default()).unwrap_err().to_string();
        assert!(error.contains("'c'") && !path.exists(), "{error}");
    }
}
