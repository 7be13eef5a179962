//! STAMP: `<folders>/<slide>.h5` with `feats` and `coords` in micrometres.
//!
//! Micrometres become level-0 pixels by the slide's pixel size, rounded; written as f32 they tell pixels of a quarter of a micrometre
//! apart up to 13 cm.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail, ensure};

use super::{Exchange, Format, Given, Labelled, Values, Writer, first_h5, hdf, missing};
use crate::ground::units::{Coord, Mpp, Size};
use crate::store::table::{self, Cells};

pub(super) struct Stamp;

/// The first version whose readers know the attributes that are written; a higher one makes older installations refuse the file.
const VERSION: &str = "2.1.0";

/// A coordinate that is farther than this from a whole pixel of the size that its file names was changed since.
const LARGEST_RESIDUAL: f64 = 0.25;

impl Format for Stamp {
    fn name(&self) -> &'static str {
        "stamp"
    }

    fn recognises(&self, root: &Path) -> bool {
        let is_one = |path: &Path| hdf::open(path).is_ok_and(|file| file.link_exists("feats") || file.link_exists("patch_embeddings"));
        root.is_dir()
            && (first_h5(root).is_some_and(|path| is_one(&path))
                || paths(root).is_ok_and(|paths| paths.first().is_some_and(|(_, path)| is_one(path))))
    }

    fn ids(&self, root: &Path, _: &Given) -> Result<Vec<String>> {
        let mut ids: Vec<String> = paths(root)?.into_iter().map(|(id, _)| id).collect();
        ids.sort();
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("two bags have the id '{}'; rename one, bags are named by id", pair[0]);
        }
        Ok(ids)
    }

    fn read(&self, root: &Path, id: &str, given: &Given) -> Result<Exchange> {
        let file = hdf::open(&path(root, id)?)?;
        let dataset =
            file.dataset("feats").or_else(|_| file.dataset("patch_embeddings")).map_err(|_| anyhow!("it has no dataset 'feats'"))?;
        let (values, width) = hdf::values(&dataset)?;
        let coords = file.dataset("coords").map_err(|_| anyhow!("it has no dataset 'coords'"))?;
        let microns = match coords.shape()[..] {
            [0] => Vec::new(),
            [_, 2] => coords.read_raw::<f64>()?,
            ref shape => bail!("its coordinates have the shape {shape:?} instead of [N, 2]"),
        };
        // The attribute of today, or the one before it that came with a unit.
        let side_um = hdf::real(&file, "tile_size_um")
            .or_else(|| hdf::real(&file, "tile_size").filter(|_| hdf::text(&file, "unit").is_some_and(|unit| unit == "um")));
        let side_um = side_um.ok_or_else(|| anyhow!("it does not say that its coordinates are micrometres; it is older than STAMP 2"))?;
        let own = hdf::real(&file, "wsi_mpp_x").zip(hdf::real(&file, "wsi_mpp_y")).map(|(x, y)| Mpp { x, y });
        let mpp = missing(own.or(given.slide_mpp.map(Mpp::square)), "pixel size", "--slide-mpp (µm per level-0 pixel)")?;
        let mut farthest = 0.0f64;
        let mut pixel = |um: f64, mpp: f64| {
            let exact = um / mpp;
            farthest = farthest.max((exact - exact.round()).abs());
            exact.is_finite().then(|| exact.round() as i64).ok_or_else(|| anyhow!("a coordinate is {um} µm"))
        };
        let coords =
            microns.chunks_exact(2).map(|at| Ok(Coord { x: pixel(at[0], mpp.x)?, y: pixel(at[1], mpp.y)? })).collect::<Result<Vec<_>>>()?;
        // METHOD: STAMP steps by whole micrometres within a region that it reads at once, so its own tiles stand up to half a pixel
        // from a whole one; that is rounded and said. What this program wrote stands on whole pixels.
        ensure!(
            own.is_none() || farthest <= LARGEST_RESIDUAL,
            "a coordinate lies {farthest:.2} px from a whole pixel of {} µm, the size that the file names; convert that slide again",
            mpp.mean()
        );
        if farthest > LARGEST_RESIDUAL {
            tracing::info!("{id}: micrometres became pixels; the farthest was {farthest:.2} px from a whole one");
        }
        let size = |name: &str| hdf::whole(&file, name).and_then(|value| u32::try_from(value).ok());
        Exchange {
            id: id.to_owned(),
            values,
            width,
            coords,
            encoder: hdf::text(&file, "extractor"),
            mpp: Some(mpp),
            side_level0_px: Some((side_um / mpp.mean()).round() as u32),
            step_level0_px: None,
            tile_px: size("tile_size_px"),
            canvas: size("wsi_width").zip(size("wsi_height")).map(|(width, height)| Size { width, height }),
            label: None,
            labelled: None,
            header: None,
        }
        .with(given)
        .checked()
    }

    fn places(&self, root: &Path, id: &str, _: &Given) -> Vec<hdf5::Group> {
        path(root, id).ok().and_then(|path| hdf::root(&path)).into_iter().collect()
    }

    fn writer(&self, root: &Path) -> Result<Option<Box<dyn Writer>>> {
        Ok(Some(Box::new(StampWriter { root: root.to_owned(), labelled: Vec::new() })))
    }
}

