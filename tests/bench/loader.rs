//! Family `loader`: JPEG files to training batches (a random part at 176 px, mirrored, normalised), beside torchvision on Pillow
//! (`reference/loader.py`), one thread each.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use image::{Rgb, RgbImage};
use serde_json::Value;
use tch::Device;
use wsi::datasets::augment::AugmentationSettings;
use wsi::datasets::cifar::{Cifar, Set};
use wsi::datasets::image_folder::{ImageFolder, ImageFolderSettings};
use wsi::datasets::{Augment, Dataset};
use wsi::slides::jpeg;

use crate::median;
use crate::peer::Peer;

const BATCH: usize = 64;
/// Turns of each side, taken alternately.
const TURNS: usize = 5;
/// Images of a turn.
const IMAGES: usize = 512;
/// Made-up photographs: how many, their size as most of ImageNet's, their quality.
const MADE_UP: usize = 64;
const SIZE: (u32, u32) = (500, 375);
const QUALITY: u8 = 90;

/// All rows of the family; those beside torchvision only where `./run bench` installed it.
pub(super) fn rows() -> Result<Vec<Value>> {
    let Some(packages) = std::env::var_os("WSI_BENCH_LOADER") else {
        println!("loader: skipped, there is no torchvision to compare with; start it with ./run bench loader");
        return Ok(Vec::new());
    };
    let scratch = tempfile::tempdir()?;
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let mut rows = Vec::new();
    for (id, folder, what) in folders(scratch.path())? {
        let data = ImageFolder::read(&folder, &ImageFolderSettings::default(), &AugmentationSettings::default())?;
        let mut peer = Peer::start(&packages, "loader.py", &[folder.display().to_string()])?;
        let wanted = IMAGES.div_ceil(BATCH) * BATCH;
        let (mut ours, mut theirs, mut size) = (Vec::new(), Vec::new(), String::new());
        for turn in 0..=TURNS {
            let rate = one.install(|| rate(&data, Some(turn + 1), wanted))?;
            let answer = peer.ask(&format!("{BATCH} {wanted}"))?;
            let (seconds, images) = answer.split_once(' ').unwrap_or((&answer, ""));
            // The first turn warms up both.
            if turn > 0 {
                ours.push(rate);
                theirs.push(wanted as f64 / seconds.parse::<f64>()?);
            }
            images.clone_into(&mut size);
        }
        let (ours, theirs, limit) = (median(ours), median(theirs), shrunk(&folder)?);
        let note = format!(
            "{what}, {size}; files to batches of {BATCH}, one thread each, against torchvision 0.26.0 on Pillow 13.0.0 (RandomResizedCrop, flip, ToTensor, Normalize); median of {TURNS} alternating turns of {wanted} images; limit: whole pictures at 1/8 by libjpeg-turbo, which is little but entropy decoding, {limit:.0} images/s"
        );
        let mut row = super::row(id, ours, theirs, "images/s", &note);
        row["limit_ratio"] = (ours / limit).into();
        rows.push(row);
    }
    rows.push(load()?);
    rows.extend(cifar()?);
    Ok(rows)
}

/// Photographs as large as ImageNet's, real or made up; and the shared ones of 224 px, where they are.
fn folders(scratch: &Path) -> Result<Vec<(&'static str, PathBuf, &'static str)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = std::env::var_os("WSI_TEST_DATA").map_or_else(|| root.join("../shared/data"), PathBuf::from).join("imagenet");
    let full = data.join("full-resolution");
    let class = scratch.join("train/a");
    std::fs::create_dir_all(&class)?;
    let mut folders = Vec::new();
    if full.is_dir() {
        // Most of these few are grey, which few of ImageNet are, and which cost less.
        for file in files(&full)?.into_iter().filter(|file| is_coloured(file)) {
            std::fs::copy(&file, class.join(file.file_name().context("a file's name")?))?;
        }
        folders.push(("train.loader.rrc176", scratch.to_owned(), "coloured photographs of ImageNet as published"));
    } else {
        for index in 0..MADE_UP {
            std::fs::write(class.join(format!("{index}.jpg")), jpeg::encode(&made_up(index as u32), QUALITY)?)?;
        }
        folders.push(("train.loader.rrc176", scratch.to_owned(), "made-up photographs"));
    }
    if data.join("train").is_dir() {
        folders.push(("train.loader.rrc176.small", data.join("train"), "photographs of ImageNet made smaller"));
    }
    Ok(folders)
}

/// The files in the folders of a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let inside = |folder: &Path| std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>();
    let mut found = Vec::new();
    for class in inside(folder)? {
        found.extend(inside(&class)?);
    }
    found.sort();
    Ok(found)
}

fn is_coloured(file: &Path) -> bool {
    image::open(file).is_ok_and(|image| image.color().has_color())
}

