//! The way from slides to bags, all of it at work at once: a thread opens slides, a pool reads tiles, two threads feed the device, one
//! writes, and the calling one keeps the rows in order. Between them are channels that hold one or two items, so memory is bounded
//! and the slowest sets the pace, also from one slide to the next.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::json;
use tch::Kind;

use super::super::frozen::Frozen;
use super::super::on_one_line;
use super::super::worklist::Worklist;
use super::Planned;
use super::account::{Account, Step};
use super::embed::Embedder;
use super::source::{self, Found, Lanes};
use super::writer::{self, Task, Written};
use crate::config::ExtractSettings;
use crate::ground::interrupt::{self, Interrupted};
use crate::ground::plan::Plan;
use crate::ground::progress::Progress;
use crate::ground::tile_status::StatusCounts;
use crate::slides::SlideFile;
use crate::store::bag::Seen;
use crate::store::files;
use crate::store::leases::Leases;
use crate::store::part::{Part, Rows};
use crate::store::run::Run;
use crate::store::scratch::Scratch;
use crate::tiling::stream::TileBatch;

/// Threads that feed the device: while the network has one batch, the next is made ready.
pub(super) const LANES: usize = 2;

/// How often a thread that waits looks whether it should end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What every thread of an extraction may look at.
pub(super) struct Extraction<'a> {
    pub(super) run: &'a Run,
    pub(super) leases: &'a Leases,
    pub(super) scratch: Option<&'a Scratch>,
    pub(super) settings: &'a ExtractSettings,
    pub(super) frozen: &'a Frozen,
    /// What the network computes in.
    pub(super) kind: Kind,
    pub(super) batch_size: usize,
    pub(super) threads: usize,
    /// Between two saves of the slide in work.
    pub(super) save_every: Duration,
}

/// A slide by its path in the list, and its file if that is known.
pub(super) type Job<'a> = (&'a Planned, Option<&'a SlideFile>);

/// What became of the slides, by their place in the list.
pub(super) type Outcomes = BTreeMap<usize, Result<StatusCounts>>;

/// What passes from thread to thread, in the order of the slides and their tiles.
pub(super) enum Event<T> {
    /// A slide that needs no work, or cannot be opened.
    Settled(usize, Result<StatusCounts>),
    /// A slide begins.
    Begin(Begun),
    /// Some of its tiles.
    Tiles(T),
    /// It ended, or reading it failed.
    End(Result<()>),
}

/// A slide that is to be extracted.
pub(super) struct Begun {
    pub(super) index: usize,
    pub(super) plan: Arc<Plan>,
    pub(super) bag: PathBuf,
    pub(super) part: Part,
    pub(super) rows: Rows,
    /// Set when no more of it is wanted.
    pub(super) cancelled: Arc<AtomicBool>,
}

/// What the network made of a batch.
struct Encoded {
    rows: Rows,
    faults: Vec<(usize, String)>,
}

/// Extracts those of `jobs` that the list hands out. The first error that is not a slide's own, an interruption, is returned, after the rows so
/// far are saved.
pub(super) fn extract(
    work: &Extraction,
    worklist: &Worklist,
    jobs: &[Job],
    embedder: &Embedder,
    account: &Account,
    progress: &Progress,
) -> Result<Outcomes> {
    let (opened_sender, opened) = sync_channel(1);
    let (to_lanes, from_reader): (Vec<_>, Vec<_>) = (0..LANES).map(|_| sync_channel(1)).unzip();
    let (from_lanes, encoded): (Vec<_>, Vec<_>) = (0..LANES).map(|_| sync_channel(1)).unzip();
    let (tasks, for_writer) = sync_channel(1);
    let (report, written) = channel();
    std::thread::scope(|scope| {
        let opener = scope.spawn(move || -> Result<()> {
            while let Some(index) = worklist.next()? {
                let (planned, slide) = jobs[index];
                if opened_sender.send((index, source::open(work, planned, slide))).is_err() {
                    break;
                }
            }
            Ok(())
        });
        scope.spawn(move || read(work, &opened, Lanes::new(to_lanes), account));
        for (tiles, rows) in from_reader.into_iter().zip(from_lanes) {
            scope.spawn(move || feed(work, embedder, account, &tiles, &rows));
        }
        scope.spawn(move || writer::work(work, for_writer, account, &report));
        let mut keeper = Keeper {
            work,
            jobs,
            progress,
            tasks,
            written,
            slide: None,
            last_save: Instant::now(),
            outcomes: Outcomes::new(),
            full: None,
            taken: false,
        };
        let ended = keeper.keep(encoded);
        // Nobody waits for what other calls have.
        worklist.stop();
        let outcomes = keeper.finish(ended);
        let opened = opener.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        outcomes.and_then(|outcomes| opened.map(|()| outcomes))
    })
}

