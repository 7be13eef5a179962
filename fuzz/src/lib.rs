//! What each target does with its bytes. A parser may refuse anything; it may not panic, hang, or take memory without bound.

#[allow(dead_code, unused_imports, unreachable_pub)] // what only the program asks of it
mod ground;
mod jpeg_tiles;
#[allow(dead_code, unused_imports, unreachable_pub)] // what only the program asks of it
mod store;
#[path = "../../src/slides/tiff/mod.rs"]
#[allow(dead_code, unused_imports)] // what only the program asks of it
mod tiff;

use jpeg_tiles::stream;

/// Every directory of a TIFF, those below it, and every array that the reader would ask for.
pub fn tiff(bytes: &[u8]) {
    let Ok(directories) = tiff::directories(bytes) else { return };
    for directory in &directories {
        picture(bytes, directory);
        for below in tiff::below(bytes, directory).unwrap_or_default() {
            picture(bytes, &below);
        }
    }
}

fn picture(bytes: &[u8], directory: &tiff::Directory) {
    let grid = directory.grid(bytes);
    if let Ok(stored) = directory.jpeg_tiles(bytes) {
        assert_eq!(grid.ok().flatten(), Some(stored.grid));
        assert_eq!(stored.tiles.len() as u64, u64::from(stored.grid.columns()) * u64::from(stored.grid.rows()));
    }
}

/// Shared tables and a tile's stream, the tables' length in the first two bytes, made one stream.
pub fn jpeg_tables(bytes: &[u8]) {
    let [high, low, rest @ ..] = bytes else { return };
    let Some((stored, tile)) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low]))) else { return };
    let Ok(tables) = stream::tables(stored) else { return };
    assert!(tables.len() <= stored.len());
    let mut whole = Vec::new();
    for colour in [tiff::Colour::Rgb, tiff::Colour::YCbCr] {
        if stream::whole(&tables, colour, (64, 64), tile, &mut whole).is_ok() {
            assert!(whole.starts_with(&[0xFF, 0xD8, 0xFF, 0xEE]) && whole.len() <= tables.len() + tile.len() + 18);
        }
    }
}

/// Annotations in ASAP's XML: only bytes that begin as it does.
pub fn asap_xml(bytes: &[u8]) {
    if bytes.first() == Some(&b'<') {
        let _ = store::annotations::parse(bytes);
    }
}

/// Annotations in GeoJSON: only bytes that begin as it does.
pub fn geojson(bytes: &[u8]) {
    if matches!(bytes.first(), Some(b'{' | b'[')) {
        let _ = store::annotations::parse(bytes);
    }
}

/// A pickle's instructions.
pub fn pickle(bytes: &[u8]) {
    store::read_pickle(bytes);
}

/// A PyTorch checkpoint in either layout.
pub fn checkpoint(bytes: &[u8]) {
    store::read_checkpoint(bytes);
}
