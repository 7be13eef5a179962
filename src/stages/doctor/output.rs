//! The folder for results: can it be written as the stages write, do others see it, and is there room.

use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::SystemTime;

use super::slides::Slides;
use super::{Finding, Patient, bytes, error, ok, variable, warning};
use crate::config::Config;
use crate::ground::volume::Volume;
use crate::stages::one_line;
use crate::store::library;
use crate::tiling::survey::request;

/// Two machines whose clocks differ by more take each other's leases for abandoned, and dates in logs mislead.
const SKEW_SECONDS: f64 = 30.0;

/// What `tile` leaves of a slide beside coordinates: two pictures, outlines.
const PICTURES: u64 = 1_000_000;

/// Bytes of a tile's coordinates, share of tissue, status and quality.
const A_TILE: u64 = 16 + 4 + 1 + 10;

const LOCKING: &str = "HDF5_USE_FILE_LOCKING";

pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let Some(out) = &patient.asked.out else { return Vec::new() };
    // The folder itself where it is there, else the nearest above it that is.
    let folder = out.ancestors().find(|folder| folder.symlink_metadata().is_ok()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return vec![error("output folder", "a file is in its way", "remove it, or choose another --out")];
    }
    let name = if folder == out { "it is there" } else { "it will be made" };
    // Removed with all that is in it, whatever happens between.
    let probe = match tempfile::Builder::new().prefix(".wsi-doctor-").tempdir_in(folder) {
        Ok(probe) => probe,
        Err(wrong) => {
            return vec![error(
                "output folder",
                format!("cannot be written: {}", words(&wrong)),
                "check permissions and quota, or choose another --out",
            )];
        }
    };
    let mut findings = Vec::new();
    match Volume::of(probe.path()) {
        Ok(volume) => {
            findings.push(kind(&volume, name));
            findings.push(room(&volume, patient.slides.as_ref(), &patient.asked.config));
        }
        Err(wrong) => findings.push(warning("file system", words(&wrong), "its kind and its space are not known")),
    }
    findings.extend([
        whole_files(probe.path()),
        exclusive(probe.path()),
        locks(probe.path()),
        hdf5(probe.path()),
        names(probe.path()),
        clock(probe.path()),
    ]);
    if let Err(wrong) = probe.close() {
        findings.push(warning(
            "output folder",
            format!("what was tried cannot be removed: {}", words(&wrong)),
            "remove the folder .wsi-doctor-… by hand",
        ));
    }
    findings
}

/// The system's words without a path.
fn words(wrong: &io::Error) -> String {
    let text = wrong.to_string();
    // tempfile puts the path behind the words.
    text.split(" at path").next().unwrap_or_default().to_owned()
}

fn kind(volume: &Volume, name: &str) -> Finding {
    let shared = if volume.is_shared() { "; other machines may share it" } else { "" };
    let seen = format!("{name}; {}, {} of {} free{shared}", volume.kind(), bytes(volume.free), bytes(volume.size));
    if volume.is_memory() {
        return warning("file system", seen, "it takes memory and is gone when the machine stops: choose a folder on a disk");
    }
    match volume.free_files {
        Some(files @ ..10_000) => warning("file system", format!("{seen}, {files} files"), "a slide takes five files: ask for more inodes"),
        _ => ok("file system", seen),
    }
}

/// What the slides need at most, where everything that was scanned is tissue, and where a tenth is.
fn room(volume: &Volume, slides: Option<&Slides>, config: &Config) -> Finding {
    const CHECK: &str = "space";
    let Some(slides) = slides.filter(|slides| slides.opened().next().is_some()) else {
        return ok(CHECK, format!("{} free; give --slides for an estimate", bytes(volume.free)));
    };
    let width = config.extract.encoder.architecture.width();
    let a_tile = A_TILE + width.unwrap_or(0).unsigned_abs() * config.extract.dtype.bytes() as u64;
    let mut tiles = 0;
    for (file, opened) in slides.opened() {
        let Ok(request) = request(&opened.geometry, file, &config.tile) else { continue };
        let scanned = opened.geometry.bounds.map_or(opened.geometry.canvas(), |(_, size)| size);
        let step = f64::from(request.window.step_level0_px);
        tiles += (f64::from(scanned.width) * f64::from(scanned.height) / (step * step)).ceil() as u64;
    }
    let pictures = slides.opened().count() as u64 * PICTURES;
    let (most, tenth) = (tiles * a_tile + pictures, tiles / 10 * a_tile + pictures);
    let of = width.map_or("coordinates alone".to_owned(), |width| format!("bags of {width} numbers a tile"));
    let seen = format!(
        "{} free; {of} take {} if all that was scanned is tissue ({tiles} tiles), {} if a tenth is; a quota may be lower than what is free",
        bytes(volume.free),
        bytes(most),
        bytes(tenth)
    );
    if volume.free < tenth {
        error(CHECK, seen, "make room, or choose another --out")
    } else if volume.free < most {
        warning(CHECK, seen, "`wsi tile` counts the tiles: look at its slides.csv before you extract")
    } else {
        ok(CHECK, seen)
    }
}

