//! Signs of life: how a rank learns that another one, or its machine, is gone without a word.
//!
//! A process that dies closes its connections, which the others see at once. One that hangs, or a machine without power, does not.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::torch::c10d::Store;

/// Between two signs of life.
const EVERY: Duration = Duration::from_secs(2);
/// After so long without one a rank counts as gone.
const SILENCE: Duration = Duration::from_secs(20);
/// How long a rank that leaves waits for its farewell to arrive.
const PARTING: Duration = Duration::from_secs(3);
/// What a rank that leaves in order adds to its counter.
const FAREWELL: i64 = 1 << 40;

/// Sends signs of life while it lives, and ends the process when another rank sends none.
pub(super) struct Pulse {
    leave: Vec<Sender<()>>,
    beats: JoinHandle<()>,
}

/// The last counter of each rank and when it changed; 0 for one that has left in order.
type Seen = Arc<Mutex<Vec<(i64, Instant)>>>;

impl Pulse {
    /// `connection` is not used by anybody else.
    pub(super) fn start(connection: Store, rank: usize, size: usize) -> Self {
        let seen: Seen = Arc::new(Mutex::new(vec![(1, Instant::now()); size]));
        let (leave_beats, left) = channel();
        let (leave_watch, unwatched) = channel();
        let beats = {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || {
                // A store that does not answer holds this thread up; the other one then sees no counter change.
                while let Err(RecvTimeoutError::Timeout) = left.recv_timeout(EVERY) {
                    beat(&connection, rank, size, &seen);
                }
                let _ = connection.add(&key(rank), FAREWELL);
            })
        };
        std::thread::spawn(move || {
            let mut looked = Instant::now();
            while let Err(RecvTimeoutError::Timeout) = unwatched.recv_timeout(EVERY) {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                // This process was held up itself, perhaps with all others, and heard nobody meanwhile.
                if looked.elapsed() > SILENCE / 2 {
                    seen.iter_mut().for_each(|(_, at)| *at = Instant::now());
                }
                looked = Instant::now();
                let silent = |(other, (count, at)): (usize, &(i64, Instant))| *count > 0 && other != rank && at.elapsed() > SILENCE;
                if let Some(other) = seen.iter().enumerate().position(silent) {
                    tracing::error!(
                        "rank {rank} of {size}: nothing was heard of rank {other} for {} s, so this rank ends; the last checkpoint is whole, and the same command continues from it",
                        SILENCE.as_secs()
                    );
                    // The main thread waits for the other rank inside libtorch, where nothing else wakes it up.
                    // Without the destructors of libraries that it is inside of.
                    // SAFETY: ends the process.
                    unsafe { libc::_exit(1) };
                }
            }
        });
        Self { leave: vec![leave_watch, leave_beats], beats }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.leave.clear();
        let started = Instant::now();
        while !self.beats.is_finished() && started.elapsed() < PARTING {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn key(rank: usize) -> String {
    format!("pulse/{rank}")
}

/// One sign of life, and a look at those of the others. Without the store nothing is noted.
fn beat(connection: &Store, rank: usize, size: usize, seen: &Seen) {
    let _ = connection.add(&key(rank), 1);
    for other in (0..size).filter(|other| *other != rank) {
        let Ok(count) = connection.add(&key(other), 0) else { return };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if count >= FAREWELL {
            seen[other].0 = 0;
        } else if seen[other].0 != count + 1 {
            seen[other] = (count + 1, Instant::now());
        }
    }
}
