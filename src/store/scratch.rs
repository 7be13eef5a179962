//! Copies of slides on a disk of the machine itself, for as long as they are read.
//!
//! A cluster's file system is quick with long reads and slow with the many short ones by which tiles are read.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};

use super::files;
use crate::ground::interrupt;
use crate::ground::volume::Volume;

const PREFIX: &str = "wsi-scratch-";
/// Before the folder is locked.
const NEW: &str = ".new-";
/// Held locked by the process that the folder belongs to. A machine's own disk has locks.
const LOCK: &str = "lock";
/// Copied between two looks whether to stop.
const PIECE: usize = 16 << 20;

/// A folder of this process below the one that was named.
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
    _lock: File,
    /// Bytes that copies may take together.
    most: u64,
    used: Arc<AtomicU64>,
}

/// A slide's copy; dropped, it is removed.
#[derive(Debug)]
pub struct Copied {
    folder: PathBuf,
    /// The copy of the file that is opened.
    pub path: PathBuf,
    bytes: u64,
    used: Arc<AtomicU64>,
}

impl Scratch {
    /// Makes a folder in `parent` and removes those that killed processes left there. Copies take at most `most` bytes together, or half of
    /// what is free now.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn open(parent: &Path, most: Option<u64>) -> Result<Self> {
        files::create_folder(parent)?;
        for name in files::names_in(parent)?.iter().filter(|name| name.starts_with(PREFIX)) {
            let left = parent.join(name);
            if File::open(left.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok()) {
                // Others may be removing it too.
                let _ = std::fs::remove_dir_all(&left);
            }
        }
        let context = || format!("cannot write into the scratch folder '{}'", parent.display());
        let new = tempfile::Builder::new().prefix(NEW).tempdir_in(parent).with_context(context)?;
        let lock = File::create(new.path().join(LOCK)).with_context(context)?;
        lock.lock().with_context(context)?;
        let name = new.path().file_name().unwrap_or_default().to_string_lossy().replacen(NEW, PREFIX, 1);
        let folder = parent.join(name);
        std::fs::rename(new.path(), &folder).with_context(context)?;
        drop(new.keep());
        let most = most.map_or_else(|| free(parent).map(|bytes| bytes / 2), Ok)?;
        Ok(Self { folder, _lock: lock, most, used: Arc::default() })
    }

    /// Copies a slide's files, `paths` beside and below the first; `None` where there is no room for them now.
    ///
    /// # Errors
    /// A file that cannot be read or written; an interruption.
    pub fn copy<'a>(&self, paths: impl Iterator<Item = &'a Path>) -> Result<Option<Copied>> {
        let paths: Vec<&Path> = paths.collect();
        let Some((first, parent)) = paths.first().and_then(|first| Some((*first, first.parent()?))) else { return Ok(None) };
        let sizes = paths.iter().map(|path| Ok(path.metadata()?.len())).collect::<std::io::Result<Vec<u64>>>()?;
        let bytes = sizes.iter().sum();
        // What others on the machine took meanwhile counts too.
        let room = self.most.saturating_sub(self.used.load(Ordering::Relaxed)).min(free(&self.folder)?);
        if bytes > room {
            return Ok(None);
        }
        let folder = tempfile::Builder::new().prefix("slide-").tempdir_in(&self.folder)?.keep();
        self.used.fetch_add(bytes, Ordering::Relaxed);
        let place = |path: &Path| folder.join(path.strip_prefix(parent).unwrap_or(path));
        let copied = Copied { path: place(first), folder: folder.clone(), bytes, used: Arc::clone(&self.used) };
        for path in paths {
            match copy(path, &place(path)) {
                // Others on the machine were quicker.
                Err(error) if files::is_full(&error) => return Ok(None),
                other => other.with_context(|| format!("cannot copy '{}' to the scratch folder", path.display()))?,
            }
        }
        Ok(Some(copied))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is removed by the next call.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        // What stays behind goes with the process's folder.
        let _ = std::fs::remove_dir_all(&self.folder);
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    files::create_folder(to.parent().unwrap_or(to))?;
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    let mut piece = vec![0; PIECE];
    loop {
        interrupt::check()?;
        match from.read(&mut piece)? {
            0 => return Ok(()),
            count => to.write_all(&piece[..count])?,
        }
    }
}

fn free(folder: &Path) -> Result<u64> {
    let volume = Volume::of(folder).with_context(|| format!("cannot see how much space '{}' has", folder.display()))?;
    Ok(volume.free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_lasts_while_it_is_used_and_never_takes_more_than_allowed() {
        let (slides, parent) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (main, beside) = (slides.path().join("a.mrxs"), slides.path().join("a/Data0.dat"));
        std::fs::create_dir(beside.parent().unwrap()).unwrap();
        std::fs::write(&main, [1; 40]).unwrap();
        std::fs::write(&beside, [2; 60]).unwrap();
        let scratch = Scratch::open(parent.path(), Some(150)).unwrap();
        let slide = || [&*main, &*beside].into_iter();
        let copied = scratch.copy(slide()).unwrap().unwrap();
        assert_eq!(std::fs::read(copied.path.with_file_name("a").join("Data0.dat")).unwrap(), [2; 60], "companions stand as they did");
        assert!(scratch.copy(slide()).unwrap().is_none(), "100 of 150 bytes are taken");
        let path = copied.path.clone();
        drop(copied);
        assert!(!path.exists());
        assert!(scratch.copy(slide()).unwrap().is_some());
        drop(scratch);
        assert_eq!(files::names_in(parent.path()).unwrap(), [""; 0]);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let living = Scratch::open(parent.path(), None).unwrap();
        let left = parent.path().join(format!("{PREFIX}left"));
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join(LOCK), "").unwrap();
        drop(Scratch::open(parent.path(), None).unwrap());
        assert!(living.folder.exists() && !left.exists());
    }
}
