//! A plan on disk: `patches/<id>_patches.h5` with TRIDENT's dataset and attribute names, so that its readers open it as
//! it is, and the whole truth beside them in one root attribute `wsi` (JSON).
//!
//! `coords` int64 `[N,2]` (x, y; level-0 pixels of the full canvas, top-left), `tissue` f32 `[N]`. TRIDENT knows nominal
//! magnifications only; these attributes are for its readers, ours use the micrometres in `wsi`.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use hdf5::types::VarLenUnicode;
use serde::{Deserialize, Serialize};

use super::{files, locking};
use crate::ground::fingerprint::Fingerprint;
use crate::ground::plan::{Plan, Window};
use crate::ground::units::{Coord, Mpp, Size};

const SCHEMA: &str = "wsi-coords-1";

/// What the root attribute `wsi` says: the plan without its arrays.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    schema: String,
    slide_id: String,
    slide_file: String,
    slide_digest: String,
    canvas: Size,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bounds: Option<(Coord, Size)>,
    mpp: Mpp,
    mpp_source: String,
    window: Window,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fingerprint: Option<Fingerprint>,
    tiles: usize,
    coords_digest: String,
}

/// Writes the plan, whole or not at all; the same plan gives the same bytes.
///
/// # Errors
/// Names the file.
pub fn write(path: &Path, plan: &Plan) -> Result<()> {
    let header = text(&header(plan)?)?;
    files::write_whole(path, |temporary| {
        let file = create(temporary, &header)?;
        write_coords(&file, plan)?;
        let tissue = file.new_dataset::<f32>().shape(plan.tissue.len()).obj_track_times(false).create("tissue")?;
        tissue.write_raw(&plan.tissue)?;
        Ok(file.close()?)
    })
}

/// The root attribute `wsi`.
fn header(plan: &Plan) -> Result<String> {
    let header = Header {
        schema: SCHEMA.to_owned(),
        slide_id: plan.slide_id.clone(),
        slide_file: plan.slide_file.clone(),
        slide_digest: plan.slide_digest.clone(),
        canvas: plan.canvas,
        bounds: plan.bounds,
        mpp: plan.mpp,
        mpp_source: plan.mpp_source.clone(),
        window: plan.window.clone(),
        fingerprint: plan.fingerprint,
        tiles: plan.coords.len(),
        coords_digest: digest(plan),
    };
    Ok(serde_json::to_string(&header)?)
}

/// A new HDF5 file with our header: readable by old libraries, without times, so that equal content is equal bytes.
pub(super) fn create(path: &Path, header: &VarLenUnicode) -> Result<hdf5::File> {
    let file = locking::create(|builder| {
        builder.with_fapl(|access| access.libver_earliest()).with_fcpl(|create| create.obj_track_times(false)).create(path)
    })?;
    file.new_attr::<VarLenUnicode>().create("wsi")?.write_scalar(header)?;
    Ok(file)
}

/// Reads a plan back.
///
/// # Errors
/// A file that is missing, damaged, or not written by [`write`]; names it.
pub fn read(path: &Path) -> Result<Plan> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    read_file(path).with_context(|| format!("cannot read the coordinates '{name}'; remove the file and run `wsi tile` again"))
}

fn read_file(path: &Path) -> Result<Plan> {
    let file = locking::open(path)?;
    let header = file.attr("wsi").map_err(|_| anyhow!("it has no attribute 'wsi': not written by this program"))?;
    let header: Header = serde_json::from_str(&header.read_scalar::<VarLenUnicode>()?)?;
    if header.schema != SCHEMA {
        bail!("its layout is '{}', this program reads '{SCHEMA}'", header.schema);
    }
    let coords = file.dataset("coords")?.read_raw::<i64>()?;
    let tissue = file.dataset("tissue")?.read_raw::<f32>()?;
    let plan = Plan {
        slide_id: header.slide_id,
        slide_file: header.slide_file,
        slide_digest: header.slide_digest,
        canvas: header.canvas,
        bounds: header.bounds,
        mpp: header.mpp,
        mpp_source: header.mpp_source,
        window: header.window,
        fingerprint: header.fingerprint,
        coords: coords.chunks_exact(2).map(|pair| Coord { x: pair[0], y: pair[1] }).collect(),
        tissue,
    };
    if plan.coords.len() != header.tiles || plan.tissue.len() != header.tiles || digest(&plan) != header.coords_digest {
        bail!("its coordinates are not those it was written with");
    }
    Ok(plan)
}

/// Writes the dataset `coords` with TRIDENT's attributes into an open file; the bag has the same one.
///
/// # Errors
/// HDF5's own.
pub fn write_coords(file: &hdf5::Group, plan: &Plan) -> Result<()> {
    let coords = file.new_dataset::<i64>().shape((plan.coords.len(), 2)).obj_track_times(false).create("coords")?;
    let flat: Vec<i64> = plan.coords.iter().flat_map(|coord| [coord.x, coord.y]).collect();
    coords.write_raw(&flat)?;
    write_attributes(&coords, plan)
}

