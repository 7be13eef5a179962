//! Images that lie in a part's folder itself, as ImageNet's validation archive holds them: their classes stand elsewhere.
//!
//! Either a table beside the folder (`val.txt`, `val.csv`, `LOC_val_solution.csv`: file name, then class), or the development kit
//! (`ILSVRC2012_devkit_t12/data/` with `meta.mat` and the ground truth: methods §7.4).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::entries::{Entry, is_image, listed};
use crate::ground::listing::listing;
use crate::store::matlab::{Cell, Structures};

/// Where the development kit may stand.
const KITS: [&str; 3] = ["ILSVRC2012_devkit_t12/data", "devkit/data", "data"];
const KINDS: &str = "meta.mat";
const TRUTH: &str = "ILSVRC2012_validation_ground_truth.txt";
const VALIDATION: &str = "ILSVRC2012_val_";

/// The images in `folder/name` itself with their classes; `None` where there are none, or where nothing names their classes and they are
/// no validation images. `known`: the classes of the training images.
///
/// # Errors
/// Images beside class folders; images whose class nothing names; class numbers.
pub(super) fn entries(folder: &Path, name: &str, part: &'static str, known: &BTreeSet<String>) -> Result<Option<Vec<Entry>>> {
    let inside = listed(&folder.join(name))?;
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = inside.into_iter().partition(|path| path.is_dir());
    let files: Vec<PathBuf> = files.into_iter().filter(|file| is_image(file)).collect();
    if files.is_empty() || part == "train" {
        return Ok(None);
    }
    ensure!(folders.is_empty(), "'{}' holds images beside class folders", folder.join(name).display());
    let tables = [format!("{name}.txt"), format!("{name}.csv"), format!("LOC_{name}_solution.csv")].map(|table| folder.join(table));
    let kits = KITS.map(|kit| folder.join(kit));
    let (source, classes) = if let Some(table) = tables.iter().find(|table| table.is_file()) {
        (table.clone(), of_table(table, known).with_context(|| format!("'{}'", table.display()))?)
    } else if let Some(kit) = kits.iter().find(|kit| kit.join(TRUTH).is_file()).filter(|_| part == "val") {
        (kit.join(TRUTH), of_kit(kit)?)
    } else if part == "val" {
        bail!(
            "nothing names the classes of the {} images in '{}': put them into class folders, or put {} or the development kit (folder {}) beside it",
            files.len(),
            folder.join(name).display(),
            tables.map(|table| table.file_name().unwrap_or_default().to_string_lossy().into_owned()).join(", "),
            KITS[0]
        )
    } else {
        return Ok(None);
    };
    let mut entries = Vec::new();
    let mut nameless = Vec::new();
    for file in files {
        let id = format!("{name}/{}", file.file_name().unwrap_or_default().display());
        match classes.get(&stem(&file)) {
            Some(class) => entries.push(Entry { id, part, class: class.clone(), file }),
            None => nameless.push(id),
        }
    }
    ensure!(nameless.is_empty(), "'{}' names no class of {}", source.display(), listing(&nameless, ", "));
    Ok(Some(entries))
}

/// A file's name without its ending.
fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Class by file name without ending, from lines of a name and a class, with anything behind them.
fn of_table(table: &Path, known: &BTreeSet<String>) -> Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(table)?;
    let mut classes = BTreeMap::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let mut words = line.split([',', ';', '\t', ' ']).map(|word| word.trim_matches('"')).filter(|word| !word.is_empty());
        let (Some(file), Some(class)) = (words.next(), words.next()) else { bail!("line {} does not name a file and a class", index + 1) };
        let numbered = class.bytes().all(|byte| byte.is_ascii_digit()) && !known.contains(class);
        ensure!(
            !numbered,
            "line {} gives the class number {class}; ImageNet's classes are numbered in two ways, so give their names (n01440764 …)",
            index + 1
        );
        // Names are given with or without an ending; those of a heading are nobody's.
        let name = if is_image(Path::new(file)) { stem(Path::new(file)) } else { file.to_owned() };
        if let Some(other) = classes.insert(name, class.to_owned()).filter(|other| other != class) {
            bail!("line {}: '{file}' has the class {class}, before it had {other}", index + 1);
        }
    }
    Ok(classes)
}

/// Class by file name without ending, as the development kit has it: line i of the ground truth is the kit's number of image i's class.
fn of_kit(kit: &Path) -> Result<BTreeMap<String, String>> {
    let (kinds, truth) = (kit.join(KINDS), kit.join(TRUTH));
    let names = numbered(&std::fs::read(&kinds).with_context(|| format!("cannot read '{}'", kinds.display()))?)
        .with_context(|| format!("'{}'", kinds.display()))?;
    let text = std::fs::read_to_string(&truth).with_context(|| format!("cannot read '{}'", truth.display()))?;
    let class = |(index, line): (usize, &str)| {
        let name = line.trim().parse().ok().and_then(|number: u32| names.get(&number));
        let name = name.with_context(|| format!("'{}': line {} is '{line}', no number of a class", truth.display(), index + 1))?;
        Ok((format!("{VALIDATION}{:08}", index + 1), name.clone()))
    };
    text.lines().enumerate().map(class).collect()
}

/// The kit's number of each class that has no classes below it → its name.
fn numbered(table: &[u8]) -> Result<BTreeMap<u32, String>> {
    let synsets = Structures::parse(table, "synsets")?;
    let mut names = BTreeMap::new();
    let numbers = synsets.field("ILSVRC2012_ID")?.zip(synsets.field("num_children")?);
    for ((number, below), name) in numbers.zip(synsets.field("WNID")?) {
        let (Cell::Numbers(number), Cell::Numbers(below), Cell::Text(name)) = (number, below, name) else {
            bail!("a class without a number or a name")
        };
        if below == &[0.0] {
            let &[number] = &number[..] else { bail!("the class {name} has {} numbers", number.len()) };
            ensure!(names.insert(number as u32, name.clone()).is_none(), "two classes have the number {number}");
        }
    }
    Ok(names)
}
