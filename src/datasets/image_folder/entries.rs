//! The images of a set: which files there are, what class each has, and whether they begin and end as images.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;

use crate::ground::listing::listing;
use crate::ground::share;

/// Endings of files that are images, in small or large letters.
pub(super) const ENDINGS: [&str; 3] = ["jpeg", "jpg", "png"];

/// An image that a folder holds.
pub(super) struct Entry {
    pub(super) file: PathBuf,
    pub(super) id: String,
    pub(super) part: &'static str,
    pub(super) class: String,
}

/// Whether a file's name ends as that of an image.
pub(super) fn is_image(file: &Path) -> bool {
    file.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

/// The images of every class folder in `folder`, sorted; `parent` begins their ids.
pub(super) fn class_folders(folder: &Path, parent: &str, part: &'static str) -> Result<Vec<Entry>> {
    let mut classes = listed(folder)?;
    classes.retain(|path| path.is_dir());
    let empty = std::sync::Mutex::new(Vec::new());
    let per_class = classes.par_iter().map(|path| {
        let class = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut files = listed(path)?;
        files.retain(|file| is_image(file));
        if files.is_empty() {
            empty.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(class.clone());
        }
        let id = |file: &Path| {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            [parent, class.as_str(), name.as_str()].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join("/")
        };
        Ok(files.into_iter().map(|file| Entry { id: id(&file), file, part, class: class.clone() }).collect::<Vec<_>>())
    });
    let entries = per_class.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    let mut empty = empty.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    empty.sort();
    // Folders that have nothing to do with classes are no reason to refuse a folder that is no image set at all.
    if !part.is_empty() && !empty.is_empty() {
        bail!("class folders without images in '{}': {}", folder.display(), listing(&empty, ", "));
    }
    Ok(entries)
}

pub(super) fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read the folder '{}'", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.retain(|path| !path.file_name().unwrap_or_default().to_string_lossy().starts_with('.'));
    paths.sort();
    Ok(paths)
}

/// # Errors
/// Parts with other classes than the first: each class named, with where it is missing.
pub(super) fn check_classes(entries: &[Entry]) -> Result<()> {
    let classes_of =
        |part: &str| entries.iter().filter(|entry| entry.part == part).map(|entry| entry.class.as_str()).collect::<BTreeSet<_>>();
    let parts: Vec<&str> = entries.iter().map(|entry| entry.part).collect::<BTreeSet<_>>().into_iter().collect();
    let all = entries.iter().map(|entry| entry.class.as_str()).collect::<BTreeSet<_>>();
    let missing: Vec<String> = parts
        .iter()
        .flat_map(|part| all.difference(&classes_of(part)).map(|class| format!("{class} (not in {part})")).collect::<Vec<_>>())
        .collect();
    ensure!(missing.is_empty(), "the parts have other classes: {}", listing(&missing, ", "));
    Ok(())
}

/// Leaves out images whose beginning or end is not that of an image, as far as the share allows.
pub(super) fn readable(entries: Vec<Entry>, share: f64) -> Result<Vec<Entry>> {
    let faults: Vec<Option<String>> = entries.par_iter().map(|entry| look(&entry.file).err().map(|error| format!("{error:#}"))).collect();
    let unreadable: Vec<String> =
        entries.iter().zip(&faults).filter_map(|(entry, fault)| Some(format!("{}: {}", entry.id, fault.as_ref()?))).collect();
    if unreadable.is_empty() {
        return Ok(entries);
    }
    let allowed = share::allowed(share, entries.len());
    let list = listing(&unreadable, "\n  ");
    ensure!(
        unreadable.len() <= allowed,
        "{} of {} images cannot be read, {allowed} are allowed (train.image-folder.max-unreadable):\n  {list}",
        unreadable.len(),
        entries.len()
    );
    tracing::warn!("{} of {} images cannot be read and are left out:\n  {list}", unreadable.len(), entries.len());
    Ok(entries.into_iter().zip(faults).filter(|(_, fault)| fault.is_none()).map(|(entry, _)| entry).collect())
}

/// # Errors
/// A file that does not begin as an image, or, a JPEG, that does not end as one: it was cut off.
fn look(path: &Path) -> Result<()> {
    const TAIL: u64 = 64;
    let mut file = File::open(path).context("it cannot be opened")?;
    let mut head = [0; 16];
    let length = file.metadata()?.len();
    ensure!(length > TAIL, "it has {length} bytes");
    file.read_exact(&mut head)?;
    match image::guess_format(&head) {
        Ok(image::ImageFormat::Jpeg) => {
            let mut tail = [0; TAIL as usize];
            file.seek(SeekFrom::End(-(TAIL as i64)))?;
            file.read_exact(&mut tail)?;
            ensure!(tail.windows(2).any(|pair| pair == [0xff, 0xd9]), "its end is missing");
            Ok(())
        }
        Ok(image::ImageFormat::Png) => Ok(()),
        _ => bail!("it is neither JPEG nor PNG"),
    }
}
