//! Which slide next. Calls that work in one folder at the same time, each with all slides or a share of them, never do one twice.
//!
//! A call takes a lease before it begins a slide. First come those of its share; then, where it may, those of other shares that nobody
//! has begun, and those whose holder is gone. A call for everything waits for what others have in work; a share leaves that to them.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Selection;
use crate::ground::interrupt;
use crate::store::files;
use crate::store::leases::{Leases, Taken};

/// The lease of the call that writes the tables.
const FINISH: &str = "@finish";
/// How often one that waits asks for what others have.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Hands out slides by their place in the list; shared by the threads of a call.
pub(super) struct Worklist<'a> {
    leases: &'a Leases,
    ids: Vec<String>,
    outputs: Outputs,
    waits: bool,
    state: Mutex<State>,
}

/// Where finished slides are: `folder/<id><ending>`.
pub(super) struct Outputs {
    pub(super) folder: PathBuf,
    pub(super) ending: &'static str,
}

#[derive(Default)]
struct State {
    own: VecDeque<usize>,
    /// Of other shares, to be taken from.
    others: VecDeque<usize>,
    /// Held by another when it was looked at.
    held: VecDeque<usize>,
    /// Failed for another, and why.
    noted: BTreeMap<usize, String>,
    /// When those of `held` were last asked for.
    looked: Option<Instant>,
    over: bool,
}

impl<'a> Worklist<'a> {
    /// `slides`: id and weight of each. `order` is the order within a share.
    pub(super) fn new<'s>(
        leases: &'a Leases,
        slides: impl Iterator<Item = (&'s str, u64)>,
        selection: &Selection,
        outputs: Outputs,
        order: Order,
    ) -> Self {
        let (ids, weights): (Vec<String>, Vec<u64>) = slides.map(|(id, weight)| (id.to_owned(), weight)).unzip();
        let (mut own, mut others) = selection.shard.divide(&weights);
        if order == Order::HeaviestFirst {
            own.sort_by_key(|&place| std::cmp::Reverse(weights[place]));
        }
        // A thief begins where the owner ends.
        others.reverse();
        if !selection.steal {
            others.clear();
        }
        let state = State { own: own.into(), others: others.into(), ..State::default() };
        Self { leases, ids, outputs, waits: selection.shard.is_whole(), state: Mutex::new(state) }
    }

    /// The slides of this call's own share that nobody has asked for yet.
    pub(super) fn own(&self) -> Vec<usize> {
        self.state().own.iter().copied().collect()
    }

    /// Has nothing more handed out, to those that wait either.
    pub(super) fn stop(&self) {
        self.state().over = true;
    }

    /// The next slide for this call, which then holds its lease or will find its output there; `None` when there is no more for it.
    ///
    /// # Errors
    /// An interruption; leases that cannot be read or written.
    pub(super) fn next(&self) -> Result<Option<usize>> {
        loop {
            interrupt::check()?;
            let mut state = self.state();
            if state.over {
                return Ok(None);
            }
            if let Some(place) = state.own.pop_front() {
                if let Some(place) = self.ask(&mut state, place)? {
                    return Ok(Some(place));
                }
            } else if !state.others.is_empty() {
                let (done, taken) = (self.outputs.listed()?, self.leases.taken()?);
                while let Some(place) = state.others.pop_front() {
                    let id = &self.ids[place];
                    if done.contains(id) {
                        continue;
                    }
                    if taken.contains(id) {
                        state.held.push_back(place);
                    } else if let Some(place) = self.ask(&mut state, place)? {
                        return Ok(Some(place));
                    } else {
                        break; // others are at the same: a new look
                    }
                }
            } else if state.held.is_empty() {
                return Ok(None);
            } else if state.looked.is_some_and(|looked| looked.elapsed() < LOOK_AGAIN) {
                // One look is enough for all threads, and waiting keeps none of them from asking.
                drop(state);
                std::thread::sleep(LOOK_AGAIN / 4);
            } else {
                let done = self.outputs.listed()?;
                for _ in 0..state.held.len() {
                    let Some(place) = state.held.pop_front().filter(|&place| !done.contains(&self.ids[place])) else { continue };
                    if let Some(reason) = self.leases.failure(&self.ids[place])? {
                        state.noted.insert(place, reason);
                    } else if let Some(place) = self.ask(&mut state, place)? {
                        return Ok(Some(place));
                    }
                }
                if !self.waits {
                    return Ok(None);
                }
                state.looked = Some(Instant::now());
            }
        }
    }

    /// `place`, if it is this call's to work on.
    fn ask(&self, state: &mut State, place: usize) -> Result<Option<usize>> {
        let id = &self.ids[place];
        match self.leases.take(id)? {
            Taken::Mine { again } => match if again { self.leases.failure(id)? } else { None } {
                Some(reason) => drop(state.noted.insert(place, reason)),
                None => return Ok(Some(place)),
            },
            Taken::Held(_) => state.held.push_back(place),
            Taken::Over => state.over = true,
        }
        Ok(None)
    }

    /// Whether this call is to write the tables: everything is done or has failed, and no other call does it. `failed`: what failed here.
    ///
    /// # Errors
    /// An interruption; folders that cannot be read.
    pub(super) fn closes(&self, failed: impl Iterator<Item = usize>) -> Result<bool> {
        if self.waits {
            return self.leases.wait_for(FINISH);
        }
        let mut state = self.state();
        let mut settled = self.outputs.listed()?;
        settled.extend(failed.chain(state.noted.keys().copied()).map(|place| self.ids[place].clone()));
        for (place, id) in self.ids.iter().enumerate().filter(|(_, id)| !settled.contains(*id)) {
            let Some(reason) = self.leases.failure(id)? else { return Ok(false) };
            state.noted.insert(place, reason);
        }
        Ok(matches!(self.leases.take(FINISH)?, Taken::Mine { .. }))
    }

    /// Why a slide without an output has none: it failed for another call.
    pub(super) fn failure(&self, place: usize) -> Option<String> {
        self.state().noted.get(&place).cloned()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In what order a call goes through its share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// That of the list.
    Listed,
    /// So that the last ones are short.
    HeaviestFirst,
}

impl Outputs {
    /// The ids of finished slides.
    fn listed(&self) -> Result<HashSet<String>> {
        let names = files::names_in(&self.folder)?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(self.ending)).map(str::to_owned).collect())
    }
}
