//! Progress for people: a bar on a terminal, elsewhere one plain line every 30 seconds with rate and time left.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const LINE_EVERY: Duration = Duration::from_secs(30);

/// Counts `total` items of one kind. Shared by reference between threads.
pub struct Progress {
    bar: Option<ProgressBar>,
    state: Mutex<State>,
    what: String,
    total: u64,
}

struct State {
    done: u64,
    /// Of these, how many cost nothing.
    skipped: u64,
    started: Instant,
    last_line: Instant,
}

impl Progress {
    /// `what` names the items in the plural: "slides", "epochs".
    pub fn new(what: &str, total: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total as u64);
            let style = ProgressStyle::with_template("{prefix:>10} {bar:30} {pos}/{len}  {per_sec}, {elapsed} elapsed, {eta} left  {msg}");
            bar.set_style(style.expect("the template is well-formed"));
            bar.set_prefix(what.to_owned());
            bar
        });
        let now = Instant::now();
        Self {
            bar,
            state: Mutex::new(State { done: 0, skipped: 0, started: now, last_line: now }),
            what: what.to_owned(),
            total: total as u64,
        }
    }

    /// `n` more items are done; `note` is shown beside the count.
    pub fn add(&self, n: usize, note: &str) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.done += n as u64;
        if let Some(bar) = &self.bar {
            bar.set_position(state.done);
            bar.set_message(note.to_owned());
        } else if state.last_line.elapsed() >= LINE_EVERY {
            state.last_line = Instant::now();
            let rate = (state.done - state.skipped) as f64 / state.started.elapsed().as_secs_f64();
            let left = if rate > 0.0 { (self.total.saturating_sub(state.done)) as f64 / rate } else { f64::NAN };
            tracing::info!("{} {}/{}, {rate:.1}/s, about {left:.0} s left {note}", self.what, state.done, self.total);
        }
    }

    /// `n` more items were done by an earlier call: they count, but not for the rate.
    pub fn skip(&self, n: usize) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.done += n as u64;
        state.skipped += n as u64;
        if let Some(bar) = &self.bar {
            bar.set_position(state.done);
            bar.reset_eta();
        }
    }

    /// Takes the bar off the screen.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
