//! HDF5 locks each file that it opens, and some file systems refuse: NFS without a lock service, Lustre mounted without `flock`, some of BeeGFS.
//!
//! This program does not need these locks. It writes a file under a name that nobody knows and then renames it, and who works on what is
//! settled by leases. So a refused lock is no obstacle. A lock that another program *holds* is one: that program is writing the file.

use std::fmt;
use std::path::Path;
use std::sync::Once;

use anyhow::{Error, Result, anyhow};
use hdf5::{File, FileBuilder};

/// HDF5's words where `flock` fails.
const REFUSED: &str = "unable to lock file";
/// EWOULDBLOCK on Linux, in HDF5's words: the lock works, and another has it.
const HELD: &str = "errno = 11";

/// Another program has the file open for writing.
#[derive(Debug)]
pub(super) struct Held;

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "another program has it open for writing; wait for its end, or, if there is none, set HDF5_USE_FILE_LOCKING=FALSE")
    }
}

impl std::error::Error for Held {}

/// Opens a file for reading.
///
/// # Errors
/// HDF5's own; [`Held`].
pub(super) fn open(path: &Path) -> Result<File> {
    with_or_without_lock(|builder| builder.open(path))
}

/// Makes a file as `create` does from a builder.
///
/// # Errors
/// HDF5's own.
pub(super) fn create(create: impl Fn(&mut FileBuilder) -> hdf5::Result<File>) -> Result<File> {
    with_or_without_lock(create)
}

fn with_or_without_lock(open: impl Fn(&mut FileBuilder) -> hdf5::Result<File>) -> Result<File> {
    static SAID: Once = Once::new();
    let words = match open(&mut File::with_options()) {
        Ok(file) => return Ok(file),
        Err(error) => error.to_string(),
    };
    if !words.contains(REFUSED) {
        return Err(Error::msg(words));
    }
    if words.contains(HELD) {
        return Err(Held.into());
    }
    SAID.call_once(|| {
        tracing::warn!(
            "the file system refuses HDF5's locks, which this program does without; HDF5_USE_FILE_LOCKING=FALSE spares the attempt, and other \
             programs that read these files may need it"
        );
    });
    open(File::with_options().with_fapl(|access| access.file_locking(false)))
        .map_err(|error| anyhow!("{error}; this file system wants HDF5_USE_FILE_LOCKING=FALSE"))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_file_that_another_writes_is_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.h5");
        create(|builder| builder.create(&path)).unwrap().close().unwrap();
        open(&path).unwrap().close().unwrap();
        let other = std::fs::File::open(&path).unwrap();
        // SAFETY: an open file. A lock of another open file of the same process is another's.
        assert_eq!(unsafe { libc::flock(other.as_raw_fd(), libc::LOCK_EX) }, 0);
        assert!(open(&path).unwrap_err().is::<Held>());
    }
}
