//! Decoded tiles, each decoded once while there is room: shared by all threads, the least recently used leave first.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Result, anyhow};

/// Which tile: level, scale of decoding, number in its level row by row.
pub(super) type Key = (usize, u32, usize);

/// A tile's pixels, or why there are none; empty while one thread decodes and others wait.
type Cell = Arc<OnceLock<Result<Vec<u8>, String>>>;

/// At most `capacity` bytes of pixels, and what readers still hold of tiles that have left.
pub(super) struct Cache {
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tiles: HashMap<Key, Slot>,
    /// Moment of last use → tile.
    by_use: BTreeMap<u64, Key>,
    now: u64,
    bytes: usize,
}

struct Slot {
    cell: Cell,
    used: u64,
    bytes: usize,
}

/// A decoded tile that its reader keeps alive.
pub(super) struct Decoded(Cell);

impl Decoded {
    /// RGB, row by row.
    pub(super) fn pixels(&self) -> &[u8] {
        match self.0.get() {
            Some(Ok(pixels)) => pixels,
            _ => &[], // never: `Cache::get` gives out decoded cells only
        }
    }
}

impl Cache {
    /// An empty one for `capacity` bytes.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, state: Mutex::default() }
    }

    /// The tile `key` of `bytes` bytes: kept, or decoded now by this thread or by another that began before it.
    ///
    /// # Errors
    /// As `decode`; a tile that failed is not kept, so that the next reader tries again.
    pub(super) fn get(&self, key: Key, bytes: usize, decode: impl FnOnce() -> Result<Vec<u8>>) -> Result<Decoded> {
        let cell = self.cell(key, bytes);
        match cell.get_or_init(|| decode().map_err(|error| format!("{error:#}"))) {
            Ok(_) => Ok(Decoded(cell)),
            Err(reason) => {
                self.forget(key, &cell);
                Err(anyhow!("{reason}"))
            }
        }
    }

    fn cell(&self, key: Key, bytes: usize) -> Cell {
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        state.now += 1;
        let now = state.now;
        if let Some(slot) = state.tiles.get_mut(&key) {
            state.by_use.remove(&slot.used);
            state.by_use.insert(now, key);
            slot.used = now;
            return slot.cell.clone();
        }
        while state.bytes + bytes > self.capacity {
            let Some((_, oldest)) = state.by_use.pop_first() else { break };
            if let Some(slot) = state.tiles.remove(&oldest) {
                state.bytes -= slot.bytes;
            }
        }
        let cell = Cell::default();
        state.tiles.insert(key, Slot { cell: cell.clone(), used: now, bytes });
        state.by_use.insert(now, key);
        state.bytes += bytes;
        cell
    }

    fn forget(&self, key: Key, cell: &Cell) {
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        if state.tiles.get(&key).is_some_and(|slot| Arc::ptr_eq(&slot.cell, cell))
            && let Some(slot) = state.tiles.remove(&key)
        {
            state.by_use.remove(&slot.used);
            state.bytes -= slot.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn threads_decode_a_tile_once() {
        let (cache, decoded) = (Cache::new(1000), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for tile in 0..10 {
                        let read = cache.get((0, 1, tile), 100, || {
                            decoded.fetch_add(1, Ordering::Relaxed);
                            std::thread::sleep(std::time::Duration::from_millis(1));
                            Ok(vec![tile as u8; 100])
                        });
                        assert_eq!(read.unwrap().pixels(), [tile as u8; 100]);
                    }
                });
            }
        });
        assert_eq!(decoded.into_inner(), 10);
    }

    #[test]
    fn the_least_recently_used_leave_and_the_bytes_stay_bounded() {
        let cache = Cache::new(300);
        let get = |tile: usize| {
            let mut fresh = false;
            cache
                .get((0, 1, tile), 100, || {
                    fresh = true;
                    Ok(vec![0; 100])
                })
                .unwrap();
            fresh
        };
        assert!([0, 1, 2].into_iter().all(&get));
        assert!(!get(0));
        assert!(get(3), "1 leaves");
        assert!(!get(0) && !get(2) && get(1));
        assert_eq!(cache.state.lock().unwrap().bytes, 300);
    }

    #[test]
    fn a_failure_is_told_and_tried_again() {
        let cache = Cache::new(300);
        assert_eq!(cache.get((0, 1, 0), 100, || Err(anyhow!("cut short"))).err().unwrap().to_string(), "cut short");
        assert!(cache.get((0, 1, 0), 100, || Ok(vec![1; 100])).is_ok());
        assert_eq!(cache.state.lock().unwrap().bytes, 100);
    }
}
