//! Where the time of an extraction went: seconds by step, who waited for whom, memory and bytes. For the log and `run.json` alone.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::pipeline::LANES;
use crate::ground::usage;

/// A step of the way from slide to bag, or a wait.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// Reading and decoding; seconds of all reading threads.
    Read,
    /// Shrinking to the tile size and judging the pixels; likewise.
    Shrink,
    /// From bytes to the network's input; processor seconds of all threads, on a GPU seconds by the clock.
    Prepare,
    /// The network; likewise.
    Encode,
    /// Bags and saved rows.
    Write,
    /// Threads that feed the device waited for tiles; seconds of all of them.
    NoTiles,
}

const STEPS: usize = 6;

/// Shared by all threads of an extraction.
pub(super) struct Account {
    started: Instant,
    bytes_read: Option<u64>,
    nanoseconds: [AtomicU64; STEPS],
    read: AtomicU64,
    embedded: AtomicU64,
    slides: AtomicU64,
    /// Threads that read; on a processor as many embed.
    readers: usize,
    on_gpu: bool,
}

impl Account {
    pub(super) fn new(readers: usize, on_gpu: bool) -> Self {
        Self {
            started: Instant::now(),
            bytes_read: usage::bytes_read(),
            nanoseconds: Default::default(),
            read: AtomicU64::new(0),
            embedded: AtomicU64::new(0),
            slides: AtomicU64::new(0),
            readers,
            on_gpu,
        }
    }

    pub(super) fn add(&self, step: Step, time: Duration) {
        self.nanoseconds[step as usize].fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Runs `work` and counts its time by the clock.
    pub(super) fn timed<T>(&self, step: Step, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let done = work();
        self.add(step, started.elapsed());
        done
    }

    pub(super) fn read(&self, tiles: usize) {
        self.read.fetch_add(tiles as u64, Ordering::Relaxed);
    }

    pub(super) fn embedded(&self, tiles: usize) {
        self.embedded.fetch_add(tiles as u64, Ordering::Relaxed);
    }

    fn seconds(&self, step: Step) -> f64 {
        self.nanoseconds[step as usize].load(Ordering::Relaxed) as f64 / 1e9
    }

    /// Tiles that became vectors in this call.
    pub(super) fn tiles(&self) -> u64 {
        self.embedded.load(Ordering::Relaxed)
    }

    /// Tiles a second of the whole way.
    pub(super) fn rate(&self) -> f64 {
        rounded(self.tiles() as f64 / self.wall())
    }

    fn wall(&self) -> f64 {
        self.started.elapsed().as_secs_f64().max(1e-9)
    }

    /// Seconds in which the device had nothing to do: all threads that feed it waited.
    fn idle(&self) -> f64 {
        (self.seconds(Step::NoTiles) - (LANES - 1) as f64 * self.wall()).max(0.0)
    }

    /// The step that was at work longest by the clock: the others wait for it.
    fn limit(&self) -> &'static str {
        let read = (self.seconds(Step::Read) + self.seconds(Step::Shrink)) / self.readers as f64;
        let busy = [("read", read), ("write", self.seconds(Step::Write)), ("encode", self.wall() - self.idle())];
        busy.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).map_or("encode", |(name, _)| name)
    }

    /// Share of the time of all embedding threads, 0–1, in which they did not run the network.
    fn not_encoder(&self) -> f64 {
        let share =
            if self.on_gpu { self.idle() / self.wall() } else { 1.0 - self.seconds(Step::Encode) / (self.wall() * self.readers as f64) };
        rounded(share.clamp(0.0, 1.0))
    }

    /// For `run.json`.
    pub(super) fn figures(&self) -> Value {
        let step = |step, tiles: &AtomicU64| {
            let (seconds, tiles) = (self.seconds(step), tiles.load(Ordering::Relaxed) as f64);
            json!({"seconds": rounded(seconds), "tiles_per_second": if seconds > 0.0 { rounded(tiles / seconds) } else { 0.0 }})
        };
        json!({
            "read": step(Step::Read, &self.read),
            "shrink": step(Step::Shrink, &self.read),
            "prepare": step(Step::Prepare, &self.embedded),
            "encode": step(Step::Encode, &self.embedded),
            "write": step(Step::Write, &self.embedded),
            "limit": self.limit(),
            "not_encoder": self.not_encoder(),
            "gpu_idle": self.on_gpu.then(|| rounded((self.idle() / self.wall()).min(1.0))),
            "threads": self.readers,
            "peak_memory_bytes": usage::peak_memory(),
            "bytes_read": usage::bytes_read().zip(self.bytes_read).map(|(now, before)| now - before),
        })
    }

    /// A slide was read to its end.
    pub(super) fn slide(&self) {
        self.slides.fetch_add(1, Ordering::Relaxed);
    }

    /// Slides an hour of the whole way.
    pub(super) fn slides_per_hour(&self) -> f64 {
        rounded(self.slides.load(Ordering::Relaxed) as f64 * 3600.0 / self.wall())
    }

    /// For the log.
    pub(super) fn line(&self) -> String {
        let seconds = |step| self.seconds(step);
        let mut line = format!(
            "{} tiles at {}/s, {:.0} slides an hour; seconds: read {:.1}, shrink {:.1}, prepare {:.1}, encode {:.1}, write {:.1}; the limit was to {}, {:.0}% was not encoder",
            self.tiles(),
            self.rate(),
            self.slides_per_hour(),
            seconds(Step::Read),
            seconds(Step::Shrink),
            seconds(Step::Prepare),
            seconds(Step::Encode),
            seconds(Step::Write),
            self.limit(),
            self.not_encoder() * 100.0
        );
        if let Some(bytes) = usage::peak_memory() {
            line += &format!("; at most {} MB of memory", bytes >> 20);
        }
        if let Some((now, before)) = usage::bytes_read().zip(self.bytes_read) {
            line += &format!(", {} MB read", (now - before) >> 20);
        }
        line
    }
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