/// The bag's file: in the folder itself, or somewhere below.
fn path(root: &Path, id: &str) -> Result<PathBuf> {
    let direct = root.join(format!("{id}.h5"));
    if direct.is_file() {
        return Ok(direct);
    }
    let found = paths(root)?.into_iter().find(|(other, _)| other == id);
    Ok(found.ok_or_else(|| anyhow!("there is no such file"))?.1)
}

/// Id and path of every bag below the folder.
fn paths(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|error| anyhow!("cannot read the folder '{}': {error}", folder.display()))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else if let Some(id) = name.strip_suffix(".h5").filter(|id| !id.starts_with('.')) {
                found.push((id.to_owned(), path));
            }
        }
    }
    found.sort();
    Ok(found)
}

struct StampWriter {
    root: PathBuf,
    /// Patient, file and class of each labelled slide.
    labelled: Vec<[String; 3]>,
}

impl Writer for StampWriter {
    fn add(&mut self, bag: &Exchange) -> Result<()> {
        let mpp = missing(bag.mpp, "pixel size", "--slide-mpp (µm per level-0 pixel)")?;
        let side = missing(bag.side_level0_px, "tiles' footprint", "--side-level0 (level-0 pixels)")?;
        let tile_px = missing(bag.tile_px, "tile size", "--tile-px (pixels that the encoder was given)")?;
        let encoder = missing(bag.encoder.clone(), "encoder", "--encoder-name")?;
        let (half, error) = bag.values.to_half()?;
        if error > 0.0 {
            tracing::info!("{}: single precision became half, largest relative error {error:.1e}", bag.id);
        }
        let microns: Vec<f32> = bag.coords.iter().flat_map(|at| [(at.x as f64 * mpp.x) as f32, (at.y as f64 * mpp.y) as f32]).collect();
        hdf::create(&self.root.join(format!("{}.h5", bag.id)), |file| {
            hdf::write_rows(file, "coords", &microns, 2, None)?;
            hdf::write_values(file, "feats", &Values::Half(half), bag.width, None)?;
            for (name, value) in
                [("stamp_version", VERSION), ("extractor", &encoder), ("unit", "um"), ("feat_type", "tile"), ("code_hash", "wsi")]
            {
                hdf::write_text(file, name, value)?;
            }
            let reals = [("tile_size_um", f64::from(side) * mpp.mean()), ("wsi_mpp_x", mpp.x), ("wsi_mpp_y", mpp.y)];
            for (name, value) in reals {
                file.new_attr::<f64>().create(name)?.write_scalar(&value)?;
            }
            hdf::write_whole(file, "tile_size_px", tile_px.into())?;
            if let Some(canvas) = bag.canvas {
                hdf::write_whole(file, "wsi_width", canvas.width.into())?;
                hdf::write_whole(file, "wsi_height", canvas.height.into())?;
            }
            Ok(())
        })?;
        let row = |Labelled { patient, class }: &Labelled| [patient.clone(), format!("{}.h5", bag.id), class.clone()];
        self.labelled.extend(bag.labelled.as_ref().map(row));
        Ok(())
    }

    /// With labels, `clini.csv` and `slide.csv`. Its reader takes a patient's rows together only where they are neighbours.
    fn finish(mut self: Box<Self>) -> Result<()> {
        if self.labelled.is_empty() {
            return Ok(());
        }
        self.labelled.sort();
        let column = |rows: &[[String; 3]], at: usize| Cells::Text(rows.iter().map(|row| row[at].clone()).collect());
        let slides = vec![("PATIENT", column(&self.labelled, 0)), ("FILENAME", column(&self.labelled, 1))];
        let mut patients = self.labelled;
        patients.dedup_by(|next, first| next[0] == first[0] && next[2] == first[2]);
        if let Some(pair) = patients.windows(2).find(|pair| pair[0][0] == pair[1][0]) {
            bail!(
                "the slides of patient '{}' have the classes '{}' and '{}'; STAMP's table has one a patient",
                pair[0][0],
                pair[0][2],
                pair[1][2]
            );
        }
        table::write(&self.root.join("slide.csv"), slides)?;
        let classes = vec![("PATIENT", column(&patients, 0)), ("label", column(&patients, 2))];
        table::write(&self.root.join("clini.csv"), classes)
    }
}
