//! Takes connections on this machine's own address and hands their requests on, until somebody asks for an end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::ground::interrupt;

/// Connections at once; others wait until one ends. A browser opens six.
const MOST_CONNECTIONS: usize = 128;
/// How long a connection may take to send a request's head, idle time included.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// How long one connection is used; a browser opens another without a word.
const CONNECTION_LASTS: Duration = Duration::from_secs(600);
/// How long its last answer may take after that.
const LAST_ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// More than the guard lets through, so that the guard says why; not much more.
const READ_BUFFER_BYTES: usize = 64 << 10;
/// How soon an interruption is seen.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Serves until [`interrupt`] says stop.
///
/// # Errors
/// The listener is not to be used from here.
pub(super) async fn serve(listener: std::net::TcpListener, router: Router) -> Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener).context("cannot listen")?;
    let connections = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    while interrupt::check().is_ok() {
        let next = async {
            let place = connections.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        // Given up in between, `accept` loses no connection.
        let Ok((place, accepted)) = timeout(LOOK_EVERY, next).await else { continue };
        match accepted {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    let _place = place;
                    converse(stream, router).await;
                });
            }
            // Too many open files, or a client that was gone before it was there: neither ends the server.
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
    Ok(())
}

/// All requests of one connection. What goes wrong with it is its client's business.
async fn converse(stream: TcpStream, router: Router) {
    // Tiles are small: none waits for the next.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(READ_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    if timeout(CONNECTION_LASTS, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(LAST_ANSWER_WITHIN, connection).await;
    }
}