/// Reads slide after slide until there is none, or nobody wants more.
fn read(work: &Extraction, opened: &Receiver<(usize, Result<Found>)>, mut lanes: Lanes, account: &Account) {
    for (index, found) in opened {
        let sent = match found {
            Ok(Found::Opened(opened)) => source::stream(work, index, *opened, &mut lanes, account),
            Ok(Found::Bagged(tiles)) => lanes.send(Event::Settled(index, Ok(tiles))),
            Err(error) => lanes.send(Event::Settled(index, Err(error))),
        };
        if sent.is_err() {
            break;
        }
    }
}

/// Tiles in, rows out, in the same order.
fn feed(
    work: &Extraction,
    embedder: &Embedder,
    account: &Account,
    tiles: &Receiver<Event<TileBatch>>,
    rows: &SyncSender<Event<Result<Encoded>>>,
) {
    while let Ok(event) = account.timed(Step::NoTiles, || tiles.recv()) {
        let event = match event {
            Event::Tiles(batch) => Event::Tiles(encode(work, embedder, account, batch)),
            Event::Settled(index, outcome) => Event::Settled(index, outcome),
            Event::Begin(slide) => Event::Begin(slide),
            Event::End(outcome) => Event::End(outcome),
        };
        if rows.send(event).is_err() {
            break;
        }
    }
}

fn encode(work: &Extraction, embedder: &Embedder, account: &Account, batch: TileBatch) -> Result<Encoded> {
    let embedded = embedder.embed(&batch)?;
    account.add(Step::Prepare, embedded.prepare);
    account.add(Step::Encode, embedded.encode);
    account.embedded(batch.count);
    let seen = Seen { status: batch.status, quality: batch.quality };
    Ok(Encoded { rows: Rows { seen, values: embedded.values, width: work.frozen.width }, faults: batch.faults })
}

/// Keeps the rows in order, has them saved, and knows what became of each slide.
struct Keeper<'a> {
    work: &'a Extraction<'a>,
    jobs: &'a [Job<'a>],
    progress: &'a Progress,
    tasks: SyncSender<Task>,
    written: Receiver<Written>,
    slide: Option<InWork>,
    last_save: Instant,
    outcomes: Outcomes,
    /// There is no room to write, and what was not written.
    full: Option<String>,
    /// Other calls have taken over what this one had.
    taken: bool,
}

/// The slide in work.
struct InWork {
    index: usize,
    plan: Arc<Plan>,
    bag: PathBuf,
    rows: Rows,
    /// Tiles of the plan whose rows are on the disk, or on the way there.
    saved: usize,
    cancelled: Arc<AtomicBool>,
}

