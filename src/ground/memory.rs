//! What memory is free, and how the process keeps what it once had.

use std::path::{Path, PathBuf};

/// Bytes this process may still take: the smallest of what the machine and the control groups around the process leave, where they
/// can be read. Pages of files that the kernel would give up count as free.
pub fn free() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    group_folders(&groups).iter().filter_map(|folder| left_in(folder)).chain(left_on_machine()).min()
}

/// Bytes of the machine.
pub fn machine() -> Option<u64> {
    Some(field(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")? << 10)
}

/// The smallest limit of the control groups around the process, bytes; `None` where none sets one.
pub fn limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    // Version 1 writes a number near 2^63 where there is no limit.
    group_folders(&groups).iter().filter_map(|folder| limit_of(folder)).filter(|&bytes| bytes < 1 << 60).min()
}

fn limit_of(folder: &Path) -> Option<u64> {
    let number = |name: &str| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    number("memory.max").or_else(|| number("memory.limit_in_bytes"))
}

fn left_on_machine() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    Some(field(&text, "MemAvailable:")? << 10)
}

/// The folders of all control groups that the process is in, from `/proc/self/cgroup`: versions 1 and 2, with the groups around them.
fn group_folders(groups: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in groups.lines() {
        let [_, controllers, path] = line.splitn(3, ':').collect::<Vec<_>>()[..] else { continue };
        let root = match controllers {
            "" => Path::new("/sys/fs/cgroup"),
            "memory" => Path::new("/sys/fs/cgroup/memory"),
            _ => continue,
        };
        folders.extend(Path::new(path.trim_start_matches('/')).ancestors().map(|part| root.join(part)));
    }
    folders
}

/// What a control group leaves; `None` where it sets no limit.
fn left_in(folder: &Path) -> Option<u64> {
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
    let limit = limit_of(folder)?;
    let used = number("memory.current").or_else(|| number("memory.usage_in_bytes")).unwrap_or(0);
    let counts = text("memory.stat").unwrap_or_default();
    let given_up = field(&counts, "total_inactive_file").or_else(|| field(&counts, "inactive_file")).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(given_up)))
}

/// The number after a word at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

/// glibc's numbers of its settings.
const M_TRIM_THRESHOLD: i32 = -1;
const M_MMAP_THRESHOLD: i32 = -3;
const M_ARENA_MAX: i32 = -8;

unsafe extern "C" {
    fn mallopt(parameter: i32, value: i32) -> i32;
}

/// Has the allocator take blocks of 128 KiB and more from the kernel and hand them back at once, as it does by itself, and cut all others from
/// one heap: for a program that runs for days. What one thread keeps of another's heap holds that heap's holes open: the viewer took 370 MB
/// after 100,000 tiles, and so takes 250, from the ten-thousandth on.
///
/// To be called before there are other threads.
pub fn give_back_what_is_freed() {
    const USUAL: i32 = 128 << 10;
    // SAFETY: glibc's function, with three of its documented parameters.
    unsafe {
        mallopt(M_ARENA_MAX, 1);
        mallopt(M_MMAP_THRESHOLD, USUAL);
        mallopt(M_TRIM_THRESHOLD, USUAL);
    }
}

/// Has the allocator keep freed blocks up to 1 GiB for the next step instead of handing them back to the kernel, and has libtorch ask
/// for large pages. A training step frees and takes the same hundreds of megabytes again; the kernel's clearing of fresh pages was a
/// fifth of the CPU time of a step of TransMIL, measured in PyTorch. No result changes.
///
/// To be called first in `main`, before any other thread and before libtorch's first tensor.
pub fn keep_what_is_freed() {
    // SAFETY: glibc's function, with two of its documented parameters; no other thread reads the environment yet.
    unsafe {
        mallopt(M_MMAP_THRESHOLD, 1 << 30);
        mallopt(M_TRIM_THRESHOLD, i32::MAX);
        if std::env::var_os("THP_MEM_ALLOC_ENABLE").is_none() {
            std::env::set_var("THP_MEM_ALLOC_ENABLE", "1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_around_a_group_count_too() {
        let folders = group_folders("4:memory:/a/b\n3:cpuset:/a\n0::/user/job 7\n");
        let expected = ["memory/a/b", "memory/a", "memory", "user/job 7", "user", ""];
        assert_eq!(folders, expected.map(|part| Path::new("/sys/fs/cgroup").join(part)));
    }

    #[test]
    fn a_limit_counts_without_pages_that_can_be_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("memory.max", "max\n");
        assert_eq!(left_in(folder.path()), None);
        write("memory.max", "1000\n");
        write("memory.current", "900\n");
        assert_eq!(left_in(folder.path()), Some(100));
        write("memory.stat", "anon 500\ninactive_file 300\nactive_file 20\n");
        assert_eq!(left_in(folder.path()), Some(400));
    }

    #[test]
    fn this_machine_says_what_is_free() {
        assert!(free().is_some_and(|bytes| bytes > 0));
    }
}
