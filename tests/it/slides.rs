//! Readers of slides: ours and OpenSlide give the same pixels; what is damaged stays where it is; who reads is said.

use std::path::{Path, PathBuf};

use image::RgbImage;
use image::imageops::{FilterType, resize};
use rand::Rng;
use rayon::prelude::*;
use wsi::ground::reader::Reader;
use wsi::ground::seed;
use wsi::ground::units::{Coord, Mpp, Size};
use wsi::slides::{self, ReaderChoice, Slide};
use wsi::synth::{CohortSettings, cohort, render};

use crate::bigtiff::{Levels, Picture, bigtiff};
use crate::data::test_data;

/// A synthetic slide of JPEG tiles, some of them never scanned.
fn synthetic(folder: &Path) -> PathBuf {
    let path = folder.join("synth.tif");
    std::fs::write(&path, render(&cohort(&CohortSettings::default()).unwrap()[2], 0).unwrap()).unwrap();
    path
}

fn both(path: &Path) -> (Box<dyn Slide>, Box<dyn Slide>) {
    let ours = slides::open(path).unwrap();
    assert_eq!(ours.geometry().reader, Reader::JpegTiles, "{}: {:?}", path.display(), ours.why_openslide());
    (ours, slides::open_with(path, ReaderChoice::OpenSlide).unwrap())
}

/// Pixels that differ, and by how much at most.
fn difference(one: &RgbImage, other: &RgbImage) -> (usize, u8) {
    assert_eq!(one.dimensions(), other.dimensions());
    let apart = |(a, b): (&u8, &u8)| a.abs_diff(*b);
    let each = || one.as_raw().iter().zip(other.as_raw()).map(apart);
    (each().filter(|&apart| apart > 0).count(), each().max().unwrap_or(0))
}

/// The corners of a level and random places, some windows reaching past its end: pixels of the level, and a size.
fn places(level: Size, name: &str) -> Vec<(u32, u32, Size)> {
    let mut random = seed::stream(0, name);
    let Size { width, height } = level;
    let mut places =
        vec![(0, 0), (width.saturating_sub(50), 0), (0, height.saturating_sub(50)), (width.saturating_sub(50), height.saturating_sub(50))];
    places.extend((0..12).map(|_| (random.random_range(0..width), random.random_range(0..height))));
    places.into_iter().map(|(x, y)| (x, y, Size { width: random.random_range(1..400), height: random.random_range(1..400) })).collect()
}

/// Values compared, values that differ, largest difference.
fn agreement(path: &Path) -> (usize, usize, u8) {
    let (ours, openslide) = both(path);
    let (a, b) = (ours.geometry(), openslide.geometry());
    assert_eq!((&a.levels, a.mpp, a.bounds, &a.vendor), (&b.levels, b.mpp, b.bounds, &b.vendor), "{}", path.display());
    let (mut compared, mut differ, mut largest) = (0, 0, 0);
    for (number, level) in a.levels.iter().enumerate() {
        assert_eq!(level.downsample.fract(), 0.0, "OpenSlide blends between the pixels of other levels");
        for (x, y, size) in places(level.size, "agreement") {
            let at = Coord { x: (f64::from(x) * level.downsample) as i64, y: (f64::from(y) * level.downsample) as i64 };
            let (count, most) = difference(&ours.read(at, size, number).unwrap(), &openslide.read(at, size, number).unwrap());
            compared += (3 * size.width * size.height) as usize;
            (differ, largest) = (differ + count, largest.max(most));
        }
    }
    (compared, differ, largest)
}

fn report(name: &str, (compared, differ, largest): (usize, usize, u8)) {
    eprintln!("{name}: {compared} values, {differ} differ from OpenSlide's, by {largest} at most");
    assert!(largest <= 1, "{name}");
}

fn lung(data: &Path) -> Vec<PathBuf> {
    let mut slides: Vec<_> = std::fs::read_dir(data.join("lung-mil/slides")).unwrap().map(|entry| entry.unwrap().path()).collect();
    slides.retain(|path| path.extension().is_some_and(|extension| extension == "tif"));
    slides.sort();
    slides
}