impl Keeper<'_> {
    /// Takes what the lanes give, in turn, to the end.
    fn keep(&mut self, lanes: Vec<Receiver<Event<Result<Encoded>>>>) -> Result<()> {
        let mut turn = 0;
        loop {
            interrupt::check()?;
            match lanes[turn].recv_timeout(LOOK_EVERY) {
                Ok(event) => {
                    turn = (turn + 1) % LANES;
                    self.take(event)?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            self.look_at_written();
            if let Some(reason) = &self.full {
                bail!("the output folder has no room left; what is written stays, so make room and run the same command again: {reason}");
            }
        }
    }

    fn take(&mut self, event: Event<Result<Encoded>>) -> Result<()> {
        match event {
            Event::Settled(_, Err(error)) if error.is::<Interrupted>() => return Err(error),
            Event::Settled(index, outcome) => {
                let (planned, _) = self.jobs[index];
                self.progress.skip(planned.tiles);
                self.settle(index, outcome);
            }
            Event::Begin(slide) => self.begin(slide)?,
            Event::Tiles(Ok(encoded)) => self.add(encoded)?,
            Event::Tiles(Err(error)) if error.is::<Interrupted>() => return Err(error),
            // The device may do better next time: what it has done is kept.
            Event::Tiles(Err(error)) => {
                self.save();
                self.fail(error);
            }
            Event::End(Err(error)) if self.slide.is_some() => {
                self.fail(error);
                self.task(Task::Drop);
            }
            Event::End(Err(_)) => {} // it had failed before
            Event::End(Ok(())) => self.end(),
        }
        Ok(())
    }

    fn begin(&mut self, slide: Begun) -> Result<()> {
        let Begun { index, plan, bag, part, rows, cancelled } = slide;
        let saved = rows.tiles();
        if saved > 0 {
            let (done, of) = (saved, plan.coords.len());
            tracing::info!("extract: {} goes on after {done} of {of} tiles", plan.slide_id);
            self.work.run.log("resume", json!({"slide": plan.slide_id, "tiles": done, "of": of}))?;
            self.progress.skip(saved);
        }
        self.last_save = Instant::now();
        self.task(Task::Begin(index, part));
        self.slide = Some(InWork { index, plan, bag, rows, saved, cancelled });
        Ok(())
    }

    fn add(&mut self, encoded: Encoded) -> Result<()> {
        let Some(slide) = &mut self.slide else { return Ok(()) }; // it failed, and this was under way
        self.progress.add(encoded.rows.tiles(), &slide.plan.slide_id);
        for (position, reason) in &encoded.faults {
            let at = slide.plan.coords[*position];
            let reason = source::disguised(self.jobs[slide.index].1, reason);
            self.work.run.log("unreadable", json!({"slide": slide.plan.slide_id, "x": at.x, "y": at.y, "reason": reason}))?;
        }
        slide.rows.extend(&encoded.rows);
        if self.last_save.elapsed() >= self.work.save_every {
            self.save();
        }
        Ok(())
    }

    /// Has what is new written to the journal.
    fn save(&mut self) {
        self.last_save = Instant::now();
        if let Some(slide) = &mut self.slide
            && slide.rows.tiles() > slide.saved
        {
            let new = slide.rows.after(slide.saved);
            slide.saved = slide.rows.tiles();
            self.task(Task::Save(new));
        }
    }

    fn end(&mut self) {
        let Some(InWork { index, plan, bag, rows, .. }) = self.slide.take() else { return };
        let tiles = StatusCounts::of(&rows.seen.status);
        if let Err(error) = worth_a_bag(&plan, tiles) {
            self.settle(index, Err(error));
            return self.task(Task::Drop);
        }
        self.outcomes.insert(index, Ok(tiles));
        self.task(Task::Bag(bag, plan, rows));
    }

    /// The slide in work has failed; the others go on.
    fn fail(&mut self, error: anyhow::Error) {
        if let Some(slide) = self.slide.take() {
            slide.cancelled.store(true, Ordering::Relaxed);
            self.settle(slide.index, Err(error));
        }
    }

    /// Keeps what became of a slide; a failure is told to other calls in the same folder.
    fn settle(&mut self, index: usize, outcome: Result<StatusCounts>) {
        if let Err(error) = &outcome {
            let (planned, _) = self.jobs[index];
            // Without the note others try the slide themselves.
            if let Err(error) = self.work.leases.failed(&planned.id, &reason(self.jobs, index, error), false) {
                tracing::warn!("{error:#}");
            }
        }
        self.outcomes.insert(index, outcome);
    }

    fn task(&self, task: Task) {
        // The writer ends after this, unless it panicked, which the scope passes on.
        let _ = self.tasks.send(task);
    }

    /// What could not be written is a failure of its slide; what was saved before stays.
    fn look_at_written(&mut self) {
        while let Ok(written) = self.written.try_recv() {
            self.note(written);
        }
    }

    fn note(&mut self, Written { index, outcome }: Written) {
        let Err(error) = outcome else { return };
        if error.is::<Interrupted>() {
            // Others have taken over: the slide is theirs to speak of.
            self.outcomes.remove(&index);
            self.taken = true;
            return;
        }
        // What this slide met every other would meet.
        if files::is_full(&error) {
            self.full = Some(format!("{}: {}", self.jobs[index].0.id, reason(self.jobs, index, &error)));
        }
        self.settle(index, Err(error));
        if let Some(slide) = self.slide.take_if(|slide| slide.index == index) {
            slide.cancelled.store(true, Ordering::Relaxed);
        }
    }

    /// Saves what is left if the work was interrupted, and waits for the disk.
    fn finish(mut self, ended: Result<()>) -> Result<Outcomes> {
        // Also when a thread that feeds the network was lost: then a slide is in work still.
        if ended.is_err() || self.slide.is_some() {
            self.save();
        }
        // Without a sender of tasks the writer ends, after the last of them.
        self.tasks = sync_channel(0).0;
        while let Ok(written) = self.written.recv() {
            self.note(written);
        }
        ended?;
        if self.taken { Err(Interrupted.into()) } else { Ok(self.outcomes) }
    }
}

/// Why a slide failed, on one line and under its pseudonym.
pub(super) fn reason(jobs: &[Job], index: usize, error: &anyhow::Error) -> String {
    on_one_line(&source::disguised(jobs[index].1, &format!("{error:#}")))
}

/// # Errors
/// The plan has tiles, and none of them has pixels.
fn worth_a_bag(plan: &Plan, tiles: StatusCounts) -> Result<()> {
    if plan.coords.is_empty() {
        tracing::warn!("extract: {} has no tiles; its bag is empty, and training will refuse it by name", plan.slide_id);
        return Ok(());
    }
    ensure!(
        tiles.ok > 0,
        "none of its {} tiles has pixels to embed: {} unreadable, {} outside the scanned area, {} of one colour; look at its thumbnail",
        plan.coords.len(),
        tiles.unreadable,
        tiles.outside,
        tiles.blank
    );
    Ok(())
}