/// A file is written beside its place, synced, and renamed over an older one.
fn whole_files(folder: &Path) -> Finding {
    const CHECK: &str = "rename";
    let work = || -> io::Result<bool> {
        let (old, new) = (folder.join("old"), folder.join("new"));
        std::fs::write(&old, "old")?;
        let mut file = File::create(&new)?;
        file.write_all(b"new")?;
        file.sync_all()?;
        std::fs::rename(&new, &old)?;
        File::open(folder)?.sync_all()?;
        Ok(std::fs::read(&old)? == b"new" && !new.exists())
    };
    let advice = "results would not be whole after a crash: choose another file system";
    match work() {
        Ok(true) => ok(CHECK, "a synced file takes the place of another at once"),
        Ok(false) => error(CHECK, "a renamed file does not take the place of another", advice),
        Err(wrong) => error(CHECK, words(&wrong), advice),
    }
}

/// Of two that make one file, one is told that it is there.
fn exclusive(folder: &Path) -> Finding {
    const CHECK: &str = "exclusive creation";
    let make = || OpenOptions::new().write(true).create_new(true).open(folder.join("lease"));
    match (make(), make()) {
        (Ok(_), Err(wrong)) if wrong.kind() == ErrorKind::AlreadyExists => ok(CHECK, "a file is made once"),
        (Err(wrong), _) => error(CHECK, words(&wrong), "choose another file system"),
        _ => error(CHECK, "a file can be made twice", "do not let several processes work into this folder: give each a --shard of its own"),
    }
}

/// HDF5 locks the files that it opens; wsi has one writer a file and does not depend on it.
fn locks(folder: &Path) -> Finding {
    const CHECK: &str = "file locks";
    let lock = |file: &File| -> io::Result<()> {
        // SAFETY: an open file's number.
        match unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) as c_int } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    let work = || -> io::Result<bool> {
        let path = folder.join("locked");
        let (one, other) = (File::create(&path)?, File::open(&path)?);
        lock(&one)?;
        Ok(lock(&other).is_err_and(|wrong| wrong.kind() == ErrorKind::WouldBlock))
    };
    match work() {
        Ok(true) => ok(CHECK, "flock works"),
        Ok(false) => {
            warning(CHECK, "flock is granted to two at once", format!("it protects nothing here; {LOCKING}=FALSE saves the calls"))
        }
        Err(wrong) => warning(
            CHECK,
            format!("flock is refused: {}", words(&wrong)),
            format!("set {LOCKING}=FALSE for every program that opens bags here"),
        ),
    }
}

/// As the stages write and read, with locks or without.
fn hdf5(folder: &Path) -> Finding {
    const CHECK: &str = "HDF5 files";
    let set = variable(LOCKING).map_or(String::new(), |value| format!("; {LOCKING}={value}"));
    match library::round_trip(folder) {
        Ok(()) => ok(CHECK, format!("written and read{set}")),
        Err(wrong) => {
            let seen = one_line(&wrong).replace(&format!("{}/", folder.display()), "");
            error(CHECK, format!("{seen}{set}"), format!("set {LOCKING}=FALSE"))
        }
    }
}

/// Whether names that differ in capitals, or in how an accent is written, are two files.
fn names(folder: &Path) -> Finding {
    const CHECK: &str = "file names";
    let one = |first: &str, second: &str| -> io::Result<bool> {
        std::fs::write(folder.join(first), "")?;
        Ok(folder.join(second).exists())
    };
    match (one("a", "A"), one("\u{e4}", "a\u{308}")) {
        (Ok(false), Ok(false)) => ok(CHECK, "capitals and accents count"),
        (Err(wrong), _) => error(CHECK, words(&wrong), "choose another file system"),
        (_, Err(wrong)) => warning(CHECK, format!("no letters outside of ASCII: {}", words(&wrong)), "name slides in plain letters"),
        (Ok(capitals), Ok(accents)) => {
            let what = [(capitals, "capitals"), (accents, "the spelling of accents")].into_iter().filter(|(alike, _)| *alike);
            let what: Vec<&str> = what.map(|(_, what)| what).collect();
            warning(
                CHECK,
                format!("{} do not count", what.join(" and ")),
                "slides whose ids differ in nothing else would overwrite each other",
            )
        }
    }
}

/// Seconds by which a time lies before the first or behind the last.
fn outside(time: SystemTime, first: SystemTime, last: SystemTime) -> f64 {
    let later = |one: SystemTime, other: SystemTime| one.duration_since(other).map_or(0.0, |time| time.as_secs_f64());
    later(first, time).max(later(time, last))
}

/// The clock of the machine that keeps the files against the one here.
fn clock(folder: &Path) -> Finding {
    const CHECK: &str = "clock";
    let work = || -> io::Result<f64> {
        let before = SystemTime::now();
        // An empty file: its time is that of its making, which is the server's.
        let there = File::create(folder.join("touched"))?.metadata()?.modified()?;
        let after = SystemTime::now();
        Ok(outside(there, before, after))
    };
    match work() {
        Ok(apart) if apart > SKEW_SECONDS => {
            warning(CHECK, format!("the file server's differs by {apart:.0} s"), "ask for both to be set by NTP")
        }
        Ok(apart) => ok(CHECK, format!("the file system's is within {:.0} s", apart.ceil().max(1.0))),
        Err(wrong) => warning(CHECK, words(&wrong), "not compared"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_that_goes_wrong_either_way_is_seen() {
        let second = |count| SystemTime::UNIX_EPOCH + Duration::from_secs(count);
        let apart = [99, 100, 101, 102, 140].map(|time| outside(second(time), second(100), second(102)));
        assert_eq!(apart, [1.0, 0.0, 0.0, 0.0, 38.0]);
    }
}
