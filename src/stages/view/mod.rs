//! `view`: a page on this machine's own address that shows slides, and what runs make of them. It reads and writes nothing.
//!
//! Bounds, however many look and whatever they ask:
//! - 8 slides stay open, and as many more as there are threads while they are in work, each with 32 MiB of decoded tiles;
//! - 64 MiB of encoded tiles are kept;
//! - as many requests are worked at as there are threads, 64 wait, others are told to ask again (503); a client that goes away frees its place;
//! - 128 connections, each for 10 minutes; 30 seconds for a request's head, 64 KiB of it in memory.
//!
//! Who may look, and what is refused: `guard`, `keys`.

mod catalogue;
mod guard;
mod keys;
mod layers;
mod lru;
mod page;
mod pool;
mod routes;
mod runs;
mod server;

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::body::Bytes;

use self::catalogue::Catalogue;
use self::keys::Keys;
use self::pool::Pool;
use crate::ground::memory;

/// How long an end waits for what is in work.
const END_WITHIN: Duration = Duration::from_secs(2);

/// What is looked at.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Runs, folders that hold some, or slides.
    pub given: Vec<PathBuf>,
    /// The slides behind the runs: a folder, a slide or a table.
    pub slides: Option<PathBuf>,
    /// What people drew: a folder of files named by slide.
    pub annotations: Option<PathBuf>,
    /// Where to listen; 0 takes a port that is free.
    pub port: u16,
}

/// What every request sees.
#[derive(Clone)]
struct Viewer(Arc<Shared>);

struct Shared {
    catalogue: Catalogue,
    /// The catalogue as the page takes it.
    list: Bytes,
    pool: Pool,
    keys: Keys,
    port: u16,
    announce: Box<dyn Fn(&str) + Send + Sync>,
}

impl std::ops::Deref for Viewer {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Shared {
    /// The link with a secret.
    fn link(&self, secret: &str) -> String {
        format!("http://127.0.0.1:{}{}?token={secret}", self.port, routes::OPEN)
    }
}

/// Shows what is given until an interruption. `announce` gets the link to open, and a new one each time that one has been used; `started` the
/// port, once.
///
/// # Errors
/// Nothing to show, a path that is not there, a port that is taken.
pub fn run(inputs: &Inputs, threads: usize, started: impl FnOnce(u16), announce: impl Fn(&str) + Send + Sync + 'static) -> Result<()> {
    memory::give_back_what_is_freed();
    let catalogue = Catalogue::find(inputs)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, inputs.port))
        .with_context(|| format!("cannot listen on port {}; choose another --port, or none", inputs.port))?;
    let port = listener.local_addr()?.port();
    let keys = Keys::new()?;
    let list = catalogue.json(keys.viewer()).to_string().into();
    let shared = Shared { catalogue, list, pool: Pool::new(threads), keys, port, announce: Box::new(announce) };
    let viewer = Viewer(Arc::new(shared));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.clamp(1, 4))
        .max_blocking_threads(threads)
        .enable_all()
        .build()
        .context("cannot start the threads")?;
    started(port);
    (viewer.announce)(&viewer.link(&viewer.keys.link()));
    let outcome = runtime.block_on(server::serve(listener, routes::router(viewer)));
    runtime.shutdown_timeout(END_WITHIN);
    outcome
}
