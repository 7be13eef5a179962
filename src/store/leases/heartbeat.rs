//! Signs of life: a thread that touches one file.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};

use super::owner::Owner;
use crate::ground::interrupt;
use crate::store::files;

/// From finding a holder gone to having its item, as a share of the time after which it is gone.
const CLAIM: f64 = 1.0 / 16.0;

/// The file `<token>.alive` of this process.
#[derive(Debug)]
pub(super) struct Heartbeat {
    path: PathBuf,
    token: String,
    expires: Duration,
    last: Mutex<Instant>,
    /// Files that are there if another has taken over what this process holds.
    lost: Mutex<Vec<PathBuf>>,
    /// Closed, it ends the thread.
    going: Mutex<Option<Sender<()>>>,
}

impl Heartbeat {
    /// Makes the file and starts the thread.
    pub(super) fn start(folder: &Path, owner: &Owner, every: Duration) -> Result<Arc<Self>> {
        let context = || format!("cannot write into '{}'", folder.display());
        let mut file = tempfile::Builder::new().prefix("").suffix(".alive").rand_bytes(16).tempfile_in(folder).with_context(context)?;
        file.write_all(serde_json::to_string(owner)?.as_bytes()).with_context(context)?;
        file.as_file().sync_all().with_context(context)?;
        let (_, path) = file.keep().with_context(context)?;
        // Others of the group may be the ones who look.
        files::set_default_mode(&path)?;
        let token = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (going, ended) = channel();
        let heartbeat = Arc::new(Self {
            path,
            token,
            expires: Duration::from_secs_f64(owner.expires),
            last: Mutex::new(Instant::now()),
            lost: Mutex::default(),
            going: Mutex::new(Some(going)),
        });
        let weak = Arc::downgrade(&heartbeat);
        std::thread::Builder::new().name("heartbeat".into()).spawn(move || {
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let Some(heartbeat) = weak.upgrade() else { return };
                if let Err(error) = heartbeat.check() {
                    tracing::error!("{error:#}");
                    return interrupt::ask();
                }
                // A server that does not answer now may do so next time.
                if let Err(error) = heartbeat.beat()
                    && heartbeat.path.parent().is_some_and(Path::exists)
                {
                    tracing::warn!("{error:#}");
                }
            }
        })?;
        Ok(heartbeat)
    }

    /// The process's name in leases.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    #[cfg(test)]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// One sign of life; gives the time on the file server.
    pub(super) fn beat(&self) -> Result<SystemTime> {
        let now = Instant::now();
        let touch = || -> std::io::Result<SystemTime> {
            let file = OpenOptions::new().write(true).open(&self.path)?;
            // No times given: the file server takes its own. With std's function it would be this machine's.
            // SAFETY: an open file, and no times to read.
            if unsafe { libc::futimens(file.as_raw_fd(), std::ptr::null()) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
            file.metadata()?.modified()
        };
        let time =
            touch().with_context(|| format!("cannot touch '{}', by which others know that this process lives", self.path.display()))?;
        // Counted from before the touch, so that it is never thought later than it was.
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = now;
        Ok(time)
    }

    /// From now on the process holds what another would take over by making `next`.
    pub(super) fn hold(&self, next: PathBuf) {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).push(next);
    }

    /// Whether the process still holds what it took. If its last sign is so old that others take it for gone, it gives another and waits long
    /// enough for who has just found it gone to make his claim.
    ///
    /// # Errors
    /// Others have taken over; the folder cannot be reached.
    pub(super) fn check(&self) -> Result<()> {
        let silent = self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        if silent < self.expires {
            return Ok(());
        }
        let stopped = || format!("this process stood still, or could not reach its folder, for {:.0} s, so it stops", silent.as_secs_f64());
        self.beat().with_context(stopped)?;
        std::thread::sleep(self.expires.mul_f64(CLAIM));
        let taken = self.lost.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|path| path.exists());
        ensure!(!taken, "{}: others work on its items now; the same command continues", stopped());
        tracing::warn!("this process stood still for {:.0} s; nobody has taken its work, and it goes on", silent.as_secs_f64());
        Ok(())
    }

    /// Ends the signs and frees what the process holds.
    pub(super) fn stop(&self) {
        drop(self.going.lock().unwrap_or_else(PoisonError::into_inner).take());
        // Gone already where the run was finished by another.
        let _ = std::fs::remove_file(&self.path);
    }

    #[cfg(test)]
    pub(super) fn stand_still(&self) {
        *self.last.lock().unwrap() = Instant::now().checked_sub(self.expires).unwrap();
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.stop();
    }
}