#[test]
fn pixels_are_openslides_on_synthetic_slides() {
    let folder = tempfile::tempdir().unwrap();
    report("a synthetic slide with unscanned tiles", agreement(&synthetic(folder.path())));
    let path = folder.path().join("big.tif");
    std::fs::write(&path, bigtiff(&Picture::checkered(3000, 2000), &Levels::Chained(vec![1, 4]), None)).unwrap();
    report("a BigTIFF with shared JPEG tables and empty tiles", agreement(&path));

    // The same streams called RGB: the TIFF's word counts, not the JFIF marker's in each stream.
    let mut bytes = std::fs::read(&path).unwrap();
    let photometric = [6, 1, 3, 0, 1, 0, 0, 0, 0, 0, 0, 0, 6, 0];
    let at: Vec<_> = (0..bytes.len() - 14).filter(|&at| bytes[at..at + 14] == photometric).collect();
    assert_eq!(at.len(), 2, "one a level");
    at.iter().for_each(|at| bytes[at + 12] = 2);
    let red = slides::open(&path).unwrap().read(Coord { x: 0, y: 0 }, Size { width: 1, height: 1 }, 0).unwrap();
    std::fs::write(&path, bytes).unwrap();
    report("a BigTIFF whose colours are RGB", agreement(&path));
    assert_ne!(red, slides::open(&path).unwrap().read(Coord { x: 0, y: 0 }, Size { width: 1, height: 1 }, 0).unwrap());
}

#[test]
fn pixels_are_openslides_on_real_slides() {
    let Some(data) = test_data("pixels_are_openslides_on_real_slides") else { return };
    for name in ["CMU-1-Small-Region.svs", "small.svs"] {
        report(name, agreement(&data.join("slides").join(name)));
    }
    let all: Vec<_> = lung(&data).par_iter().map(|path| agreement(path)).collect();
    assert_eq!(all.len(), 48);
    let sum = all.iter().fold((0, 0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1, one.2.max(sum.2)));
    report("48 lung slides", sum);
}

#[test]
fn scaled_decoding_is_close_to_the_shrunk_whole() {
    let Some(data) = test_data("scaled_decoding_is_close_to_the_shrunk_whole") else { return };
    let mut slides = vec![data.join("slides/CMU-1-Small-Region.svs")];
    slides.extend(lung(&data).into_iter().step_by(12));
    for path in slides {
        let slide = slides::open(&path).unwrap();
        let canvas = slide.geometry().canvas();
        assert_eq!(slide.geometry().decode_scales, [1, 2, 4, 8]);
        for scale in [2, 4, 8] {
            let (mut bicubic, mut mean) = (Apart::default(), Apart::default());
            let mut random = seed::stream(u64::from(scale), "scaled");
            let (side, small) = (128 * scale, Size { width: 128, height: 128 });
            for _ in 0..6 {
                let mut place = |length: u32| i64::from(random.random_range(0..=length.saturating_sub(side)) / scale * scale);
                let at = Coord { x: place(canvas.width), y: place(canvas.height) };
                let scaled = slide.read_scaled(at, small, 0, scale).unwrap();
                let whole = slide.read(at, Size { width: side, height: side }, 0).unwrap();
                bicubic.add(&scaled, &resize(&whole, 128, 128, FilterType::CatmullRom));
                mean.add(&scaled, &means(&whole, scale));
            }
            eprintln!(
                "{} at 1/{scale}: {:.2} grey levels from the bicubic shrink on average ({} at most), {:.2} from plain means ({} at most)",
                path.file_name().unwrap().display(),
                bicubic.average(),
                bicubic.largest,
                mean.average(),
                mean.largest
            );
            assert!(mean.average() < 1.0, "decoding at 1/{scale} is the mean of its pixels but for rounding and cut frequencies");
            assert!(scale == 8 || bicubic.average() < 1.0, "at 1/{scale}");
        }
    }
}

/// How far two pictures are apart, grey levels.
#[derive(Default)]
struct Apart {
    sum: f64,
    count: f64,
    largest: u8,
}

impl Apart {
    fn add(&mut self, one: &RgbImage, other: &RgbImage) {
        for (a, b) in one.as_raw().iter().zip(other.as_raw()) {
            self.sum += f64::from(a.abs_diff(*b));
            self.count += 1.0;
            self.largest = self.largest.max(a.abs_diff(*b));
        }
    }

    fn average(&self) -> f64 {
        self.sum / self.count
    }
}

/// Means of `factor`×`factor` squares.
fn means(image: &RgbImage, factor: u32) -> RgbImage {
    RgbImage::from_fn(image.width() / factor, image.height() / factor, |x, y| {
        let square = (0..factor * factor).map(|i| image.get_pixel(x * factor + i % factor, y * factor + i / factor).0);
        let sum = square.fold([0; 3], |sum, pixel| [0, 1, 2].map(|channel| sum[channel] + u32::from(pixel[channel])));
        image::Rgb(sum.map(|sum| ((sum + factor * factor / 2) / (factor * factor)) as u8))
    })
}

