//! A file is whole or absent: temporary name, fsync, rename.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow};
use tempfile::TempPath;

/// Ending of temporary names; they also begin with a dot.
pub(super) const TEMPORARY: &str = ".tmp";

/// Writes `path` through `fill`, which gets a temporary path in the same folder; on any error nothing stays behind.
///
/// # Errors
/// Names the file; a folder that cannot be written is said so.
pub fn write_whole(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_folder(folder)?;
    let name = path.file_name().ok_or_else(|| anyhow!("'{}' is not a file name", path.display()))?.to_string_lossy();
    let temporary = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .suffix(TEMPORARY)
        .tempfile_in(folder)
        .with_context(|| format!("cannot write into '{}'; check its permissions and free space", folder.display()))?
        .into_temp_path();
    fill(&temporary).with_context(|| format!("cannot write '{}'", path.display()))?;
    put_in_place(temporary, path)
}

/// The last steps of [`write_whole`]: the temporary file, in the folder of `path` and closed, becomes `path`.
///
/// # Errors
/// Names the file.
pub fn put_in_place(temporary: TempPath, path: &Path) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(&temporary)?.sync_all()?;
    // Temporary files are private to their owner; outputs follow the usual rule for new files.
    set_default_mode(&temporary)?;
    temporary.persist(path).with_context(|| format!("cannot rename into '{}'", path.display()))?;
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// [`write_whole`] for bytes already in memory.
///
/// # Errors
/// As [`write_whole`].
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole(path, |temporary| Ok(File::create(temporary)?.write_all(bytes)?))
}

/// Puts the whole file `from` in the place of `to`, in the same folder.
///
/// # Errors
/// Names the file.
pub fn replace(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).with_context(|| format!("cannot rename '{}' into '{}'", from.display(), to.display()))?;
    let folder = to.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(File::open(folder)?.sync_all()?)
}

/// Whether something was not written for want of room on the disk, or because a quota is used up.
pub fn is_full(error: &anyhow::Error) -> bool {
    // HDF5 tells the system's errors in words alone.
    const IN_WORDS: [&str; 2] = ["errno = 28", "errno = 122"];
    error.chain().any(|cause| match cause.downcast_ref::<std::io::Error>() {
        Some(cause) => matches!(cause.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded),
        None => IN_WORDS.iter().any(|words| cause.to_string().contains(words)),
    })
}

/// Removes a file, if it is there.
///
/// # Errors
/// Names the file.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).with_context(|| format!("cannot remove '{}'", path.display())),
        _ => Ok(()),
    }
}

/// Creates a folder and its parents.
///
/// # Errors
/// Names the folder.
pub fn create_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create the folder '{}'; check permissions, or choose another --out", folder.display()))
}

/// The names of what is in a folder; none where there is no such folder.
///
/// # Errors
/// A folder that cannot be read.
pub fn names_in(folder: &Path) -> Result<Vec<String>> {
    let context = || format!("cannot read the folder '{}'", folder.display());
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry.with_context(context)?.file_name().to_string_lossy().into_owned())).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(context),
    }
}

/// Removes temporary files from `folder` and the folders in it, but for hidden ones: for a run that nobody writes to any more.
///
/// # Errors
/// A folder that cannot be read, a file that cannot be removed.
pub fn remove_temporary(folder: &Path) -> Result<()> {
    for name in names_in(folder)? {
        let (path, hidden) = (folder.join(&name), name.starts_with('.'));
        // Another call may be putting its own in place.
        let Ok(known) = path.symlink_metadata() else { continue };
        if known.is_dir() && !hidden {
            remove_temporary(&path)?;
        } else if hidden && name.ends_with(TEMPORARY) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// `to` as seen from the folder `from`, with `/` separators. Folders that share nothing near are named by their last part
/// alone, so that no output tells where on a machine it was made.
///
/// # Errors
/// One of the folders does not exist.
pub fn relative(from: &Path, to: &Path) -> Result<String> {
    let canonical = |path: &Path| path.canonicalize().with_context(|| format!("cannot find the folder '{}'", path.display()));
    let (from, to) = (canonical(from)?, canonical(to)?);
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().count() - shared;
    let down: Vec<String> = to.components().skip(shared).map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    if up > MOST_FOLDERS_UP {
        return Ok(to.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default());
    }
    Ok(std::iter::repeat_n("..".to_owned(), up).chain(down).collect::<Vec<_>>().join("/"))
}

const MOST_FOLDERS_UP: usize = 3;

#[cfg(unix)]
pub(super) fn set_default_mode(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666 & !umask()))?;
    Ok(())
}

/// What the user takes away from new files. Linux tells it without changing it; elsewhere the usual.
#[cfg(unix)]
fn umask() -> u32 {
    static UMASK: OnceLock<u32> = OnceLock::new();
    *UMASK.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stated = status.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("Umask:")?.trim(), 8).ok());
        stated.unwrap_or(0o022)
    })
}

#[cfg(not(unix))]
pub(super) fn set_default_mode(_: &Path) -> Result<()> {
    Ok(())
}
