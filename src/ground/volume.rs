//! The file system behind a folder: its kind and what is free on it.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Volume {
    /// Linux's number for its kind.
    magic: i64,
    /// Bytes.
    pub size: u64,
    /// Bytes that this user may still write. A quota counts only where the file system says so.
    pub free: u64,
    /// Files that may still be made; `None` where there is no limit.
    pub free_files: Option<u64>,
}

/// Kinds by the numbers of Linux's `magic.h` and of the file systems' own headers; whether several machines may share one.
const KINDS: [(i64, &str, bool); 17] = [
    (0xEF53, "ext", false),
    (0x5846_5342, "xfs", false),
    (0x9123_683E, "btrfs", false),
    (0x2FC1_2FC1, "zfs", false),
    (0x794C_7630, "overlay", false),
    (0x0102_1994, "tmpfs", false),
    (0x8584_58F6, "ramfs", false),
    (0x7371_7368, "squashfs", false),
    (0x6969, "nfs", true),
    (0x0BD0_0BD0, "lustre", true),
    (0x4750_4653, "gpfs", true),
    (0x1983_0326, "beegfs", true),
    (0x00C3_6400, "ceph", true),
    (0xFF53_4D42, "cifs", true),
    (0xFE53_4D42, "smb", true),
    (0x0102_1997, "9p", true),
    (0x6573_5546, "fuse", true),
];

impl Volume {
    /// That of a folder which is there.
    ///
    /// # Errors
    /// The system's.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let path = CString::new(folder.as_os_str().as_bytes())?;
        let mut found = std::mem::MaybeUninit::<libc::statfs64>::uninit();
        // SAFETY: a terminated path, and a place that the call fills where it gives 0.
        let found = unsafe {
            if libc::statfs64(path.as_ptr(), found.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            found.assume_init()
        };
        let block = found.f_bsize as u64;
        Ok(Self {
            magic: found.f_type as i64,
            size: found.f_blocks * block,
            free: found.f_bavail * block,
            free_files: (found.f_files > 0).then_some(found.f_ffree),
        })
    }

    /// Such as `nfs`; the number of a kind that is not known.
    pub fn kind(&self) -> String {
        self.known().map_or_else(|| format!("kind {:#x}", self.magic), |(_, name, _)| (*name).to_owned())
    }

    /// Whether several machines may share it, as far as is known.
    pub fn is_shared(&self) -> bool {
        self.known().is_some_and(|(_, _, shared)| *shared)
    }

    /// Whether what is on it takes memory and is gone with the machine's power.
    pub fn is_memory(&self) -> bool {
        self.known().is_some_and(|(_, name, _)| ["tmpfs", "ramfs"].contains(name))
    }

    fn known(&self) -> Option<&'static (i64, &'static str, bool)> {
        // Some kernels give the number with its sign.
        KINDS.iter().find(|(magic, ..)| *magic == self.magic & 0xFFFF_FFFF)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_a_file_system_and_memory_is_known_as_such() {
        let here = Volume::of(Path::new("/")).unwrap();
        assert!(here.size >= here.free && here.size > 0 && !here.kind().is_empty());
        assert!(Volume::of(Path::new("/nowhere at all")).is_err());
        let of = |magic| Volume { magic, ..here };
        assert!(of(0x0102_1994).is_memory() && of(0x0102_1994).kind() == "tmpfs");
        assert!(of(0x6969).is_shared() && !of(0xEF53).is_shared());
        assert_eq!((of(i64::from(0xFF53_4D42_u32 as i32)).kind(), of(0x77).kind()), ("cifs".to_owned(), "kind 0x77".to_owned()));
    }
}
