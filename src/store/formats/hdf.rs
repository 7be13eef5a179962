//! Datasets and attributes as several programs write them: any width of number, any kind of text.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use half::f16;
use hdf5::types::{FixedAscii, FixedUnicode, FloatSize, TypeDescriptor, VarLenAscii, VarLenUnicode};
use hdf5::{Dataset, File, Group, Location};

use super::Values;
use crate::ground::units::Coord;
use crate::store::bag::MOST_NUMBERS;
use crate::store::files;
use crate::store::locking::{self, Held};

/// Longest text of a fixed length that is read.
const LONGEST: usize = 4096;

/// Opens a file without its path in the error.
pub(super) fn open(path: &Path) -> Result<File> {
    ensure!(path.is_file(), "there is no such file");
    locking::open(path).map_err(|error| if error.is::<Held>() { error } else { anyhow!("it is no HDF5 file, or it was cut short") })
}

/// Whether a shape can be read into memory; a damaged file may claim any.
fn believable(rows: usize, columns: usize) -> bool {
    rows.checked_mul(columns).is_some_and(|numbers| numbers as u64 <= MOST_NUMBERS)
}

/// Features of the dataset and their width.
pub(super) fn values(dataset: &Dataset) -> Result<(Values, usize)> {
    let (tiles, width) = match dataset.shape()[..] {
        [tiles, width] if !believable(tiles, width) => bail!("its features claim the shape [{tiles}, {width}], more than any slide has"),
        [tiles, width] => (tiles, width),
        [0] => return Ok((Values::Half(Vec::new()), 0)), // a slide without tiles, as TRIDENT writes it
        ref shape => bail!("its features have the shape {shape:?} instead of [N, D]"),
    };
    let values = match dataset.dtype()?.to_descriptor()? {
        TypeDescriptor::Float(FloatSize::U2) if tiles * width > 0 => Values::Half(dataset.read_raw::<f16>()?),
        TypeDescriptor::Float(_) if tiles * width > 0 => Values::Single(dataset.read_raw::<f32>()?),
        TypeDescriptor::Float(_) => Values::Half(Vec::new()),
        other => bail!("its features are {other}, not floating-point numbers"),
    };
    Ok((values, width))
}

/// Coordinates: the first two of the dataset's columns, whole numbers of any kind, or whole ones written as floating-point.
pub(super) fn coords(dataset: &Dataset) -> Result<Vec<Coord>> {
    let columns = match dataset.shape()[..] {
        [tiles, columns] if !believable(tiles, columns) => {
            bail!("its coordinates claim the shape [{tiles}, {columns}], more than any slide has")
        }
        [_, columns] if columns >= 2 => columns,
        [0] => return Ok(Vec::new()),
        ref shape => bail!("its coordinates have the shape {shape:?} instead of [N, 2]"),
    };
    if dataset.shape()[0] == 0 {
        return Ok(Vec::new());
    }
    let flat: Vec<i64> = match dataset.dtype()?.to_descriptor()? {
        TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_) => dataset.read_raw::<i64>()?,
        TypeDescriptor::Float(_) => dataset
            .read_raw::<f64>()?
            .into_iter()
            .map(|value| if value.fract() == 0.0 { Ok(value as i64) } else { Err(anyhow!("its coordinates hold {value}, no whole pixel")) })
            .collect::<Result<_>>()?,
        other => bail!("its coordinates are {other}, not numbers"),
    };
    Ok(flat.chunks_exact(columns).map(|row| Coord { x: row[0], y: row[1] }).collect())
}

/// A whole-number attribute, if it is there and is one.
pub(super) fn whole(place: &Location, name: &str) -> Option<i64> {
    let attribute = place.attr(name).ok()?;
    match attribute.dtype().ok()?.to_descriptor().ok()? {
        TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_) => attribute.read_scalar::<i64>().ok(),
        TypeDescriptor::Float(_) => real(place, name).filter(|value| value.fract() == 0.0).map(|value| value as i64),
        _ => None,
    }
}

/// A real attribute: a number, or the first of several.
pub(super) fn real(place: &Location, name: &str) -> Option<f64> {
    place.attr(name).ok()?.read_raw::<f64>().ok()?.first().copied()
}

