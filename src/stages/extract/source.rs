//! From a planned slide to a stream of its tiles: one thread opens the next slide while another has the present one's tiles read.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

use anyhow::{Result, anyhow, bail, ensure};
use serde_json::json;

use super::Planned;
use super::account::{Account, Step};
use super::pipeline::{Begun, Event, Extraction};
use crate::ground::plan::Plan;
use crate::ground::share;
use crate::ground::tile_status::StatusCounts;
use crate::slides::{self, Slide, SlideFile};
use crate::store::part::{Part, Rows};
use crate::store::scratch::Copied;
use crate::store::{bag, coords, digest, files};
use crate::tiling::stream::{self, TileBatch};

/// A slide whose bag is to be written.
pub(super) struct Opened {
    pub(super) plan: Arc<Plan>,
    pub(super) bag: PathBuf,
    pub(super) part: Part,
    /// What an interrupted call left.
    pub(super) rows: Rows,
    slide: Box<dyn Slide>,
    /// Dropped after the slide, which reads it.
    copy: Option<Copied>,
}

/// What a planned slide turned out to be.
pub(super) enum Found {
    /// Its bag is there.
    Bagged(StatusCounts),
    /// Work.
    Opened(Box<Opened>),
}

/// Looks at a slide: its bag, or the open file with the rows of an interrupted call.
///
/// # Errors
/// A slide that is missing, has changed since it was tiled, or has tiles of a size that the encoder does not take.
pub(super) fn open(work: &Extraction, planned: &Planned, slide: Option<&SlideFile>) -> Result<Found> {
    let bag = bag_path(work, planned);
    if bag.exists() {
        return Ok(Found::Bagged(bagged(work, planned)?));
    }
    let plan = coords::read(&planned.path)?;
    let file = slide.ok_or_else(|| anyhow!("'{}' is not among the slides; give the --slides that were tiled", plan.slide_file))?;
    ensure!(
        digest::files_fast(file.files())? == plan.slide_digest,
        "'{}' is not the file that was tiled; tile the slides again",
        plan.slide_file
    );
    let network = work.frozen;
    ensure!(
        work.settings.resize || plan.window.tile_px == network.input_px,
        "its tiles are {} px, {} wants {}; tile with --tile-px {}, or allow --resize",
        plan.window.tile_px,
        network.origin.encoder,
        network.input_px,
        network.input_px
    );
    let copy = work.scratch.map(|scratch| scratch.copy(file.files())).transpose()?.flatten();
    if work.scratch.is_some() && copy.is_none() {
        tracing::info!("extract: no room to copy {}; it is read where it is", plan.slide_id);
    }
    let slide = slides::open_with(copy.as_ref().map_or(&file.path, |copy| &copy.path), plan.window.reader.into())?;
    let (part, rows) = Part::open(&bag, &identity(work, planned), work.settings.dtype, network.width, plan.coords.len())?;
    Ok(Found::Opened(Box::new(Opened { plan: Arc::new(plan), bag, part, rows, slide, copy })))
}

pub(super) fn bag_path(work: &Extraction, planned: &Planned) -> PathBuf {
    work.run.path(&format!("bags/{}.h5", planned.id))
}

/// The tiles of a bag that another call has written while this one was at work, as it says itself.
///
/// # Errors
/// A bag that cannot be read.
pub(super) fn stated(work: &Extraction, planned: &Planned) -> Result<StatusCounts> {
    match bag::read_header(&bag_path(work, planned))?.and_then(|header| header.status) {
        Some(status) => Ok(status),
        None => bagged(work, planned),
    }
}

/// The tiles of a bag that is there, once all of it is read.
///
/// # Errors
/// A bag that cannot be read, or was computed in another precision or on another kind of device.
fn bagged(work: &Extraction, planned: &Planned) -> Result<StatusCounts> {
    let bag = bag_path(work, planned);
    let found = bag::read(&bag)?;
    let (there, here) = (found.header.as_ref().and_then(|header| header.origin.computed.as_ref()), &work.frozen.origin.computed);
    ensure!(
        there.is_none() || there == here.as_ref(),
        "its bag was computed in {}, this call computes in {}; go on with the same --device and extract.precision, or take another --out",
        there.map_or("", String::as_str),
        here.as_deref().unwrap_or_default()
    );
    files::remove(&Part::path(&bag))?; // of a call that was killed between the two
    let all = StatusCounts { ok: found.features.tiles, ..StatusCounts::default() };
    Ok(found.header.and_then(|header| header.status).unwrap_or(all))
}

