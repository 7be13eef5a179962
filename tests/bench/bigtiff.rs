//! A slide of any size in a small file: a BigTIFF whose tiles point at a few shared JPEG streams, with their tables apart.

use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};

const TILE_PX: u32 = 256;
/// Every how many-th tile along the diagonal was never scanned.
const EMPTY_EVERY: u32 = 7;
/// Darker and lighter tissue, by tile.
const COLOURS: [[u8; 3]; 3] = [[200, 120, 160], [150, 80, 140], [220, 190, 210]];

const SHORT: u16 = 3;
const LONG: u16 = 4;
const RATIONAL: u16 = 5;
const UNDEFINED: u16 = 7;
const ASCII: u16 = 2;
const LONG8: u16 = 16;

/// What the tiles show.
pub(crate) struct Picture {
    width: u32,
    height: u32,
    /// One stream a kind of tile.
    streams: Vec<Vec<u8>>,
}

/// Where the levels stand, each named by its downsample (1 first).
pub(crate) enum Levels {
    /// One directory after the other.
    Chained(Vec<u32>),
    /// Those after the first below it, as OME-TIFF has them.
    Below(Vec<u32>),
}

impl Picture {
    /// Tiles of flat colour.
    pub(crate) fn checkered(width: u32, height: u32) -> Self {
        let flat = |&colour: &[u8; 3]| encode(&RgbImage::from_pixel(TILE_PX, TILE_PX, Rgb(colour)));
        Self { width, height, streams: COLOURS.iter().map(flat).collect() }
    }

    /// Tiles that are all cut from `image`.
    pub(crate) fn repeated(width: u32, height: u32, image: &RgbImage) -> Self {
        let cut = |x: u32, y: u32| encode(&image::imageops::crop_imm(image, x * TILE_PX, y * TILE_PX, TILE_PX, TILE_PX).to_image());
        let (columns, rows) = (image.width() / TILE_PX, image.height() / TILE_PX);
        Self { width, height, streams: (0..rows).flat_map(|y| (0..columns).map(move |x| (x, y))).map(|(x, y)| cut(x, y)).collect() }
    }

    /// What kind of tile stands in a column and row; `None` where nothing was scanned.
    fn kind(&self, column: u32, row: u32) -> Option<usize> {
        ((column + row) % EMPTY_EVERY != EMPTY_EVERY - 1).then(|| (3 * column + 5 * row) as usize % self.streams.len())
    }

    /// The colour of a pixel of level 0 of a checkered picture.
    pub(crate) fn colour(&self, x: u32, y: u32) -> [u8; 3] {
        self.kind(x / TILE_PX, y / TILE_PX).map_or([255; 3], |kind| COLOURS[kind])
    }
}

/// A whole JPEG stream; all of one quality share their tables.
fn encode(image: &RgbImage) -> Vec<u8> {
    let mut stream = Vec::new();
    JpegEncoder::new_with_quality(&mut stream, 80).encode_image(image).expect("memory takes any stream");
    stream
}

/// A stream's tables (quantisation, Huffman) as a stream of their own, and the stream without them.
fn part(stream: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut tables, mut rest, mut at) = (vec![0xFF, 0xD8], vec![0xFF, 0xD8], 2);
    while stream[at + 1] != 0xDA {
        let end = at + 2 + usize::from(u16::from_be_bytes([stream[at + 2], stream[at + 3]]));
        let to = if matches!(stream[at + 1], 0xDB | 0xC4) { &mut tables } else { &mut rest };
        to.extend(&stream[at..end]);
        at = end;
    }
    rest.extend(&stream[at..]);
    tables.extend([0xFF, 0xD9]);
    (tables, rest)
}

