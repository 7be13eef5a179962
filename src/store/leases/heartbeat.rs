//! Signs of life: a thread that touches one file.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};

use super::owner::Owner;
use crate::ground::interrupt::Interrupted;
use crate::store::files;

/// From finding a holder gone to having its item, as a share of the time after which it is gone.
const CLAIM: f64 = 1.0 / 16.0;
/// How old the last sign may be for the server's clock to be told by it, likewise.
const RECENT: f64 = 1.0 / 60.0;

/// The file `<token>.alive` of this process.
#[derive(Debug)]
pub(super) struct Heartbeat {
    path: PathBuf,
    token: String,
    expires: Duration,
    /// Asks the process to end.
    end: fn(),
    state: Mutex<State>,
    /// Held while it is found out whether others have taken over, so that nobody goes on before.
    finding_out: Mutex<()>,
    /// Closed, it ends the thread.
    going: Mutex<Option<Sender<()>>>,
}

#[derive(Debug)]
struct State {
    /// The last sign of life, by this machine's clock and by the server's.
    last: Instant,
    seen: SystemTime,
    /// There was too long a time between two signs, and nobody has looked yet what came of it.
    suspect: bool,
    /// Others have taken over.
    lost: bool,
    /// Files that are there if another has taken over what this process holds.
    next: Vec<PathBuf>,
}

impl Heartbeat {
    /// Makes the file and starts the thread.
    pub(super) fn start(folder: &Path, owner: &Owner, every: Duration, end: fn()) -> Result<Arc<Self>> {
        let context = || format!("cannot write into '{}'", folder.display());
        let mut file = tempfile::Builder::new().prefix("").suffix(".alive").rand_bytes(16).tempfile_in(folder).with_context(context)?;
        file.write_all(serde_json::to_string(owner)?.as_bytes()).with_context(context)?;
        file.as_file().sync_all().with_context(context)?;
        let (file, path) = file.keep().with_context(context)?;
        // Others of the group may be the ones who look.
        files::set_default_mode(&path)?;
        let seen = file.metadata().and_then(|known| known.modified()).with_context(context)?;
        let token = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (going, ended) = channel();
        let heartbeat = Arc::new(Self {
            path,
            token,
            expires: Duration::from_secs_f64(owner.expires),
            end,
            state: Mutex::new(State { last: Instant::now(), seen, suspect: false, lost: false, next: Vec::new() }),
            finding_out: Mutex::default(),
            going: Mutex::new(Some(going)),
        });
        let weak = Arc::downgrade(&heartbeat);
        std::thread::Builder::new().name("heartbeat".into()).spawn(move || {
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let Some(heartbeat) = weak.upgrade() else { return };
                // A server that does not answer now may do so next time.
                if let Err(error) = heartbeat.beat()
                    && heartbeat.path.parent().is_some_and(Path::exists)
                {
                    tracing::warn!("{error:#}");
                }
                if heartbeat.check().is_err() {
                    return;
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
        let mut state = self.state();
        // By the server's clock too, since this machine's may have stood still with it.
        let silent = now.duration_since(state.last).max(time.duration_since(state.seen).unwrap_or_default());
        state.suspect |= silent >= self.expires;
        // Counted from before the touch, so that it is never thought later than it was.
        (state.last, state.seen) = (now, time);
        Ok(time)
    }

    /// The time on the file server: that of the last sign, if it is young, or of another.
    pub(super) fn now(&self) -> Result<SystemTime> {
        let (last, seen) = {
            let state = self.state();
            (state.last.elapsed(), state.seen)
        };
        if last < self.expires.mul_f64(RECENT) { Ok(seen + last) } else { self.beat() }
    }

    /// From now on the process holds what another would take over by making `next`.
    pub(super) fn hold(&self, next: PathBuf) {
        self.state().next.push(next);
    }

    /// Whether the process still holds what it took. If there was a time without a sign so long that others took it for gone, it waits long
    /// enough for who has just found it gone to make his claim.
    ///
    /// # Errors
    /// `Interrupted`: others have taken over, and this process is asked to end.
    pub(super) fn check(&self) -> Result<(), Interrupted> {
        let _alone = self.finding_out.lock().unwrap_or_else(PoisonError::into_inner);
        let (silent, suspect, lost) = {
            let state = self.state();
            (state.last.elapsed(), state.suspect, state.lost)
        };
        if lost {
            return Err(Interrupted);
        }
        if silent < self.expires && !suspect {
            return Ok(());
        }
        let unknown = self.beat().err();
        std::thread::sleep(self.expires.mul_f64(CLAIM));
        let mut state = self.state();
        if unknown.is_some() || state.next.iter().any(|path| path.exists()) {
            let why = unknown.map_or_else(|| "others work on its items now".to_owned(), |error| format!("{error:#}"));
            tracing::error!("this process stood still, or could not reach its folder, for too long: {why}");
            state.lost = true;
            (self.end)();
            return Err(Interrupted);
        }
        state.suspect = false;
        tracing::warn!("this process stood still, or could not reach its folder; nobody has taken its work, and it goes on");
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the signs and frees what the process holds.
    pub(super) fn stop(&self) {
        drop(self.going.lock().unwrap_or_else(PoisonError::into_inner).take());
        // Gone already where the run was finished by another.
        let _ = std::fs::remove_file(&self.path);
    }

    #[cfg(test)]
    pub(super) fn stand_still(&self) {
        let mut state = self.state();
        state.last = state.last.checked_sub(self.expires).unwrap();
    }
}
