//! A bag: a slide's feature vectors and where each was taken, `bags/<id>.h5`.
//!
//! `features` f16 or f32 `[N,D]` and `coords` int64 `[N,2]` carry TRIDENT's names and attributes, so that its readers open a bag
//! as it is; the whole truth (encoder, weights, true micrometres, digests) is one root attribute `wsi` (JSON). Bags of
//! CLAM and TRIDENT are read too: f16 or f32, any integer coordinates, no `wsi`.
//!
//! Where this program read the tiles, `tile_status` u8 `[M]` says of each tile of the plan what became of it (`TileStatus`), and
//! `quality` f16 `[N,5]` what the N tiles with features look like, so that filters need no pixels.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use half::f16;
use hdf5::types::{FloatSize, TypeDescriptor, VarLenUnicode};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::values::Values;
use super::{coords, digest, files, locking};
use crate::ground::fingerprint::Fingerprint;
use crate::ground::plan::{Plan, Window};
use crate::ground::tile_filter::TileFilter;
use crate::ground::tile_status::{StatusCounts, TileStatus};
use crate::ground::units::{Coord, Mpp, Size};

const SCHEMA: &str = "wsi-bag-1";

/// Numbers that one dataset of a bag may hold: 64 GiB of half precision. A damaged file may claim any number, and be believed.
pub(super) const MOST_NUMBERS: u64 = 1 << 35;

/// Feature vectors, one row a tile.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// `[N,D]`, row by row.
    pub values: Vec<f16>,
    /// N
    pub tiles: usize,
    /// D
    pub width: usize,
}

/// What made the features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The encoder's name.
    pub encoder: String,
    /// sha256 of the weight file, or `random, seed N`.
    pub weights: String,
    /// The numbers that the network computed in and where, such as `float on cpu`; `None` where nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computed: Option<String>,
}

/// What reading a plan's tiles showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Of each tile of the plan, in its order.
    pub status: Vec<TileStatus>,
    /// Of each tile with pixels: the columns [`QUALITY`].
    pub quality: Vec<[f16; QUALITY.len()]>,
}

const STATUS: &str = "tile_status";

/// Columns of the dataset `quality`.
pub const QUALITY: [&str; 5] = ["tissue", "blur", "pen", "whiteness", "darkness"];

/// The root attribute `wsi`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    schema: String,
    /// Version of the program that wrote the bag.
    pub version: String,
    /// File name of the slide without its last extension.
    pub slide_id: String,
    /// File name inside the slide folder.
    pub slide_file: String,
    /// Fast digest of the slide's bytes.
    pub slide_digest: String,
    /// What made the features.
    #[serde(flatten)]
    pub origin: Origin,
    /// Pixel size of level 0, µm/px.
    pub mpp: Mpp,
    /// Where that pixel size came from: `slide`, `table` or `argument`.
    pub mpp_source: String,
    /// Level, tile side, requested and true pixel size.
    pub window: Window,
    /// Canvas of level 0; `None` in bags of before it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canvas: Option<Size>,
    /// Where the scanned area sits on it, as in the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<(Coord, Size)>,
    /// What the slide looks like from afar, as in the coordinates file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// N
    pub tiles: usize,
    /// D
    pub width: usize,
    /// What became of the plan's tiles; `None` where they were not read by this program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusCounts>,
    /// sha256 of the bag's coordinates; that of the coordinates file where every tile was read.
    pub coords_digest: String,
    /// sha256 of the features' bytes, as half precision.
    pub features_digest: String,
    /// sha256 of everything else: features in single precision as they are stored, then `tile_status` and `quality`; `None` in bags of
    /// before it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest_digest: Option<String>,
}

