//! Leases: which process works on what in a run folder that several share, on one machine or on many.
//!
//! Locks do not cross nodes on every file system; creating a file that must not exist yet does, NFS included. So a lease is a file,
//! `.leases/<item>@<n>`, created with `O_EXCL`, that names its holder by a random token. A lease is never changed, handed back or replaced:
//! whoever finds the holder of `<item>@n` gone creates `<item>@n+1`, and of all who try, one succeeds. The highest n counts.
//!
//! A holder shows that it lives by `.leases/<token>.alive`, which it touches each [`BEAT`]. It is gone when it has taken that file away, as it
//! does when it ends in whatever way it can, when its process is seen to be no more on this machine, or when the file was not touched for
//! [`EXPIRES`]. Ages are told by the file server's clock alone: the time of one's own file, just touched, against that of the other.
//! A process that stood still for so long itself (suspended, or cut off from the server) looks whether others have taken over before it goes on
//! writing, and stops if they have.
//!
//! Should two work on one item all the same, nothing is lost: outputs are whole, renamed into place, and the same bytes from both.
//!
//! No host or user is named in these files, and the folder goes away with the last item.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::files;
use crate::ground::interrupt;

mod heartbeat;
mod look;
mod owner;

use heartbeat::Heartbeat;
pub use look::{Sight, look};
use owner::Owner;

/// Below the run folder.
const FOLDER: &str = ".leases";
/// What it is called while it is removed.
const ENDED: &str = ".leases-ended-";
/// Between two signs of life.
const BEAT: Duration = Duration::from_secs(15);
/// Without a sign of life for so long a holder is gone: far above what a file server that is busy, or attributes that a client remembers (60 s on NFS),
/// hold one up. `WSI_LEASE_EXPIRES`, in seconds, changes both in proportion.
const EXPIRES: Duration = Duration::from_secs(120);
/// How often one that waits looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The leases of one process in one run folder; dropped, all are free for others.
#[derive(Debug)]
pub struct Leases {
    folder: PathBuf,
    /// Those who started together, who need not try again what failed for one of them: a job array.
    group: String,
    heartbeat: Arc<Heartbeat>,
}

/// What came of asking for an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// This process holds it.
    Mine {
        /// Another had it before.
        again: bool,
    },
    /// Another does, in words.
    Held(String),
    /// The run was finished by another, and its leases are gone.
    Over,
}

/// A note that an item failed.
#[derive(Debug, Serialize, Deserialize)]
struct Failure {
    token: String,
    group: String,
    reason: String,
    /// It would be the same for everybody.
    lasting: bool,
}

impl Leases {
    /// Makes this process known in the run folder `run`, and begins to show that it lives.
    ///
    /// # Errors
    /// A folder that cannot be written; `WSI_LEASE_EXPIRES` that is no number of seconds.
    pub fn open(run: &Path) -> Result<Self> {
        Self::open_with(run, expires()?, interrupt::ask)
    }

    fn open_with(run: &Path, expires: Duration, end: fn()) -> Result<Self> {
        let folder = run.join(FOLDER);
        files::create_folder(&folder)?;
        let owner = Owner::this(expires);
        let heartbeat = Heartbeat::start(&folder, &owner, BEAT.mul_f64(expires.as_secs_f64() / EXPIRES.as_secs_f64()), end)?;
        let group = owner.array.unwrap_or_else(|| heartbeat.token().to_owned());
        Ok(Self { folder, group, heartbeat })
    }

