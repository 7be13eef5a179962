//! What is answered: the page and its parts, the list of slides, and of each slide its shape, tiles and layers.

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Router, middleware};
use serde::Deserialize;
use serde_json::Value;

use super::Viewer;
use super::catalogue::Shown;
use super::guard::{Refusal, guard};
use super::pool::Busy;
use super::runs::Found;
use super::{layers, page};
use crate::slides::deepzoom::Place;

/// Where the link that works once leads.
pub(super) const OPEN: &str = "/open";

const JSON: &str = "application/json";
const NUMBERS: &str = "application/octet-stream";
const JPEG: &str = "image/jpeg";

/// Tiles of one viewer never change, and their addresses name the viewer.
const KEPT: &str = "private, max-age=3600";

pub(super) fn router(viewer: Viewer) -> Router {
    Router::new()
        .route(OPEN, get(open))
        .route("/api/catalogue", get(catalogue))
        .route("/api/slides/{slide}", get(about))
        .route("/api/slides/{slide}/tiles/{level}/{column}/{row}", get(tile))
        .route("/api/slides/{slide}/maps/{run}", get(map))
        .route("/api/slides/{slide}/grids/{run}", get(grid))
        .route("/api/slides/{slide}/tissue/{run}", get(tissue))
        .route("/api/slides/{slide}/annotations", get(annotations))
        .fallback(page::file)
        .layer(middleware::from_fn_with_state(viewer.clone(), guard))
        .with_state(viewer)
}

#[derive(Deserialize)]
struct Link {
    #[serde(default)]
    token: String,
}

async fn open(State(viewer): State<Viewer>, method: Method, headers: header::HeaderMap, Query(link): Query<Link>) -> Response {
    // Whoever only looks whether the link leads anywhere has not opened it.
    if method == Method::HEAD {
        return StatusCode::NO_CONTENT.into_response();
    }
    // A link that is opened again in the same browser does no harm.
    if headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).any(|cookies| viewer.keys.knows(cookies)) {
        return Redirect::to("/").into_response();
    }
    match viewer.keys.enter(&link.token) {
        Ok(Some(entry)) => {
            (viewer.announce)(&viewer.link(&entry.next));
            ([(header::SET_COOKIE, entry.set_cookie)], Redirect::to("/")).into_response()
        }
        Ok(None) => Refusal(StatusCode::FORBIDDEN, "This link has been used or is none of this viewer's: open the one it printed last.")
            .into_response(),
        Err(error) => unreadable(&viewer, &error),
    }
}

async fn catalogue(State(viewer): State<Viewer>) -> Response {
    ([(header::CONTENT_TYPE, JSON)], viewer.list.clone()).into_response()
}

async fn about(State(viewer): State<Viewer>, Path(number): Path<usize>) -> Response {
    with_slide(&viewer, number, move |viewer, shown| {
        let missing = "no slide of this name was given; start the viewer with --slides and the folder that holds it";
        let opened = match &shown.file {
            Some(file) => viewer.pool.slide(number, file),
            None => Err(anyhow::anyhow!(missing)),
        };
        Ok((JSON, layers::about(&viewer.catalogue, number, &opened).to_string().into()))
    })
    .await
}

async fn tile(State(viewer): State<Viewer>, Path((number, level, column, row)): Path<(usize, u32, u32, u32)>) -> Response {
    let place = Place { level, column, row };
    let jpeg = |tile: Bytes| ([(header::CONTENT_TYPE, JPEG), (header::CACHE_CONTROL, KEPT)], tile).into_response();
    if let Some(tile) = viewer.pool.kept(number, place) {
        return jpeg(tile);
    }
    if viewer.catalogue.slides.get(number).is_none_or(|shown| shown.file.is_none()) {
        return nothing();
    }
    let inner = viewer.clone();
    let worked = viewer.pool.work(move |wanted| {
        let Some(file) = &inner.catalogue.slides[number].file else { return Ok(None) };
        anyhow::ensure!(wanted.still(), crate::slides::deepzoom::NotWanted);
        let opened = inner.pool.slide(number, file)?;
        if !opened.pyramid.has(place) {
            return Ok(None);
        }
        inner.pool.tile(&opened, number, place, wanted).map(Some)
    });
    match worked.await {
        Err(Busy) => busy(),
        Ok(Err(error)) => unreadable(&viewer, &error),
        Ok(Ok(None)) => nothing(),
        Ok(Ok(Some(tile))) => jpeg(tile),
    }
}

async fn map(State(viewer): State<Viewer>, Path((number, run)): Path<(usize, usize)>) -> Response {
    with_run(&viewer, number, run, |run, id| Ok((NUMBERS, layers::map(run, id)?.into()))).await
}

async fn grid(State(viewer): State<Viewer>, Path((number, run)): Path<(usize, usize)>) -> Response {
    with_run(&viewer, number, run, |run, id| Ok((NUMBERS, layers::grid(run, id)?.into()))).await
}

async fn tissue(State(viewer): State<Viewer>, Path((number, run)): Path<(usize, usize)>) -> Response {
    with_run(&viewer, number, run, |run, id| Ok(text(&layers::tissue(run, id)?))).await
}

async fn annotations(State(viewer): State<Viewer>, Path(number): Path<usize>) -> Response {
    with_slide(&viewer, number, |viewer, shown| Ok(text(&layers::drawn(&viewer.catalogue, &shown.id)?))).await
}

/// A body and what kind it is of.
type Answer = (&'static str, Bytes);

fn text(value: &Value) -> Answer {
    (JSON, value.to_string().into())
}

/// Answers of a slide, on a thread that may read files.
async fn with_slide(
    viewer: &Viewer,
    number: usize,
    job: impl FnOnce(&Viewer, &Shown) -> anyhow::Result<Answer> + Send + 'static,
) -> Response {
    if number >= viewer.catalogue.slides.len() {
        return nothing();
    }
    let inner = viewer.clone();
    match viewer.pool.work(move |_| job(&inner, &inner.catalogue.slides[number])).await {
        Err(Busy) => busy(),
        Ok(Err(error)) => unreadable(viewer, &error),
        Ok(Ok((kind, body))) => ([(header::CONTENT_TYPE, kind)], body).into_response(),
    }
}

async fn with_run(
    viewer: &Viewer,
    number: usize,
    run: usize,
    job: impl FnOnce(&Found, &str) -> anyhow::Result<Answer> + Send + 'static,
) -> Response {
    if run >= viewer.catalogue.runs.len() {
        return nothing();
    }
    with_slide(viewer, number, move |viewer, shown| job(&viewer.catalogue.runs[run], &shown.id)).await
}

/// There is no such thing.
fn nothing() -> Response {
    Refusal(StatusCode::NOT_FOUND, "There is no such thing here.").into_response()
}

fn busy() -> Response {
    let refusal = Refusal(StatusCode::SERVICE_UNAVAILABLE, "Too many requests wait already; ask again in a second.");
    ([(header::RETRY_AFTER, "1")], refusal).into_response()
}

/// It is there and cannot be read: the reason, for the page to show in its place.
fn unreadable(viewer: &Viewer, error: &anyhow::Error) -> Response {
    let reason = format!("{}\n", viewer.catalogue.plain(error));
    (StatusCode::UNPROCESSABLE_ENTITY, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], reason).into_response()
}
