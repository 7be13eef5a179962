//! What many viewers at once may take: open slides, encoded tiles, and places to work at, each bounded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Result, anyhow};
use axum::body::Bytes;
use tokio::sync::Semaphore;

use super::lru::Lru;
use crate::slides::deepzoom::{Place, Pyramid};
use crate::slides::{self, ReaderChoice, Slide, SlideFile};

/// Slides that stay open; those in work beside them are as many as there are threads.
const OPEN_SLIDES: usize = 8;
/// Decoded tiles that an open slide keeps, bytes.
const SLIDE_CACHE_BYTES: usize = 32 << 20;
/// Encoded tiles that are kept, bytes.
const TILE_BYTES: usize = 64 << 20;
/// Requests that may wait for a place to work at.
const MOST_WAITING: usize = 64;

/// An open slide and its pyramid.
pub(super) struct Opened {
    pub(super) slide: Box<dyn Slide>,
    pub(super) pyramid: Pyramid,
}

/// Empty while one thread opens the slide and others wait.
type Opening = Arc<OnceLock<Result<Arc<Opened>, String>>>;

/// Shared by all requests.
pub(super) struct Pool {
    slides: Mutex<Lru<usize, Opening>>,
    tiles: Mutex<Lru<(usize, Place), Bytes>>,
    /// Requests that work or wait.
    queue: Arc<Semaphore>,
    /// Requests that work.
    places: Arc<Semaphore>,
}

/// Every place is taken and enough requests wait.
pub(super) struct Busy;

/// Tells a worker whether its client is still there.
pub(super) struct Wanted(Arc<AtomicBool>);

impl Wanted {
    pub(super) fn still(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }
}

/// Dropped with the request: when it is answered, and when its client goes away.
struct Leaving(Arc<AtomicBool>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Pool {
    /// A pool that works at `threads` requests at once.
    pub(super) fn new(threads: usize) -> Self {
        Self {
            slides: Mutex::new(Lru::new(OPEN_SLIDES)),
            tiles: Mutex::new(Lru::new(TILE_BYTES)),
            queue: Arc::new(Semaphore::new(threads + MOST_WAITING)),
            places: Arc::new(Semaphore::new(threads)),
        }
    }

    /// Does a job on a thread of its own as soon as there is a place. A client that goes away gives up its place in the queue at once, and
    /// its place at work as soon as the job asks [`Wanted`].
    ///
    /// # Errors
    /// Busy, or the job's own.
    pub(super) async fn work<T: Send + 'static>(&self, job: impl FnOnce(&Wanted) -> Result<T> + Send + 'static) -> Result<Result<T>, Busy> {
        let queued = self.queue.clone().try_acquire_owned().map_err(|_| Busy)?;
        let place = self.places.clone().acquire_owned().await.map_err(|_| Busy)?;
        let left = Arc::new(AtomicBool::new(false));
        let (_leaving, wanted) = (Leaving(left.clone()), Wanted(left));
        let done = tokio::task::spawn_blocking(move || {
            let _held = (queued, place);
            job(&wanted)
        });
        // A panic is a bug, of one request: the others go on.
        Ok(done.await.unwrap_or_else(|_| Err(anyhow!("the viewer failed at this; its log says more"))))
    }

    /// The slide, opened now if it is not open.
    ///
    /// # Errors
    /// As [`slides::open`]; the next request tries again.
    pub(super) fn slide(&self, number: usize, file: &SlideFile) -> Result<Arc<Opened>> {
        let opening = {
            let mut slides = self.slides.lock().unwrap_or_else(PoisonError::into_inner);
            slides.get(number).unwrap_or_else(|| {
                let opening = Opening::default();
                slides.put(number, opening.clone(), 1);
                opening
            })
        };
        let open = || {
            let slide = slides::open_keeping(&file.path, ReaderChoice::Auto, SLIDE_CACHE_BYTES).map_err(|error| format!("{error:#}"))?;
            let pyramid = Pyramid::of(slide.as_ref());
            Ok(Arc::new(Opened { slide, pyramid }))
        };
        opening.get_or_init(open).clone().map_err(|reason| {
            self.slides.lock().unwrap_or_else(PoisonError::into_inner).remove(number);
            anyhow!(reason)
        })
    }

    /// A tile that was made before, if it is still here.
    pub(super) fn kept(&self, number: usize, place: Place) -> Option<Bytes> {
        self.tiles.lock().unwrap_or_else(PoisonError::into_inner).get((number, place))
    }

    /// A tile made now, and kept.
    ///
    /// # Errors
    /// As [`Pyramid::jpeg`].
    pub(super) fn tile(&self, opened: &Opened, number: usize, place: Place, wanted: &Wanted) -> Result<Bytes> {
        let tile = Bytes::from(opened.pyramid.jpeg(opened.slide.as_ref(), place, &|| wanted.still())?);
        self.tiles.lock().unwrap_or_else(PoisonError::into_inner).put((number, place), tile.clone(), tile.len());
        Ok(tile)
    }
}
