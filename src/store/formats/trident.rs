//! TRIDENT: `<magnification>x_<tile>px_<overlap>px_overlap/{patches/<id>_patches.h5, features_<encoder>/<id>.h5}`.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};

use super::{Exchange, Format, Given, Writer, hdf, missing, stems};
use crate::ground::units::{Mpp, Size};
use crate::store::coords::nominal_magnification;

pub(super) struct Trident;

const PREFIX: &str = "features_";

/// The folders of features in `root`, itself one of them or up to two levels above.
fn feature_folders(root: &Path) -> Vec<PathBuf> {
    let is_one = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)) && path.is_dir();
    if is_one(root) {
        return vec![root.to_owned()];
    }
    let inside = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder)
            .map(|entries| entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
            .unwrap_or_default()
    };
    let mut found: Vec<PathBuf> =
        inside(root).into_iter().flat_map(|child| [inside(&child), vec![child]].concat()).filter(|path| is_one(path)).collect();
    found.sort();
    found
}

fn encoder_of(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().trim_start_matches(PREFIX).to_owned()
}

/// An encoder's name as part of a folder's: a name such as `owner/model` must not lead out of the folder it is written to.
fn folder_name(encoder: &str) -> String {
    encoder.replace(['/', '\\'], "-")
}

/// The folder of the encoder that was chosen, or the only one.
fn folder(root: &Path, given: &Given) -> Result<PathBuf> {
    let all = feature_folders(root);
    let wanted = |folder: &&PathBuf| given.encoder.as_ref().is_none_or(|encoder| encoder_of(folder) == folder_name(encoder));
    match all.iter().filter(wanted).collect::<Vec<_>>()[..] {
        [only] => Ok(only.clone()),
        [] => bail!("there is no folder {PREFIX}{}; choose one of: {}", given.encoder.as_deref().unwrap_or("…"), names(&all)),
        _ => bail!("there are several folders of features ({}); choose one with --encoder-name, or give its folder", names(&all)),
    }
}

fn names(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| encoder_of(folder)).collect::<Vec<_>>().join(", ")
}

impl Format for Trident {
    fn name(&self) -> &'static str {
        "trident"
    }

    fn recognises(&self, root: &Path) -> bool {
        !feature_folders(root).is_empty()
    }

    fn ids(&self, root: &Path, given: &Given) -> Result<Vec<String>> {
        stems(&folder(root, given)?, ".h5")
    }

    fn read(&self, root: &Path, id: &str, given: &Given) -> Result<Exchange> {
        let folder = folder(root, given)?;
        let file = hdf::open(&folder.join(format!("{id}.h5")))?;
        let features = file.dataset("features").map_err(|_| anyhow!("it has no dataset 'features'"))?;
        let (values, width) = hdf::values(&features)?;
        let coords = file.dataset("coords").map_err(|_| anyhow!("it has no dataset 'coords'"))?;
        let size = |name: &str| hdf::whole(&coords, name).and_then(|value| u32::try_from(value).ok()).filter(|&value| value > 0);
        let side = size("patch_size_level0").or_else(|| {
            // Its own rule, before it wrote the footprint.
            size("patch_size")?.checked_mul(size("level0_magnification")?)?.checked_div(size("target_magnification")?)
        });
        let named = hdf::text(&features, "encoder").filter(|encoder| encoder != "None");
        Exchange {
            id: id.to_owned(),
            values,
            width,
            encoder: named.or_else(|| Some(encoder_of(&folder))),
            // A nominal magnification is no pixel size; only a file of this program says it.
            mpp: hdf::real(&file, "mpp_x").zip(hdf::real(&file, "mpp_y")).map(|(x, y)| Mpp { x, y }),
            side_level0_px: side,
            step_level0_px: hdf::step(&coords),
            tile_px: size("patch_size"),
            canvas: size("level0_width").zip(size("level0_height")).map(|(width, height)| Size { width, height }),
            coords: hdf::coords(&coords)?,
            label: None,
            labelled: None,
            header: None,
        }
        .with(given)
        .checked()
    }

    fn places(&self, root: &Path, id: &str, given: &Given) -> Vec<hdf5::Group> {
        let Ok(folder) = folder(root, given) else { return Vec::new() };
        let patches = folder.with_file_name("patches").join(format!("{id}_patches.h5"));
        [folder.join(format!("{id}.h5")), patches].iter().filter_map(|path| hdf::root(path)).collect()
    }

    fn writer(&self, root: &Path) -> Result<Option<Box<dyn Writer>>> {
        Ok(Some(Box::new(TridentWriter { root: root.to_owned() })))
    }
}

struct TridentWriter {
    root: PathBuf,
}

impl Writer for TridentWriter {
    fn add(&mut self, bag: &Exchange) -> Result<()> {
        let side = missing(bag.side_level0_px, "tiles' footprint", "--side-level0 (level-0 pixels)")?;
        let tile_px = missing(bag.tile_px, "tile size", "--tile-px (pixels that the encoder was given)")?;
        let mpp = missing(bag.mpp, "pixel size", "--slide-mpp (µm per level-0 pixel)")?;
        let encoder = missing(bag.encoder.clone(), "encoder", "--encoder-name")?;
        let step = bag.step_level0_px(side);
        let overlap = i64::from(tile_px) - (f64::from(step) * f64::from(tile_px) / f64::from(side)).round() as i64;
        let target = nominal_magnification(f64::from(side) * mpp.mean() / f64::from(tile_px));
        let folder = self.root.join(format!("{target}x_{tile_px}px_{overlap}px_overlap"));
        let canvas = bag.canvas(side)?;
        let describe = |dataset: &hdf5::Dataset| -> Result<()> {
            for (name, value) in [
                ("patch_size", i64::from(tile_px)),
                ("patch_size_level0", side.into()),
                ("level0_magnification", nominal_magnification(mpp.mean())),
                ("target_magnification", target),
                ("overlap", overlap),
                ("level0_width", canvas.width.into()),
                ("level0_height", canvas.height.into()),
            ] {
                hdf::write_whole(dataset, name, value)?;
            }
            hdf::write_text(dataset, "name", &bag.id)?;
            hdf::write_text(dataset, "savetodir", ".")
        };
        let write_mpp = |file: &hdf5::File| -> Result<()> {
            for (name, value) in [("mpp_x", mpp.x), ("mpp_y", mpp.y)] {
                file.new_attr::<f64>().create(name)?.write_scalar(&value)?;
            }
            Ok(())
        };
        let coords = hdf::flat(&bag.coords, |value| value);
        hdf::create(&folder.join(format!("patches/{}_patches.h5", bag.id)), |file| {
            write_mpp(file)?;
            describe(&hdf::write_rows(file, "coords", &coords, 2, None)?)
        })?;
        hdf::create(&folder.join(format!("{PREFIX}{}/{}.h5", folder_name(&encoder), bag.id)), |file| {
            write_mpp(file)?;
            let features = hdf::write_values(file, "features", &bag.values, bag.width, None)?;
            hdf::write_text(&features, "name", &bag.id)?;
            hdf::write_text(&features, "savetodir", ".")?;
            hdf::write_text(&features, "encoder", &encoder)?;
            describe(&hdf::write_rows(file, "coords", &coords, 2, None)?)
        })
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
