//! The page's own files, which are part of the program.

use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::guard::Refusal;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// Address, kind, text.
const FILES: [(&str, &str, &str); 15] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/style.css", CSS, include_str!("page/style.css")),
    ("/icon.svg", PICTURE, include_str!("page/icon.svg")),
    ("/main.js", SCRIPT, include_str!("page/main.js")),
    ("/list.js", SCRIPT, include_str!("page/list.js")),
    ("/slide.js", SCRIPT, include_str!("page/slide.js")),
    ("/overlay.js", SCRIPT, include_str!("page/overlay.js")),
    ("/data.js", SCRIPT, include_str!("page/data.js")),
    ("/state.js", SCRIPT, include_str!("page/state.js")),
    ("/scene.js", SCRIPT, include_str!("page/scene.js")),
    ("/values.js", SCRIPT, include_str!("page/values.js")),
    ("/tiles.js", SCRIPT, include_str!("page/tiles.js")),
    ("/panel.js", SCRIPT, include_str!("page/panel.js")),
    ("/layers.js", SCRIPT, include_str!("page/layers.js")),
    ("/keys.js", SCRIPT, include_str!("page/keys.js")),
];

/// OpenSeadragon as the build packed it.
const OPENSEADRAGON: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/openseadragon.js.gz"));

pub(super) async fn file(uri: Uri) -> Response {
    let path = uri.path();
    if path == "/openseadragon.js" {
        return ([(header::CONTENT_TYPE, SCRIPT), (header::CONTENT_ENCODING, "gzip")], OPENSEADRAGON).into_response();
    }
    match FILES.iter().find(|(address, ..)| *address == path) {
        Some((_, kind, text)) => ([(header::CONTENT_TYPE, *kind)], *text).into_response(),
        None => Refusal(StatusCode::NOT_FOUND, "There is no such page.").into_response(),
    }
}
