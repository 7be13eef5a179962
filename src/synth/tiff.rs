//! A pyramidal TIFF of JPEG tiles, as scanners and converters write them: enough of the container for OpenSlide's
//! generic reader, with the pixel size in the resolution tags and unscanned tiles left empty.
//!
//! TIFF 6.0 (Adobe 1992) with JPEG tiles as in Technical Note 2: each tile is a whole JPEG stream, YCbCr without subsampling.

use anyhow::Result;
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};

const TILE_PX: u32 = 256;
const JPEG_QUALITY: u8 = 75;
/// Levels are halved until the longer side is at most this.
const COARSEST_PX: u32 = 600;
const BACKGROUND: Rgb<u8> = Rgb([255, 255, 255]);

const SHORT: u16 = 3;
const LONG: u16 = 4;
const RATIONAL: u16 = 5;

/// One entry of a directory; values wider than four bytes are written beside it.
struct Entry {
    tag: u16,
    kind: u16,
    count: u32,
    bytes: Vec<u8>,
}

impl Entry {
    fn short(tag: u16, values: &[u16]) -> Self {
        Self { tag, kind: SHORT, count: values.len() as u32, bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect() }
    }

    fn long(tag: u16, values: &[u32]) -> Self {
        Self { tag, kind: LONG, count: values.len() as u32, bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect() }
    }

    fn rational(tag: u16, numerator: u32, denominator: u32) -> Self {
        let bytes = [numerator.to_le_bytes(), denominator.to_le_bytes()].concat();
        Self { tag, kind: RATIONAL, count: 1, bytes }
    }
}

/// The picture as a pyramid. `is_scanned(x, y, side)` tells whether a square of level-0 pixels was scanned; tiles outside
/// are left empty, and a reader shows the background there.
///
/// # Errors
/// The JPEG encoder's own.
pub(super) fn pyramid(picture: &RgbImage, mpp: f64, is_scanned: &dyn Fn(u32, u32, u32) -> bool) -> Result<Vec<u8>> {
    let mut file = b"II*\0\0\0\0\0".to_vec();
    let mut link = 4; // where the offset of the next directory is to be written
    let mut level = picture.clone();
    let mut downsample = 1;
    loop {
        let (offsets, lengths) = write_tiles(&mut file, &level, &|x, y| is_scanned(x * downsample, y * downsample, TILE_PX * downsample))?;
        let entries = entries(&level, downsample, mpp, &offsets, &lengths);
        link = write_directory(&mut file, link, &entries);
        if level.width().max(level.height()) <= COARSEST_PX {
            return Ok(file);
        }
        level = halve(&level);
        downsample *= 2;
    }
}

fn write_tiles(file: &mut Vec<u8>, level: &RgbImage, is_scanned: &dyn Fn(u32, u32) -> bool) -> Result<(Vec<u32>, Vec<u32>)> {
    let (mut offsets, mut lengths) = (Vec::new(), Vec::new());
    for top in (0..level.height()).step_by(TILE_PX as usize) {
        for left in (0..level.width()).step_by(TILE_PX as usize) {
            if !is_scanned(left, top) {
                offsets.push(0);
                lengths.push(0);
                continue;
            }
            let tile = RgbImage::from_fn(TILE_PX, TILE_PX, |x, y| *level.get_pixel_checked(left + x, top + y).unwrap_or(&BACKGROUND));
            let start = file.len();
            JpegEncoder::new_with_quality(&mut *file, JPEG_QUALITY).encode_image(&tile)?;
            offsets.push(start as u32);
            lengths.push((file.len() - start) as u32);
            align(file);
        }
    }
    Ok((offsets, lengths))
}

/// In rising order of tags, as the format demands.
fn entries(level: &RgbImage, downsample: u32, mpp: f64, offsets: &[u32], lengths: &[u32]) -> Vec<Entry> {
    const PER_CENTIMETRE: u32 = 1000; // denominator of the resolution
    let pixels_per_centimetre = (10_000.0 / (mpp * f64::from(downsample)) * f64::from(PER_CENTIMETRE)).round() as u32;
    vec![
        Entry::long(254, &[u32::from(downsample > 1)]), // NewSubfileType: 1, a reduced version of another
        Entry::long(256, &[level.width()]),
        Entry::long(257, &[level.height()]),
        Entry::short(258, &[8, 8, 8]),                               // BitsPerSample
        Entry::short(259, &[7]),                                     // Compression: JPEG
        Entry::short(262, &[6]),                                     // PhotometricInterpretation: YCbCr
        Entry::short(277, &[3]),                                     // SamplesPerPixel
        Entry::rational(282, pixels_per_centimetre, PER_CENTIMETRE), // XResolution
        Entry::rational(283, pixels_per_centimetre, PER_CENTIMETRE), // YResolution
        Entry::short(284, &[1]),                                     // PlanarConfiguration: interleaved
        Entry::short(296, &[3]),                                     // ResolutionUnit: centimetre
        Entry::long(322, &[TILE_PX]),
        Entry::long(323, &[TILE_PX]),
        Entry::long(324, offsets),
        Entry::long(325, lengths),
        Entry::short(530, &[1, 1]), // YCbCrSubSampling
    ]
}

/// Appends a directory, makes `link` point to it, and returns where its own link to the next one is.
fn write_directory(file: &mut Vec<u8>, link: usize, entries: &[Entry]) -> usize {
    let mut directory = (entries.len() as u16).to_le_bytes().to_vec();
    for entry in entries {
        directory.extend(entry.tag.to_le_bytes());
        directory.extend(entry.kind.to_le_bytes());
        directory.extend(entry.count.to_le_bytes());
        let mut value = [0; 4];
        if entry.bytes.len() <= 4 {
            value[..entry.bytes.len()].copy_from_slice(&entry.bytes);
        } else {
            value = (file.len() as u32).to_le_bytes();
            file.extend(&entry.bytes);
            align(file);
        }
        directory.extend(value);
    }
    let start = file.len();
    file[link..link + 4].copy_from_slice(&(start as u32).to_le_bytes());
    file.extend(directory);
    let next = file.len();
    file.extend([0; 4]);
    next
}

/// Offsets are even in TIFF.
fn align(file: &mut Vec<u8>) {
    if file.len() % 2 == 1 {
        file.push(0);
    }
}

/// Means of 2×2 pixels; an odd last row or column is dropped, as scanners do.
fn halve(image: &RgbImage) -> RgbImage {
    RgbImage::from_fn(image.width() / 2, image.height() / 2, |x, y| {
        let four = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(dx, dy)| image.get_pixel(2 * x + dx, 2 * y + dy).0);
        Rgb([0, 1, 2].map(|channel| ((four.iter().map(|pixel| u16::from(pixel[channel])).sum::<u16>() + 2) / 4) as u8))
    })
}