/// The file: 0.5 µm/px in the resolution tags, or what `description` says.
pub(crate) fn bigtiff(picture: &Picture, levels: &Levels, description: Option<&str>) -> Vec<u8> {
    let mut file = b"II\x2B\0\x08\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    let (tables, streams): (Vec<_>, Vec<_>) = picture.streams.iter().map(|stream| part(stream)).unzip();
    let places: Vec<(u64, u64)> = streams
        .iter()
        .map(|stream| {
            file.extend(stream);
            ((file.len() - stream.len()) as u64, stream.len() as u64)
        })
        .collect();

    let (downsamples, below) = match levels {
        Levels::Chained(downsamples) => (downsamples, false),
        Levels::Below(downsamples) => (downsamples, true),
    };
    let mut written = Vec::new();
    let mut links = Vec::new();
    // The first directory comes last, when it is known where those below it are.
    for &downsample in downsamples.iter().rev() {
        let (width, height) = (picture.width / downsample, picture.height / downsample);
        let tiles = (0..height.div_ceil(TILE_PX)).flat_map(|row| (0..width.div_ceil(TILE_PX)).map(move |column| (column, row)));
        let (offsets, lengths): (Vec<u64>, Vec<u64>) =
            tiles.map(|(column, row)| picture.kind(column, row).map_or((0, 0), |kind| places[kind])).unzip();
        let per_centimetre = [20_000 / downsample, 1].map(u32::to_le_bytes).concat();
        let mut entries: Vec<(u16, u16, Vec<u8>)> = vec![
            (254, LONG, u32::from(downsample > 1).to_le_bytes().to_vec()),
            (256, LONG, width.to_le_bytes().to_vec()),
            (257, LONG, height.to_le_bytes().to_vec()),
            (258, SHORT, shorts(&[8, 8, 8])),
            (259, SHORT, shorts(&[7])),
            (262, SHORT, shorts(&[6])),
            (277, SHORT, shorts(&[3])),
            (284, SHORT, shorts(&[1])),
            (322, SHORT, shorts(&[TILE_PX as u16])),
            (323, SHORT, shorts(&[TILE_PX as u16])),
            (324, LONG8, offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect()),
            (325, LONG, lengths.iter().flat_map(|&length| (length as u32).to_le_bytes()).collect()),
            (347, UNDEFINED, tables[0].clone()),
            (530, SHORT, shorts(&[1, 1])),
        ];
        match description {
            Some(text) if downsample == 1 => entries.push((270, ASCII, [text.as_bytes(), &[0]].concat())),
            Some(_) => {}
            None => entries.extend([(282, RATIONAL, per_centimetre.clone()), (283, RATIONAL, per_centimetre), (296, SHORT, shorts(&[3]))]),
        }
        if below && downsample == 1 {
            entries.push((330, LONG8, written.iter().rev().flat_map(|offset: &u64| offset.to_le_bytes()).collect()));
        }
        entries.sort();
        let (start, link) = directory(&mut file, &entries);
        written.push(start);
        links.push(link);
    }
    written.reverse();
    links.reverse();
    file[8..16].copy_from_slice(&written[0].to_le_bytes());
    if !below {
        for (link, next) in links.iter().zip(&written[1..]) {
            file[*link..link + 8].copy_from_slice(&next.to_le_bytes());
        }
    }
    file
}

fn shorts(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Appends a directory; where it is, and where its link to the next one is.
fn directory(file: &mut Vec<u8>, entries: &[(u16, u16, Vec<u8>)]) -> (u64, usize) {
    let mut directory = (entries.len() as u64).to_le_bytes().to_vec();
    for (tag, kind, bytes) in entries {
        let size = match *kind {
            SHORT => 2,
            LONG => 4,
            RATIONAL | LONG8 => 8,
            _ => 1,
        };
        directory.extend(tag.to_le_bytes());
        directory.extend(kind.to_le_bytes());
        directory.extend(((bytes.len() / size) as u64).to_le_bytes());
        let mut value = bytes.clone();
        if value.len() > 8 {
            value = (file.len() as u64).to_le_bytes().to_vec();
            file.extend(bytes);
            file.resize(file.len().next_multiple_of(8), 0);
        }
        value.resize(8, 0);
        directory.extend(value);
    }
    let start = file.len();
    file.extend(directory);
    file.extend([0; 8]);
    (start as u64, file.len() - 8)
}