/// What is wrong with a bag that can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Its writer was stopped between the two, or lost some.
    RowsDiffer {
        /// Feature vectors.
        features: usize,
        /// Coordinates.
        coords: usize,
    },
    /// Somebody wrote into it later.
    Changed,
    /// Some of its features are NaN, infinite or too large.
    NotFinite,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RowsDiffer { features, coords } => {
                write!(
                    f,
                    "it has {features} feature vectors but {coords} coordinates; its extraction was cut off, extract that slide again"
                )
            }
            Self::Changed => write!(f, "its features are not those it was written with"),
            Self::NotFinite => write!(f, "it has features that are no finite half-precision numbers"),
        }
    }
}

impl std::error::Error for Fault {}

/// A bag in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Bag {
    /// Feature vectors.
    pub features: Features,
    /// Top-left corner of each tile, level-0 pixels.
    pub coords: Vec<Coord>,
    /// `None` for a bag that another program wrote.
    pub header: Option<Header>,
}

/// Writes a bag, whole or not at all; the same content gives the same bytes. `features` has a row for each tile of the plan whose
/// status is ok; without `seen`, for every tile.
///
/// # Errors
/// Fewer or more vectors than such tiles; a file that cannot be written.
pub fn write(path: &Path, plan: &Plan, features: &Features, origin: &Origin, seen: Option<&Seen>) -> Result<()> {
    write_numbers(path, plan, Numbers::Half(&features.values), features.width, origin, seen)
}

/// As [`write`], with features of either precision.
///
/// # Errors
/// As [`write`]; a feature that half precision cannot hold, which training could not read.
pub fn write_values(path: &Path, plan: &Plan, values: &Values, width: usize, origin: &Origin, seen: Option<&Seen>) -> Result<()> {
    let numbers = match values {
        Values::Half(values) => Numbers::Half(values),
        Values::Single(values) => Numbers::Single(values),
    };
    write_numbers(path, plan, numbers, width, origin, seen)
}