    /// Asks for an item.
    ///
    /// # Errors
    /// A folder that cannot be read or written.
    pub fn take(&self, item: &str) -> Result<Taken> {
        for generation in 0_u64.. {
            let path = self.folder.join(lease_name(item, generation));
            match self.create(&path) {
                Ok(()) => {
                    self.heartbeat.hold(self.folder.join(lease_name(item, generation + 1)));
                    return Ok(Taken::Mine { again: generation > 0 });
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == ErrorKind::NotFound && !self.folder.exists() => return Ok(Taken::Over),
                Err(error) => return Err(error).with_context(|| format!("cannot take the lease '{}'", path.display())),
            }
            let Some((token, written)) = holder(&path)? else { return Ok(Taken::Over) };
            // A server that answers twice to one request says that there is a file when it is ours.
            if token == self.heartbeat.token() {
                return Ok(Taken::Mine { again: generation > 0 });
            }
            let now = match self.heartbeat.now() {
                Ok(now) => now,
                Err(_) if !self.folder.exists() => return Ok(Taken::Over),
                Err(error) => return Err(error),
            };
            if let Some(holder) = owner::alive(&self.folder, &token, written, now)? {
                return Ok(Taken::Held(holder));
            }
        }
        unreachable!("there are fewer files than numbers")
    }

    /// Asks for an item until it is free, or the run is over; says whether it is this process's.
    ///
    /// # Errors
    /// As [`Self::take`]; an interruption.
    pub fn wait_for(&self, item: &str) -> Result<bool> {
        let mut said = false;
        loop {
            match self.take(item)? {
                Taken::Mine { .. } => return Ok(true),
                Taken::Over => return Ok(false),
                Taken::Held(holder) if !said => {
                    tracing::info!("waiting for {holder}, which works in the same folder");
                    said = true;
                }
                Taken::Held(_) => {}
            }
            self.pause()?;
        }
    }

    /// Waits a moment before another look.
    ///
    /// # Errors
    /// An interruption.
    pub fn pause(&self) -> Result<()> {
        std::thread::sleep(LOOK_AGAIN);
        Ok(interrupt::check()?)
    }

    /// Whether this process may go on writing: it has shown in time that it lives, or nobody has taken its items.
    ///
    /// # Errors
    /// `Interrupted`: others have; this process is to end.
    pub fn check(&self) -> Result<()> {
        Ok(self.heartbeat.check()?)
    }

    /// Leaves a note for others that an item which this process holds has failed; `lasting`: as it would for anybody at any time.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn failed(&self, item: &str, reason: &str, lasting: bool) -> Result<()> {
        if !self.folder.exists() {
            return Ok(()); // the run was finished without it
        }
        let (token, group) = (self.heartbeat.token().to_owned(), self.group.clone());
        let note = Failure { token, group, reason: reason.to_owned(), lasting };
        files::write_bytes(&self.failure_path(item), serde_json::to_string(&note)?.as_bytes())
    }

    /// Why an item failed for another process that is still at work or belongs to the same job array, or for anybody where that lasts: it need
    /// not be tried again.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn failure(&self, item: &str) -> Result<Option<String>> {
        let path = self.failure_path(item);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read '{}'", path.display())),
        };
        let Ok(note) = serde_json::from_slice::<Failure>(&text) else { return Ok(None) };
        if note.token == self.heartbeat.token() {
            return Ok(None);
        }
        let counts = note.lasting
            || note.group == self.group
            || owner::alive(&self.folder, &note.token, SystemTime::UNIX_EPOCH, self.heartbeat.now()?)?.is_some();
        Ok(counts.then_some(note.reason))
    }

    /// The items for which there is a lease, whoever holds it; one listing of the folder.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn taken(&self) -> Result<std::collections::HashSet<String>> {
        Ok(look::leases(&self.folder)?.into_keys().collect())
    }

    /// Takes the folder of leases away: the run is finished. Others see it whole or not at all.
    ///
    /// # Errors
    /// A folder that cannot be renamed.
    pub fn close(self) -> Result<()> {
        let ended = self.folder.with_file_name(format!("{ENDED}{}", self.heartbeat.token()));
        match std::fs::rename(&self.folder, &ended) {
            Ok(()) => remove_ended(&ended),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot rename '{}'", self.folder.display())),
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(self.heartbeat.token().as_bytes())?;
        file.sync_all()
    }

    fn failure_path(&self, item: &str) -> PathBuf {
        self.folder.join(format!("{item}.failed"))
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        self.heartbeat.stop();
    }
}

/// Removes what a call that was killed at its end left in the folder of a finished run.
pub(super) fn remove_left(run: &Path) {
    for name in files::names_in(run).unwrap_or_default() {
        if name == FOLDER || name.starts_with(ENDED) {
            remove_ended(&run.join(name));
        }
    }
}

/// Nothing depends on these files any more, and others may be removing them too.
fn remove_ended(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!("'{}' stays behind: {error}", folder.display());
    }
}

fn lease_name(item: &str, generation: u64) -> String {
    format!("{item}@{generation}")
}

/// The token in a lease, empty while it is being written, and when it was; `None` if it is gone.
fn holder(path: &Path) -> Result<Option<(String, SystemTime)>> {
    let read = || -> std::io::Result<_> {
        let mut file = File::open(path)?;
        let mut token = String::new();
        file.read_to_string(&mut token)?;
        Ok((token, file.metadata()?.modified()?))
    };
    match read() {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read the lease '{}'", path.display())),
    }
}