#[test]
fn scaled_decoding_of_flat_colour_is_that_colour_at_the_same_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big.tif");
    let picture = Picture::checkered(3000, 2000);
    std::fs::write(&path, bigtiff(&picture, &Levels::Chained(vec![1]), None)).unwrap();
    let (ours, _) = both(&path);
    for scale in [1, 2, 4, 8] {
        let size = Size { width: 3000 / scale + 5, height: 2000 / scale + 5 };
        let image = ours.read_scaled(Coord { x: 0, y: 0 }, size, 0, scale).unwrap();
        for (x, y, pixel) in image.enumerate_pixels() {
            let inside = x < 3000 / scale && y < 2000 / scale;
            let wanted = if inside { picture.colour(x * scale, y * scale) } else { [255; 3] };
            assert!(pixel.0.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) <= 2), "1/{scale} at {x}, {y}: {pixel:?} for {wanted:?}");
        }
    }
    let refused =
        slides::open_with(&path, ReaderChoice::OpenSlide).unwrap().read_scaled(Coord { x: 0, y: 0 }, Size { width: 1, height: 1 }, 0, 2);
    assert!(refused.unwrap_err().to_string().contains("openslide"));
}

/// All whole squares of level 0, of 250 px, so that most lie on several stored tiles.
fn squares(canvas: Size) -> Vec<Coord> {
    let corners = |length: u32| (0..i64::from(length) - 250).step_by(250);
    corners(canvas.height).flat_map(|y| corners(canvas.width).map(move |x| Coord { x, y })).collect()
}

const SQUARE: Size = Size { width: 250, height: 250 };

#[test]
fn any_number_of_threads_reads_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = synthetic(folder.path());
    let read = |threads: usize| -> Vec<RgbImage> {
        let slide = slides::open(&path).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| squares(slide.geometry().canvas()).par_iter().map(|&at| slide.read(at, SQUARE, 0).unwrap()).collect())
    };
    assert!(read(1) == read(7));
}

/// Where the `n`th JPEG stream with a frame begins, and where its frame header is.
fn stream(file: &[u8], n: usize) -> (usize, usize) {
    let starts: Vec<_> = (0..file.len() - 3).filter(|&at| file[at..at + 3] == [0xFF, 0xD8, 0xFF]).collect();
    let frame = file[starts[n]..].windows(3).position(|bytes| bytes == [0xFF, 0xC0, 0]).unwrap();
    (starts[n], starts[n] + frame)
}

#[test]
fn a_damaged_tile_fails_the_squares_on_it_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let good = synthetic(folder.path());
    let whole = slides::open(&good).unwrap();
    let squares = squares(whole.geometry().canvas());
    let bytes = std::fs::read(&good).unwrap();
    let (start, frame) = stream(&bytes, 9);

    let damaged = |name: &str, harm: &dyn Fn(&mut [u8])| {
        let (path, mut bytes) = (folder.path().join(name), bytes.clone());
        harm(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let another_size = damaged("size.tif", &|bytes| bytes[frame + 6] ^= 1);
    let garbage = damaged("garbage.tif", &|bytes| bytes[start..start + 20].fill(0));
    let cut_short = damaged("short.tif", &|bytes| bytes[frame + 2000..frame + 2002].copy_from_slice(&[0xFF, 0xD9]));
    let cases = [
        (&another_size, ReaderChoice::Auto, "the stored tile is "),
        (&another_size, ReaderChoice::OpenSlide, ""),
        (&garbage, ReaderChoice::Auto, "does not begin as JPEG"),
        (&garbage, ReaderChoice::OpenSlide, ""),
        (&cut_short, ReaderChoice::Auto, "libjpeg-turbo"),
    ];
    for (path, choice, reason) in cases {
        let slide = slides::open_with(path, choice).unwrap();
        // Twice, in the other order: the second errors come after good reads, and the first good reads after errors.
        for backwards in [false, true] {
            let mut order: Vec<usize> = (0..squares.len()).collect();
            if backwards {
                order.reverse();
            }
            let mut failed = Vec::new();
            for number in order {
                match slide.read(squares[number], SQUARE, 0) {
                    Ok(image) => assert!(image == whole.read(squares[number], SQUARE, 0).unwrap(), "{number}"),
                    Err(error) => {
                        let said = format!("{error:#}");
                        let name = path.file_name().unwrap().to_str().unwrap();
                        assert!(
                            said.contains(name) && said.contains(&format!("x={}", squares[number].x)) && said.contains(reason),
                            "{said}"
                        );
                        failed.push(squares[number]);
                    }
                }
            }
            assert!((1..=9).contains(&failed.len()), "{} {choice:?}: {failed:?}", path.display());
            let near = |a: i64, b: i64| (a - b).abs() <= 500;
            assert!(failed.iter().all(|at| near(at.x, failed[0].x) && near(at.y, failed[0].y)), "{failed:?}");
        }
    }
}

#[test]
fn what_is_no_plain_grid_of_jpeg_tiles_is_openslides_with_the_reason() {
    let Some(data) = test_data("what_is_no_plain_grid_of_jpeg_tiles") else { return };
    for (file, reason) in [("boxes.tiff", "not as JPEG"), ("boxes_dcm/boxes_0.dcm", "dicom is not a plain grid")] {
        let path = data.join("slides").join(file);
        let slide = slides::open(&path).unwrap();
        assert_eq!((slide.geometry().reader, slide.geometry().decode_scales.as_slice()), (Reader::OpenSlide, [1].as_slice()));
        assert!(slide.why_openslide().unwrap().contains(reason), "{file}: {:?}", slide.why_openslide());
        let refused = slides::open_with(&path, ReaderChoice::JpegTiles).err().unwrap().to_string();
        assert!(refused.contains(reason) && refused.contains("--reader"), "{refused}");
    }
    let chosen = slides::open_with(&data.join("slides/CMU-1-Small-Region.svs"), ReaderChoice::OpenSlide).unwrap();
    assert_eq!((chosen.geometry().reader, chosen.why_openslide()), (Reader::OpenSlide, None));
}

#[test]
fn an_ome_tiff_has_its_pyramid_and_its_pixel_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.ome.tif");
    let description = r#"<?xml version="1.0"?><OME><Image><Pixels SizeX="3000" PhysicalSizeX="250" PhysicalSizeXUnit="nm" PhysicalSizeY="0.25"/></Image></OME>"#;
    let picture = Picture::checkered(3000, 2000);
    std::fs::write(&path, bigtiff(&picture, &Levels::Below(vec![1, 4]), Some(description))).unwrap();
    let (ours, openslide) = both(&path);
    assert_eq!(openslide.geometry().levels.len(), 1, "OpenSlide does not look below a directory");
    assert_eq!((ours.geometry().mpp, openslide.geometry().mpp), (Some(Mpp::square(0.25)), Some(Mpp::square(0.25))));
    let levels: Vec<_> = ours.geometry().levels.iter().map(|level| (level.size.width, level.downsample)).collect();
    assert_eq!(levels, [(3000, 1.0), (750, 4.0)]);
    let size = Size { width: 300, height: 300 };
    assert!(ours.read(Coord { x: 512, y: 512 }, size, 0).unwrap() == openslide.read(Coord { x: 512, y: 512 }, size, 0).unwrap());
    let coarse = ours.read(Coord { x: 0, y: 0 }, size, 1).unwrap();
    assert!(coarse.pixels().any(|pixel| pixel.0 != [255; 3]));
}

