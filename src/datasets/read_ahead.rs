//! Bags that do not fit into memory: each is read when it is asked for, and a few of those announced are read before.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};
use half::f16;

use crate::ground::tile_filter::TileFilter;
use crate::store::bag;

/// Bags that wait to be asked for; one more is being read. Bounds the memory to this many bags beside the batch's own.
const AHEAD: usize = 4;

/// A bag on disk, with the shape that it had when the cohort was opened.
pub(super) struct Stored {
    pub(super) path: PathBuf,
    /// N and D, of the tiles that are kept
    pub(super) shape: (usize, usize),
    pub(super) tiles: TileFilter,
}

impl Stored {
    fn read(&self) -> Result<Vec<f16>> {
        let features = bag::read_kept(&self.path, self.tiles)?;
        let (tiles, width) = self.shape;
        ensure!(
            (features.tiles, features.width) == self.shape,
            "the bag '{}' had {tiles} tiles of {width} features and now has {} of {}; do not change bags while they are trained on",
            self.path.file_name().unwrap_or_default().display(),
            features.tiles,
            features.width
        );
        Ok(features.values)
    }
}

type Waiting = Receiver<(usize, Result<Vec<f16>>)>;

/// Reads bags in the order announced, and any other one too.
pub(super) struct ReadAhead {
    bags: Arc<Vec<Stored>>,
    waiting: Mutex<Option<Waiting>>,
}

impl ReadAhead {
    pub(super) fn new(bags: Vec<Stored>) -> Self {
        Self { bags: Arc::new(bags), waiting: Mutex::new(None) }
    }

    /// Begins to read `rows`, in order; what was announced before is forgotten.
    pub(super) fn announce(&self, rows: &[usize]) {
        let (sender, receiver) = sync_channel(AHEAD);
        let (bags, rows) = (Arc::clone(&self.bags), rows.to_vec());
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(receiver);
        // The thread ends with its rows, or when nobody listens any more.
        std::thread::spawn(move || rows.into_iter().try_for_each(|row| sender.send((row, bags[row].read()))));
    }

    /// The features of a bag, `[N,D]` row by row.
    ///
    /// # Errors
    /// A bag that cannot be read, or is no longer the one that was opened; names it.
    pub(super) fn bag(&self, row: usize) -> Result<Vec<f16>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.as_ref().and_then(|waiting| waiting.recv().ok()) {
            Some((next, read)) if next == row => read,
            // Another order than the announced one, or its end.
            _ => {
                *waiting = None;
                self.bags[row].read()
            }
        }
    }
}