fn expires() -> Result<Duration> {
    let Ok(text) = std::env::var("WSI_LEASE_EXPIRES") else { return Ok(EXPIRES) };
    let seconds = text.parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds >= 1.0);
    Ok(Duration::from_secs_f64(seconds.with_context(|| format!("WSI_LEASE_EXPIRES must be a number of seconds from 1, not '{text}'"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Taken = Taken::Mine { again: false };
    const AGAIN: Taken = Taken::Mine { again: true };

    /// Leaves its leases as a machine that loses its power does: known to live on another machine, and never touched again.
    fn lost(run: &Path, item: &str, age: Duration) {
        let leases = Leases::open(run).unwrap();
        assert_eq!(leases.take(item).unwrap(), FIRST);
        let path = leases.heartbeat.path().to_owned();
        let mut owner: Owner = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        owner.boot = "another machine".into();
        drop(leases);
        std::fs::write(&path, serde_json::to_vec(&owner).unwrap()).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now() - age).unwrap();
    }

    #[test]
    fn of_many_who_ask_one_gets_it() {
        let run = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let item = format!("slide {round}");
            let leases: Vec<Leases> = (0..8).map(|_| Leases::open(run.path()).unwrap()).collect();
            let taken: Vec<Taken> = std::thread::scope(|scope| {
                let asking: Vec<_> = leases.iter().map(|leases| scope.spawn(|| leases.take(&item).unwrap())).collect();
                asking.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(taken.iter().filter(|taken| **taken == FIRST).count(), 1, "{taken:?}");
        }
    }

    #[test]
    fn what_its_holder_left_is_taken_over_by_one() {
        let run = tempfile::tempdir().unwrap();
        let first = Leases::open(run.path()).unwrap();
        assert_eq!(first.take("a").unwrap(), FIRST);
        assert_eq!(first.take("a").unwrap(), FIRST, "it is still its own");
        let others: Vec<Leases> = (0..8).map(|_| Leases::open(run.path()).unwrap()).collect();
        assert!(others.iter().all(|other| matches!(other.take("a").unwrap(), Taken::Held(_))));
        drop(first);
        let taken: Vec<Taken> = std::thread::scope(|scope| {
            let asking: Vec<_> = others.iter().map(|leases| scope.spawn(|| leases.take("a").unwrap())).collect();
            asking.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(taken.iter().filter(|taken| **taken == AGAIN).count(), 1, "{taken:?}");
    }

    #[test]
    fn another_machine_is_gone_when_it_was_silent_for_too_long() {
        let run = tempfile::tempdir().unwrap();
        lost(run.path(), "fresh", Duration::from_secs(60));
        lost(run.path(), "stale", Duration::from_secs(200));
        let leases = Leases::open(run.path()).unwrap();
        assert!(matches!(leases.take("fresh").unwrap(), Taken::Held(_)));
        assert_eq!(leases.take("stale").unwrap(), AGAIN);
        assert_eq!(leases.taken().unwrap().len(), 2);
    }

    #[test]
    fn a_lease_without_a_name_counts_until_it_is_old() {
        let run = tempfile::tempdir().unwrap();
        let leases = Leases::open(run.path()).unwrap();
        let lease = File::create(run.path().join(FOLDER).join(lease_name("a", 0))).unwrap();
        assert!(matches!(leases.take("a").unwrap(), Taken::Held(_)), "its holder may be about to write its name");
        lease.set_modified(SystemTime::now() - Duration::from_secs(200)).unwrap();
        assert_eq!(leases.take("a").unwrap(), AGAIN);
    }

    #[test]
    fn a_failure_counts_while_its_process_is_there() {
        let run = tempfile::tempdir().unwrap();
        let (one, other) = (Leases::open(run.path()).unwrap(), Leases::open(run.path()).unwrap());
        one.failed("a", "torn in two", false).unwrap();
        one.failed("c", "not drawn", true).unwrap();
        assert_eq!(other.failure("a").unwrap().as_deref(), Some("torn in two"));
        assert_eq!((one.failure("a").unwrap(), other.failure("b").unwrap()), (None, None), "its own is for it to know");
        drop(one);
        assert_eq!(other.failure("a").unwrap(), None, "a later call tries again");
        assert_eq!(other.failure("c").unwrap().as_deref(), Some("not drawn"));
    }

    #[test]
    fn a_finished_run_keeps_no_leases_and_tells_who_comes_late() {
        let run = tempfile::tempdir().unwrap();
        let (one, late) = (Leases::open(run.path()).unwrap(), Leases::open(run.path()).unwrap());
        assert_eq!(one.take("a").unwrap(), FIRST);
        one.close().unwrap();
        assert!(!run.path().join(FOLDER).exists());
        assert_eq!(late.take("b").unwrap(), Taken::Over);
        assert!(!late.wait_for("b").unwrap());
    }

    #[test]
    fn one_that_stood_still_goes_on_unless_another_has_taken_over() {
        let run = tempfile::tempdir().unwrap();
        let leases = Leases::open_with(run.path(), Duration::from_secs(2), || ()).unwrap();
        assert_eq!(leases.take("a").unwrap(), FIRST);
        leases.heartbeat.stand_still();
        leases.check().unwrap();
        leases.heartbeat.stand_still();
        // Whatever gives the next sign of life, the gap before it is remembered, and so is what was found.
        leases.heartbeat.beat().unwrap();
        File::create(run.path().join(FOLDER).join(lease_name("a", 1))).unwrap();
        assert!(leases.check().is_err() && leases.check().is_err());
    }
}