/// TRIDENT's attributes of a plan on a `coords` dataset.
///
/// `patch_size_level0` is the true footprint, so TRIDENT's own identity `patch_size · level0_magnification /
/// target_magnification` holds only where the slide's pixel size is nominal.
///
/// # Errors
/// HDF5's own.
pub fn write_attributes(coords: &hdf5::Dataset, plan: &Plan) -> Result<()> {
    let window = &plan.window;
    let step_px = (f64::from(window.step_level0_px) * f64::from(window.tile_px) / f64::from(window.side_level0_px)).round() as i64;
    let whole = [
        ("patch_size", i64::from(window.tile_px)),
        ("patch_size_level0", i64::from(window.side_level0_px)),
        ("level0_magnification", nominal_magnification(plan.mpp.mean())),
        ("target_magnification", nominal_magnification(window.mpp_requested)),
        ("overlap", i64::from(window.tile_px) - step_px),
        ("level0_width", i64::from(plan.canvas.width)),
        ("level0_height", i64::from(plan.canvas.height)),
    ];
    for (name, value) in whole {
        coords.new_attr::<i64>().create(name)?.write_scalar(&value)?;
    }
    for (name, value) in [("name", plan.slide_id.as_str()), ("savetodir", ".")] {
        coords.new_attr::<VarLenUnicode>().create(name)?.write_scalar(&text(value)?)?;
    }
    Ok(())
}

/// sha256 over the coordinates (x, y as little-endian int64, in order): two plans with this in common read the same squares.
pub fn digest(plan: &Plan) -> String {
    digest_of(&plan.coords)
}

/// sha256 over all that a plan says: its root attribute, which holds [`digest`], and the shares of tissue.
///
/// # Errors
/// A number that JSON cannot hold.
pub fn seal(plan: &Plan) -> Result<String> {
    let tissue: Vec<u8> = plan.tissue.iter().flat_map(|share| share.to_le_bytes()).collect();
    Ok(super::digest::pieces([header(plan)?.as_bytes(), &tissue]))
}

/// [`digest`] of coordinates without a plan.
pub(super) fn digest_of(coords: &[Coord]) -> String {
    let bytes: Vec<u8> = coords.iter().flat_map(|coord| [coord.x.to_le_bytes(), coord.y.to_le_bytes()]).flatten().collect();
    super::digest::bytes(&bytes)
}

/// The objective that a pixel size is commonly called by, by TRIDENT's bounds; coarser than those, the nearest whole number.
pub(super) fn nominal_magnification(mpp: f64) -> i64 {
    const BOUNDS: [(f64, i64); 6] = [(0.16, 80), (0.2, 60), (0.3, 40), (0.6, 20), (1.2, 10), (2.4, 5)];
    BOUNDS.iter().find(|(bound, _)| mpp < *bound).map_or_else(|| ((10.0 / mpp).round() as i64).max(1), |(_, magnification)| *magnification)
}

fn text(value: &str) -> Result<VarLenUnicode> {
    value.parse().map_err(|_| anyhow!("'{value}' holds a NUL character"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::reader::Reader;

    fn plan() -> Plan {
        Plan {
            slide_id: "präparat".into(),
            slide_file: "centre/präparat.svs".into(),
            slide_digest: "ab".into(),
            canvas: Size { width: 4000, height: 3000 },
            bounds: Some((Coord { x: 10, y: 20 }, Size { width: 3000, height: 2000 })),
            mpp: Mpp { x: 0.25, y: 0.2501 },
            mpp_source: "slide".into(),
            window: Window {
                level: 1,
                level_downsample: 4.0001,
                decode_scale: 1,
                read_px: 112,
                tile_px: 112,
                side_level0_px: 448,
                step_level0_px: 224,
                mpp_requested: 1.0,
                mpp_true: 1.000_125,
                residual: 0.000_125,
                reader: Reader::OpenSlide,
            },
            fingerprint: Some(Fingerprint { bits: [1, 2, 3, 4], colour: [200, 120, 160] }),
            coords: (0..50).map(|i| Coord { x: 224 * (i % 10), y: 224 * (i / 10) }).collect(),
            tissue: (0..50).map(|i| i as f32 / 49.0).collect(),
        }
    }

    #[test]
    fn a_plan_comes_back_and_its_bytes_repeat() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("a.h5"), folder.path().join("b.h5"));
        write(&first, &plan()).unwrap();
        write(&second, &plan()).unwrap();
        assert_eq!(read(&first).unwrap(), plan());
        assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());

        let coords = hdf5::File::open(&first).unwrap().dataset("coords").unwrap();
        let whole = |name: &str| coords.attr(name).unwrap().read_scalar::<i64>().unwrap();
        assert_eq!((whole("level0_magnification"), whole("target_magnification")), (40, 10));
        assert_eq!((whole("patch_size"), whole("patch_size_level0"), whole("overlap")), (112, 448, 56));
        assert_eq!(coords.attr("savetodir").unwrap().read_scalar::<VarLenUnicode>().unwrap().as_str(), ".");
    }

    #[test]
    fn an_empty_plan_is_a_file_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.h5");
        let empty = Plan { fingerprint: None, coords: Vec::new(), tissue: Vec::new(), ..plan() };
        write(&path, &empty).unwrap();
        assert_eq!(read(&path).unwrap(), empty);
    }

    #[test]
    fn another_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x_patches.h5");
        std::fs::write(&path, b"not hdf5").unwrap();
        let error = format!("{:#}", read(&path).unwrap_err());
        assert!(error.contains("x_patches.h5") && !error.contains(folder.path().to_str().unwrap()), "{error}");
    }
}