/// Everything that decides a number of the bag, as far as the run's recipe leaves it open.
fn identity(work: &Extraction, planned: &Planned) -> String {
    let all = json!([work.run.digest(), planned.content, work.frozen.origin, format!("{:?}", work.kind), env!("CARGO_PKG_VERSION")]);
    digest::bytes(all.to_string().as_bytes())
}

/// Sends the tiles of an open slide that have no rows yet, batch by batch, between a beginning and an end. `Err` when nobody takes them any more.
pub(super) fn stream(work: &Extraction, index: usize, opened: Opened, lanes: &mut Lanes, account: &Account) -> Result<(), Gone> {
    let Opened { plan, bag, part, rows, slide, copy: _copy } = opened;
    let cancelled = Arc::new(AtomicBool::new(false));
    let from = rows.tiles();
    let mut budget = Budget { plan: &plan, share: work.settings.max_bad_tiles, unreadable: StatusCounts::of(&rows.seen.status).unreadable };
    lanes.send(Event::Begin(Begun { index, plan: Arc::clone(&plan), bag, part, rows, cancelled: Arc::clone(&cancelled) }))?;
    let mut gone = Ok(());
    let outcome = stream::for_each_batch_from(slide.as_ref(), &plan, from, work.batch_size, work.threads, |batch| {
        if cancelled.load(Ordering::Relaxed) {
            bail!("cancelled"); // said already by who cancelled it
        }
        account.add(Step::Read, batch.read);
        account.add(Step::Shrink, batch.shrink);
        account.read(batch.status.len());
        let within = budget.count(&batch);
        gone = lanes.send(Event::Tiles(batch));
        gone.map_err(anyhow::Error::from)?;
        within
    });
    gone?;
    account.slide();
    lanes.send(Event::End(outcome))
}

/// How many tiles of a slide may be unreadable.
struct Budget<'a> {
    plan: &'a Plan,
    share: f64,
    unreadable: usize,
}

impl Budget<'_> {
    /// # Errors
    /// More tiles are unreadable than the share that is allowed; names the first.
    fn count(&mut self, batch: &TileBatch) -> Result<()> {
        self.unreadable += batch.faults.len();
        let tiles = self.plan.coords.len();
        let allowed = share::allowed(self.share, tiles);
        match &batch.faults[..] {
            [(_, reason), ..] if self.unreadable > allowed => bail!(
                "{} or more of its {tiles} tiles cannot be read, {allowed} are allowed (--max-bad-tiles {}), such as: {reason}",
                self.unreadable,
                share::percent(self.share)
            ),
            _ => Ok(()),
        }
    }
}

/// Nobody takes what is sent: the extraction is ending.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gone;

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the extraction is ending")
    }
}

impl std::error::Error for Gone {}

/// Where tiles go: in turn to each of the threads that feed the device, so that they come out in turn again.
pub(super) struct Lanes {
    lanes: Vec<SyncSender<Event<TileBatch>>>,
    turn: usize,
}

impl Lanes {
    pub(super) fn new(lanes: Vec<SyncSender<Event<TileBatch>>>) -> Self {
        Self { lanes, turn: 0 }
    }

    pub(super) fn send(&mut self, event: Event<TileBatch>) -> Result<(), Gone> {
        let lane = &self.lanes[self.turn];
        self.turn = (self.turn + 1) % self.lanes.len();
        lane.send(event).map_err(|_| Gone)
    }
}

/// What a message may say of a slide: its pseudonym where it has one.
pub(super) fn disguised(slide: Option<&SlideFile>, reason: &str) -> String {
    slide.map_or_else(|| reason.to_owned(), |slide| slide.disguise(reason))
}