#[derive(Clone, Copy)]
enum Numbers<'a> {
    Half(&'a [f16]),
    Single(&'a [f32]),
}

fn write_numbers(path: &Path, plan: &Plan, numbers: Numbers, width: usize, origin: &Origin, seen: Option<&Seen>) -> Result<()> {
    let (count, features_digest) = match numbers {
        Numbers::Half(values) => (values.len(), features_digest(values)),
        Numbers::Single(values) => (values.len(), features_digest(&Values::Single(values.to_vec()).to_half()?.0)),
    };
    let with_features = match seen {
        Some(seen) => kept(plan, &seen.status)?,
        None => plan.clone(),
    };
    let tiles = with_features.coords.len();
    let qualities = seen.map_or(tiles, |seen| seen.quality.len());
    ensure!(
        count == tiles * width && qualities == tiles,
        "slide '{}': {count} numbers and {qualities} qualities for {tiles} tiles of {width} features",
        plan.slide_id
    );
    let single = match numbers {
        Numbers::Single(values) => values,
        Numbers::Half(_) => &[],
    };
    let status: Vec<u8> = seen.iter().flat_map(|seen| &seen.status).map(|&status| status as u8).collect();
    let quality = seen.map_or(&[][..], |seen| seen.quality.as_flattened());
    let header = Header {
        schema: SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        slide_id: plan.slide_id.clone(),
        slide_file: plan.slide_file.clone(),
        slide_digest: plan.slide_digest.clone(),
        origin: origin.clone(),
        mpp: plan.mpp,
        mpp_source: plan.mpp_source.clone(),
        window: plan.window.clone(),
        canvas: Some(plan.canvas),
        bounds: plan.bounds,
        fingerprint: plan.fingerprint,
        tiles,
        width,
        status: seen.map(|seen| StatusCounts::of(&seen.status)),
        coords_digest: coords::digest(&with_features),
        features_digest,
        rest_digest: Some(rest_digest(single, &status, quality)),
    };
    let header = text(&serde_json::to_string(&header)?)?;
    files::write_whole(path, |temporary| {
        let file = coords::create(temporary, &header)?;
        // Contiguous: N is known, and rows are read at the disk's speed.
        let dataset = match numbers {
            Numbers::Half(values) => features_dataset(&file, (tiles, width), values)?,
            Numbers::Single(values) => features_dataset(&file, (tiles, width), values)?,
        };
        for (name, value) in [("name", plan.slide_id.as_str()), ("savetodir", "."), ("encoder", &origin.encoder)] {
            dataset.new_attr::<VarLenUnicode>().create(name)?.write_scalar(&text(value)?)?;
        }
        coords::write_coords(&file, &with_features)?;
        if seen.is_some() {
            write_seen(&file, &status, quality)?;
        }
        Ok(file.close()?)
    })
}

fn features_dataset<T: hdf5::H5Type>(file: &hdf5::Group, shape: (usize, usize), values: &[T]) -> Result<hdf5::Dataset> {
    let dataset = file.new_dataset::<T>().shape(shape).obj_track_times(false).create("features")?;
    dataset.write_raw(values)?;
    Ok(dataset)
}

/// The plan of the tiles that were read.
fn kept(plan: &Plan, status: &[TileStatus]) -> Result<Plan> {
    ensure!(status.len() == plan.coords.len(), "slide '{}': {} statuses for {} tiles", plan.slide_id, status.len(), plan.coords.len());
    let ok = |row: usize| status[row] == TileStatus::Ok;
    let (coords, tissue) = (0..status.len()).filter(|&row| ok(row)).map(|row| (plan.coords[row], plan.tissue[row])).unzip();
    Ok(Plan { coords, tissue, ..plan.clone() })
}

fn write_seen(file: &hdf5::File, status: &[u8], quality: &[f16]) -> Result<()> {
    file.new_dataset::<u8>().shape(status.len()).obj_track_times(false).create(STATUS)?.write_raw(status)?;
    let shape = (quality.len() / QUALITY.len(), QUALITY.len());
    let dataset = file.new_dataset::<f16>().shape(shape).obj_track_times(false).create("quality")?;
    dataset.write_raw(quality)?;
    Ok(dataset.new_attr::<VarLenUnicode>().create("columns")?.write_scalar(&text(&QUALITY.join(","))?)?)
}

/// Reads a bag and checks that it is the one that was written.
///
/// # Errors
/// A file that is missing, damaged or no bag, or whose features and coordinates differ in number; names it.
pub fn read(path: &Path) -> Result<Bag> {
    let read = || {
        let file = locking::open(path)?;
        let features = features(&file)?;
        let coords = coordinates(&file)?;
        ensure!(features.tiles == coords.len(), Fault::RowsDiffer { features: features.tiles, coords: coords.len() });
        let header = header(&file)?;
        if let Some(header) = &header {
            ensure!(
                header.tiles == features.tiles
                    && header.width == features.width
                    && header.features_digest == features_digest(&features.values),
                Fault::Changed
            );
        }
        Ok(Bag { features, coords, header })
    };
    read().with_context(|| refusal(path))
}

/// Reads the features alone, of any bag that [`read`] takes; coordinates may be missing.
///
/// # Errors
/// A file that is missing, damaged or no bag; names it.
pub fn read_features(path: &Path) -> Result<Features> {
    locking::open(path).and_then(|file| features(&file)).with_context(|| refusal(path))
}

/// Reads the features of a bag that holds them in single precision; `None` where it does not.
///
/// # Errors
/// As [`read_features`].
pub fn read_single(path: &Path) -> Result<Option<Vec<f32>>> {
    locking::open(path).and_then(|file| single(&file)).with_context(|| refusal(path))
}

fn single(file: &hdf5::File) -> Result<Option<Vec<f32>>> {
    let (dataset, (tiles, width)) = shape(file)?;
    let single = dataset.dtype()?.to_descriptor()? == TypeDescriptor::Float(FloatSize::U4);
    Ok(if single && tiles * width > 0 { Some(dataset.read_raw::<f32>()?) } else { None })
}

/// Reads the features of the tiles that the filter keeps.
///
/// # Errors
/// As [`read_features`]; a bag without quality columns, where the filter asks for them.
pub fn read_kept(path: &Path, tiles: TileFilter) -> Result<Features> {
    let features = read_features(path)?;
    if tiles.is_open() {
        return Ok(features);
    }
    let quality = read_quality(path)?;
    ensure!(quality.len() == features.tiles, "the bag '{}' has {} qualities for {} tiles", path.display(), quality.len(), features.tiles);
    let rows = features.values.chunks_exact(features.width.max(1)).zip(&quality).filter(|(_, quality)| tiles.keeps(**quality));
    let mut values: Vec<f16> = rows.flat_map(|(row, _)| row).copied().collect();
    values.shrink_to_fit(); // what is kept is what was counted
    Ok(Features { tiles: values.len() / features.width.max(1), values, width: features.width })
}

/// Reads a bag, as [`read`], without the tiles that the filter leaves out; the header is that of the whole bag.
///
/// # Errors
/// As [`read`]; a bag without the columns that a filter asks for.
pub fn read_kept_whole(path: &Path, tiles: TileFilter) -> Result<Bag> {
    let mut bag = read(path)?;
    if tiles.is_open() {
        return Ok(bag);
    }
    let kept: Vec<bool> = read_quality(path)?.into_iter().map(|quality| tiles.keeps(quality)).collect();
    ensure!(kept.len() == bag.coords.len(), "the bag '{}' has {} qualities for {} tiles", path.display(), kept.len(), bag.coords.len());
    let width = bag.features.width;
    bag.features.values =
        bag.features.values.chunks_exact(width.max(1)).zip(&kept).filter(|(_, kept)| **kept).flat_map(|(row, _)| row).copied().collect();
    bag.coords = bag.coords.into_iter().zip(&kept).filter(|(_, kept)| **kept).map(|(at, _)| at).collect();
    bag.features.tiles = bag.coords.len();
    Ok(bag)
}

/// N and D of what [`read_kept`] gives.
///
/// # Errors
/// As [`read_kept`].
pub fn read_kept_shape(path: &Path, tiles: TileFilter) -> Result<(usize, usize)> {
    let (all, width) = read_shape(path)?;
    if tiles.is_open() {
        return Ok((all, width));
    }
    Ok((read_quality(path)?.into_iter().filter(|quality| tiles.keeps(*quality)).count(), width))
}

/// The columns [`QUALITY`] of each tile with features.
fn read_quality(path: &Path) -> Result<Vec<[f16; QUALITY.len()]>> {
    let read = || -> Result<_> {
        let file = locking::open(path)?;
        let dataset = file.dataset("quality").map_err(|_| anyhow!("it has no dataset 'quality', which train.tiles asks for"))?;
        ensure!(
            matches!(dataset.shape()[..], [_, columns] if columns == QUALITY.len()),
            "its dataset 'quality' is not [N, {}]",
            QUALITY.len()
        );
        Ok(dataset.read_raw::<f16>()?.as_chunks().0.to_vec())
    };
    read().with_context(|| refusal(path))
}

/// N and D of a bag, without reading its features.
///
/// # Errors
/// As [`read_features`], but for the features' values.
pub fn read_shape(path: &Path) -> Result<(usize, usize)> {
    let read = || -> Result<_> { Ok(shape(&locking::open(path)?)?.1) };
    read().with_context(|| refusal(path))
}

/// Reads the coordinates alone; `None` for a bag without them.
///
/// # Errors
/// As [`read_features`].
pub fn read_coords(path: &Path) -> Result<Option<Vec<Coord>>> {
    let read = || {
        let file = locking::open(path)?;
        if file.link_exists("coords") { coordinates(&file).map(Some) } else { Ok(None) }
    };
    read().with_context(|| refusal(path))
}

/// Where the bags are in `data`: an extract run, or a folder of bags.
pub fn folder(data: &Path) -> PathBuf {
    let inside = data.join("bags");
    if inside.is_dir() { inside } else { data.to_owned() }
}

/// Reads the header alone; `None` for a bag that another program wrote.
///
/// # Errors
/// As [`read_features`].
pub fn read_header(path: &Path) -> Result<Option<Header>> {
    locking::open(path).and_then(|file| header(&file)).with_context(|| refusal(path))
}

/// sha256 of the root attribute `wsi`, which holds a digest of every array: two bags of one seal hold the same. Reads no array. `None`
/// for a bag that another program wrote.
///
/// # Errors
/// As [`read_features`].
pub fn seal(path: &Path) -> Result<Option<String>> {
    let read = || anyhow::Ok(header_text(&locking::open(path)?)?.map(|text| digest::bytes(text.as_bytes())));
    read().with_context(|| refusal(path))
}

/// One digest of the seals of `folder/<id>.h5`; `None` where one has none.
///
/// # Errors
/// As [`seal`].
pub fn seal_of_all(folder: &Path, ids: &[String]) -> Result<Option<String>> {
    let one = |id: &String| Ok(seal(&folder.join(format!("{id}.h5")))?.map(|seal| format!("{id} {seal}\n")));
    let seals = ids.par_iter().map(one).collect::<Result<Option<Vec<String>>>>()?;
    Ok(seals.map(digest::pieces))
}

/// Reads a bag as [`read`] does, and compares its coordinates and everything else with the digests in its header, too. Where the bag is
/// older than one of these digests, that part is not looked at; a bag that another program wrote has none.
///
/// # Errors
/// As [`read`]; what is not as it was written.
pub fn verify(path: &Path) -> Result<Bag> {
    let bag = read(path)?;
    let Some(header) = &bag.header else { return Ok(bag) };
    let check = || -> Result<()> {
        ensure!(coords::digest_of(&bag.coords) == header.coords_digest, "its coordinates are not those it was written with");
        if let Some(expected) = &header.rest_digest {
            let file = locking::open(path)?;
            let single = single(&file)?.unwrap_or_default();
            let status = if file.link_exists(STATUS) { file.dataset(STATUS)?.read_raw::<u8>()? } else { Vec::new() };
            let quality = if file.link_exists("quality") { file.dataset("quality")?.read_raw::<f16>()? } else { Vec::new() };
            let same = *expected == rest_digest(&single, &status, &quality);
            ensure!(same, "what it says of its tiles, or its single precision, is not what it was written with");
        }
        Ok(())
    };
    check().with_context(|| refusal(path))?;
    Ok(bag)
}

fn refusal(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    format!("cannot read the bag '{name}'; remove the file and extract that slide again")
}

/// The dataset of features with N and D.
fn shape(file: &hdf5::File) -> Result<(hdf5::Dataset, (usize, usize))> {
    let dataset = file.dataset("features").map_err(|_| anyhow!("it has no dataset 'features'"))?;
    match dataset.shape()[..] {
        [tiles, width] if tiles.checked_mul(width).is_none_or(|numbers| numbers as u64 > MOST_NUMBERS) => {
            bail!("its features claim the shape [{tiles}, {width}], more than any slide has")
        }
        [tiles, width] => Ok((dataset, (tiles, width))),
        [0] => Ok((dataset, (0, 0))), // a slide without tiles, as TRIDENT writes it
        ref shape => bail!("its features have the shape {shape:?} instead of [N, D]"),
    }
}

fn features(file: &hdf5::File) -> Result<Features> {
    let (dataset, (tiles, width)) = shape(file)?;
    let values = match dataset.dtype()?.to_descriptor()? {
        _ if tiles * width == 0 => Vec::new(),
        TypeDescriptor::Float(FloatSize::U2) => dataset.read_raw::<f16>()?,
        TypeDescriptor::Float(_) => dataset.read_raw::<f32>()?.into_iter().map(f16::from_f32).collect(),
        other => bail!("its features are {other}, not floating-point numbers"),
    };
    ensure!(values.iter().all(|value| value.is_finite()), Fault::NotFinite);
    Ok(Features { values, tiles, width })
}

fn coordinates(file: &hdf5::File) -> Result<Vec<Coord>> {
    let dataset = file.dataset("coords").map_err(|_| anyhow!("it has no dataset 'coords'"))?;
    let shape = dataset.shape();
    ensure!(matches!(shape[..], [_, 2] | [0]), "its coordinates have the shape {shape:?} instead of [N, 2]");
    ensure!(shape[0] as u64 <= MOST_NUMBERS, "its coordinates claim the shape {shape:?}, more than any slide has");
    let kind = dataset.dtype()?.to_descriptor()?;
    ensure!(
        matches!(kind, TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_)),
        "its coordinates are {kind}, not whole level-0 pixels"
    );
    let flat = if shape[0] == 0 { Vec::new() } else { dataset.read_raw::<i64>()? };
    Ok(flat.chunks_exact(2).map(|pair| Coord { x: pair[0], y: pair[1] }).collect())
}

