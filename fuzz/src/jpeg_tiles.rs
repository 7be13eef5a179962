//! The reader's file that makes one stream of a tile, where that file expects to stand.

#[path = "../../src/slides/jpeg_tiles/stream.rs"]
pub(crate) mod stream;