/// Distance of neighbouring tiles in level-0 pixels, by TRIDENT's attributes: `overlap` is in pixels of the tile.
pub(super) fn step(place: &Location) -> Option<u32> {
    let positive = |name: &str| whole(place, name).filter(|&value| value > 0).map(|value| value as f64);
    let (tile, side) = (positive("patch_size")?, positive("patch_size_level0")?);
    let overlap = whole(place, "overlap").filter(|&overlap| overlap >= 0)? as f64;
    Some(((tile - overlap) * side / tile).round() as u32).filter(|&step| step > 0)
}

/// The root of a file that opens.
pub(super) fn root(path: &Path) -> Option<Group> {
    open(path).ok()?.group("/").ok()
}

/// A text attribute of any kind.
pub(super) fn text(place: &Location, name: &str) -> Option<String> {
    let attribute = place.attr(name).ok()?;
    match attribute.dtype().ok()?.to_descriptor().ok()? {
        TypeDescriptor::VarLenUnicode => Some(attribute.read_scalar::<VarLenUnicode>().ok()?.as_str().to_owned()),
        TypeDescriptor::VarLenAscii => Some(attribute.read_scalar::<VarLenAscii>().ok()?.as_str().to_owned()),
        TypeDescriptor::FixedUnicode(length) if length <= LONGEST => {
            Some(attribute.read_scalar::<FixedUnicode<LONGEST>>().ok()?.as_str().to_owned())
        }
        TypeDescriptor::FixedAscii(length) if length <= LONGEST => {
            Some(attribute.read_scalar::<FixedAscii<LONGEST>>().ok()?.as_str().to_owned())
        }
        _ => None,
    }
}

/// Writes a whole-number attribute.
pub(super) fn write_whole(place: &Location, name: &str, value: i64) -> Result<()> {
    Ok(place.new_attr::<i64>().create(name)?.write_scalar(&value)?)
}

/// Writes a text attribute as h5py does.
pub(super) fn write_text(place: &Location, name: &str, value: &str) -> Result<()> {
    let value: VarLenUnicode = value.parse().map_err(|_| anyhow!("'{value}' holds a NUL character"))?;
    Ok(place.new_attr::<VarLenUnicode>().create(name)?.write_scalar(&value)?)
}

/// A new file that old libraries read, whole or absent, without times in it.
pub(super) fn create(path: &Path, fill: impl FnOnce(&File) -> Result<()>) -> Result<()> {
    files::write_whole(path, |temporary| {
        let file = empty(temporary)?;
        fill(&file)?;
        Ok(file.close()?)
    })
}

/// An open new file.
pub(super) fn empty(path: &Path) -> Result<File> {
    locking::create(|builder| {
        builder.with_fapl(|access| access.libver_earliest()).with_fcpl(|create| create.obj_track_times(false)).create(path)
    })
}

/// Writes `[N,D]` features in their own precision.
pub(super) fn write_values(group: &Group, name: &str, values: &Values, width: usize, chunk: Option<usize>) -> Result<Dataset> {
    match values {
        Values::Half(values) => write_rows(group, name, values, width, chunk),
        Values::Single(values) => write_rows(group, name, values, width, chunk),
    }
}

/// Writes a matrix of `width` columns, contiguous, or in chunks of so many rows that can grow.
pub(super) fn write_rows<T: hdf5::H5Type>(group: &Group, name: &str, values: &[T], width: usize, chunk: Option<usize>) -> Result<Dataset> {
    let rows = values.len().checked_div(width).unwrap_or(0);
    let new = group.new_dataset::<T>();
    let dataset = match chunk {
        Some(chunk) if rows > 0 => new.shape((rows.., width)).chunk((chunk, width)).obj_track_times(false).create(name)?,
        _ => new.shape((rows, width)).obj_track_times(false).create(name)?,
    };
    if rows > 0 {
        dataset.write_raw(values).with_context(|| format!("dataset '{name}'"))?;
    }
    Ok(dataset)
}

/// x, y, x, y …
pub(super) fn flat<T>(coords: &[Coord], number: impl Fn(i64) -> T) -> Vec<T> {
    coords.iter().flat_map(|at| [at.x, at.y]).map(number).collect()
}