fn header_text(file: &hdf5::File) -> Result<Option<VarLenUnicode>> {
    let Ok(attribute) = file.attr("wsi") else { return Ok(None) };
    Ok(Some(attribute.read_scalar()?))
}

fn header(file: &hdf5::File) -> Result<Option<Header>> {
    let Some(text) = header_text(file)? else { return Ok(None) };
    let header: Header = serde_json::from_str(&text).context("its attribute 'wsi'")?;
    ensure!(header.schema == SCHEMA, "its layout is '{}', this program reads '{SCHEMA}'", header.schema);
    Ok(Some(header))
}

fn rest_digest(single: &[f32], status: &[u8], quality: &[f16]) -> String {
    let single = single.chunks(1 << 16).map(|values| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>());
    let quality = quality.iter().flat_map(|value| value.to_le_bytes()).collect();
    digest::pieces(single.chain([status.to_vec(), quality]))
}

/// sha256 over features as little-endian f16, whatever kind of number the file holds.
pub(super) fn features_digest(values: &[f16]) -> String {
    digest::pieces(values.chunks(1 << 16).map(|values| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>()))
}

fn text(value: &str) -> Result<VarLenUnicode> {
    value.parse().map_err(|_| anyhow!("'{value}' holds a NUL character"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::reader::Reader;
    use crate::ground::units::Size;

    fn plan(tiles: i64) -> Plan {
        Plan {
            slide_id: "a".into(),
            slide_file: "a.svs".into(),
            slide_digest: "ab".into(),
            canvas: Size { width: 4000, height: 3000 },
            bounds: None,
            mpp: Mpp::square(0.25),
            mpp_source: "slide".into(),
            window: Window {
                level: 0,
                level_downsample: 1.0,
                decode_scale: 1,
                read_px: 448,
                tile_px: 224,
                side_level0_px: 448,
                step_level0_px: 448,
                mpp_requested: 0.5,
                mpp_true: 0.5,
                residual: 0.0,
                reader: Reader::OpenSlide,
            },
            fingerprint: None,
            coords: (0..tiles).map(|i| Coord { x: 448 * i, y: 0 }).collect(),
            tissue: vec![1.0; tiles as usize],
        }
    }

    fn some(tiles: usize) -> Features {
        Features { values: (0..tiles * 3).map(|i| f16::from_f32(i as f32 / 7.0)).collect(), tiles, width: 3 }
    }

    fn origin() -> Origin {
        Origin { encoder: "resnet18".into(), weights: "random, seed 0".into(), computed: None }
    }

    #[test]
    fn a_bag_comes_back_and_its_bytes_repeat() {
        let folder = tempfile::tempdir().unwrap();
        for tiles in [0, 5] {
            let (first, second) = (folder.path().join("a.h5"), folder.path().join("b.h5"));
            write(&first, &plan(tiles as i64), &some(tiles), &origin(), None).unwrap();
            write(&second, &plan(tiles as i64), &some(tiles), &origin(), None).unwrap();
            assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());
            let bag = read(&first).unwrap();
            assert_eq!((bag.features, bag.coords), (some(tiles), plan(tiles as i64).coords));
            assert_eq!(bag.header.unwrap().origin, origin());
        }
        assert!(write(&folder.path().join("c.h5"), &plan(4), &some(5), &origin(), None).is_err());
    }

    #[test]
    fn single_precision_stays_what_it_was_and_trains_as_half() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.h5");
        let single = vec![0.1f32, -1e-7, 1.0, 0.333_333_34, 60_000.0, 2.5];
        write_values(&path, &plan(2), &Values::Single(single.clone()), 3, &origin(), None).unwrap();
        assert_eq!(read_single(&path).unwrap(), Some(single.clone()));
        assert_eq!(read(&path).unwrap().features.values, single.iter().map(|&value| f16::from_f32(value)).collect::<Vec<_>>());
        write(&path, &plan(2), &some(2), &origin(), None).unwrap();
        assert_eq!(read_single(&path).unwrap(), None);
        let large = Values::Single(vec![70_000.0; 6]);
        assert!(write_values(&path, &plan(2), &large, 3, &origin(), None).unwrap_err().to_string().contains("70000"));
    }

    #[test]
    fn tiles_without_pixels_have_a_status_and_no_row() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.h5");
        let status = vec![TileStatus::Ok, TileStatus::Unreadable, TileStatus::Blank, TileStatus::Ok];
        let seen = Seen { status, quality: vec![[f16::ONE; QUALITY.len()]; 2] };
        write(&path, &plan(4), &some(2), &origin(), Some(&seen)).unwrap();
        let bag = read(&path).unwrap();
        assert_eq!(bag.coords, [plan(4).coords[0], plan(4).coords[3]]);
        assert_eq!(bag.header.unwrap().status, Some(StatusCounts { ok: 2, unreadable: 1, outside: 0, blank: 1 }));
        let file = hdf5::File::open(&path).unwrap();
        assert_eq!(file.dataset("tile_status").unwrap().read_raw::<u8>().unwrap(), [0, 1, 3, 0]);
        assert_eq!(file.dataset("quality").unwrap().shape(), [2, 5]);
        assert!(write(&path, &plan(4), &some(3), &origin(), Some(&seen)).is_err(), "a row for a tile without pixels");
    }

    #[test]
    fn a_foreign_bag_is_read_and_a_short_one_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("foreign.h5");
        for (rows, good) in [(4, true), (3, false)] {
            let file = hdf5::File::create(&path).unwrap();
            file.new_dataset::<f32>().chunk((1, 2)).shape((4, 2)).create("features").unwrap().write_raw(&[0.5f32; 8]).unwrap();
            file.new_dataset::<i32>().shape((rows, 2)).create("coords").unwrap().write_raw(&vec![7i32; 2 * rows]).unwrap();
            file.close().unwrap();
            assert_eq!(read_features(&path).unwrap().values, [f16::from_f32(0.5); 8]);
            match read(&path) {
                Ok(bag) => assert!(good && bag.header.is_none() && bag.coords[3] == Coord { x: 7, y: 7 }),
                Err(error) => assert!(!good && format!("{error:#}").contains("'foreign.h5'"), "{error:#}"),
            }
        }
    }

    #[test]
    fn a_changed_bag_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.h5");
        write(&path, &plan(5), &some(5), &origin(), None).unwrap();
        let file = hdf5::File::open_rw(&path).unwrap();
        file.dataset("features").unwrap().write_raw(&some(5).values.iter().map(|_| f16::ONE).collect::<Vec<_>>()).unwrap();
        file.close().unwrap();
        assert!(format!("{:#}", read(&path).unwrap_err()).contains("not those it was written with"));
    }
}