/// Smooth shades with grain, which takes as many bytes as a photograph.
fn made_up(index: u32) -> RgbImage {
    let mut state = index.wrapping_mul(747_796_405).wrapping_add(1);
    RgbImage::from_fn(SIZE.0, SIZE.1, |x, y| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let grain = (state >> 27) as f32;
        let wave = |along: u32, period: f32| 90.0 * (along as f32 / period + index as f32).sin() + 110.0;
        Rgb([wave(x, 40.0) + grain, wave(y, 33.0) + grain, wave(x + y, 57.0) + grain].map(|value| value.clamp(0.0, 255.0) as u8))
    })
}

/// Images a second, changed as in `epoch`, or as they are.
fn rate(data: &dyn Dataset, epoch: Option<usize>, images: usize) -> Result<f64> {
    let count = data.ids().len();
    let started = Instant::now();
    for first in (0..images).step_by(BATCH) {
        let rows: Vec<usize> = (first..first + BATCH).map(|image| image % count).collect();
        data.batch(&rows, epoch.map(|epoch| Augment { seed: 0, epoch, views: 1 }), Device::Cpu)?;
    }
    Ok(images as f64 / started.elapsed().as_secs_f64())
}

/// Whole pictures a second at an eighth of their size, from memory: nearly all of it is reading their bits, of which a part of a picture needs
/// those above its lower edge.
fn shrunk(folder: &Path) -> Result<f64> {
    let inside = if folder.join("train").is_dir() { folder.join("train") } else { folder.to_owned() };
    let pictures = files(&inside)?.iter().map(|file| Ok(std::fs::read(file)?)).collect::<Result<Vec<_>>>()?;
    let mut rates = Vec::new();
    for _ in 0..TURNS {
        let started = Instant::now();
        for bytes in pictures.iter().cycle().take(IMAGES) {
            jpeg::Stored::open(bytes)?.context("a JPEG")?.decode(8)?;
        }
        rates.push(IMAGES as f64 / started.elapsed().as_secs_f64());
    }
    Ok(median(rates))
}

/// A full-size CIFAR-100 in the binary layout, from the page cache: the folder `WSI_BENCH_CIFAR`, or one made up.
fn load() -> Result<Value> {
    let scratch = tempfile::tempdir()?;
    let given = std::env::var_os("WSI_BENCH_CIFAR").map(PathBuf::from);
    let folder = given.unwrap_or_else(|| scratch.path().to_owned());
    if folder == scratch.path() {
        for (part, count) in [("train.bin", 50_000), ("test.bin", 10_000)] {
            std::fs::write(folder.join(part), vec![0; count * 3074])?;
        }
        std::fs::write(folder.join("fine_label_names.txt"), "a\n")?;
    }
    let (mut ours, mut theirs, mut images) = (Vec::new(), Vec::new(), 0);
    for _ in 0..TURNS {
        let started = Instant::now();
        images = Cifar::read(&folder, Set::Cifar100, &AugmentationSettings::default())?.ids().len();
        ours.push(started.elapsed().as_secs_f64());
        let started = Instant::now();
        for part in ["train.bin", "test.bin"] {
            std::fs::read(folder.join(part))?;
        }
        theirs.push(started.elapsed().as_secs_f64());
    }
    let (ours, theirs) = (median(ours), median(theirs));
    let note = format!(
        "{images} images of CIFAR-100's binary layout read in {ours:.3} s, against the bytes of the same files alone; median of {TURNS}"
    );
    Ok(super::row("train.loader.cifar100.load", images as f64 / ours, images as f64 / theirs, "images/s", &note))
}

/// CIFAR as it is trained on, on one thread; nothing to compare with.
fn cifar() -> Result<Vec<Value>> {
    const COUNT: usize = 2048;
    let folder = tempfile::tempdir()?;
    let records: Vec<u8> =
        (0..COUNT).flat_map(|image| [0, 0].into_iter().chain((0..3072).map(move |p| (image * 31 + p * 7) as u8))).collect();
    for part in ["train.bin", "test.bin"] {
        std::fs::write(folder.path().join(part), &records)?;
    }
    std::fs::write(folder.path().join("fine_label_names.txt"), "a\n")?;
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let mut rows = Vec::new();
    for name in ["crop-flip-rotate", "supcon"] {
        let augmentation = AugmentationSettings::named(name).unwrap_or_default();
        let data = Cifar::read(folder.path(), Set::Cifar100, &augmentation)?;
        let (mut changed, mut plain) = (Vec::new(), Vec::new());
        for turn in 0..TURNS {
            changed.push(one.install(|| rate(&data, Some(turn + 1), 8 * COUNT))?);
            plain.push(one.install(|| rate(&data, None, 8 * COUNT))?);
        }
        let note = format!("CIFAR in batches of {BATCH} with '{name}' against the same without changes, one thread");
        rows.push(super::row(&format!("train.loader.cifar.{name}"), median(changed), median(plain), "images/s", &note));
    }
    Ok(rows)
}