#[test]
fn stored_tiles_are_handed_on_as_pictures_with_the_same_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let mut paths = vec![synthetic(folder.path())];
    // Of the Aperio slide's pixels the file says RGB, and its tiles' tables stand apart.
    let data = test_data("stored_tiles_are_handed_on");
    paths.extend(
        data.iter().flat_map(|data| ["slides/CMU-1-Small-Region.svs", "lung-mil/slides/lung_001_0.tif"].map(|file| data.join(file))),
    );
    for path in paths {
        let slide = slides::open(&path).unwrap();
        let mut seen = 0;
        for (level, of) in slide.geometry().levels.iter().enumerate() {
            let tile = slide.stored_tile(level).expect("a grid of tiles");
            let whole = (of.size.width / tile.width, of.size.height / tile.height);
            for (column, row) in (0..whole.0).flat_map(|column| (0..whole.1).map(move |row| (column, row))) {
                let Some(jpeg) = slide.stored_jpeg(level, column, row).unwrap() else { continue };
                let at = |step: u32, side: u32| (f64::from(step * side) * of.downsample).round() as i64;
                let own = slide.read(Coord { x: at(column, tile.width), y: at(row, tile.height) }, tile, level).unwrap();
                let ours = slides::jpeg::Stored::open(&jpeg).unwrap().expect("a JPEG").decode(1).unwrap();
                assert_eq!(ours, own, "{}: level {level}, column {column}, row {row}", path.display());
                // Another decoder, as a browser is one: the colours are what the stream says of itself.
                let other = image::load_from_memory(&jpeg).unwrap().to_rgb8();
                let (_, most) = difference(&other, &own);
                assert!(most < 16, "{}: level {level}, column {column}, row {row}: {most}", path.display());
                seen += 1;
            }
        }
        assert!(seen > 20, "{}: {seen} tiles", path.display());
        assert!(slide.stored_jpeg(0, 1_000_000, 0).is_err() && slide.stored_jpeg(99, 0, 0).is_err());
        let openslide = slides::open_with(&path, ReaderChoice::OpenSlide).unwrap();
        assert_eq!((openslide.stored_tile(0), openslide.stored_jpeg(0, 0, 0).unwrap()), (slide.stored_tile(0), None));
    }
}
