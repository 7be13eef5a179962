//! AtlasPatch, read only: one `<id>.h5` a slide, `coords` `[N,5]` (x, y, width, height, level) and a group of features by encoder.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};

use super::{Exchange, Format, Given, Writer, first_h5, hdf, stems};
use crate::ground::units::Size;

pub(super) struct AtlasPatch;

fn folder(root: &Path) -> PathBuf {
    let inside = root.join("patches");
    if inside.is_dir() { inside } else { root.to_owned() }
}

impl Format for AtlasPatch {
    fn name(&self) -> &'static str {
        "atlaspatch"
    }

    fn recognises(&self, root: &Path) -> bool {
        let is_one = |path: PathBuf| hdf::open(&path).is_ok_and(|file| file.group("features").is_ok() && file.link_exists("coords"));
        root.is_dir() && first_h5(&folder(root)).is_some_and(is_one)
    }

    fn ids(&self, root: &Path, _: &Given) -> Result<Vec<String>> {
        stems(&folder(root), ".h5")
    }

    fn read(&self, root: &Path, id: &str, given: &Given) -> Result<Exchange> {
        let file = hdf::open(&folder(root).join(format!("{id}.h5")))?;
        let group = file.group("features").map_err(|_| anyhow!("it has no group 'features'"))?;
        let mut encoders = group.member_names()?;
        encoders.sort();
        let encoder = match (&given.encoder, &encoders[..]) {
            (Some(wanted), all) if all.contains(wanted) => wanted.clone(),
            (None, [only]) => only.clone(),
            (_, all) => bail!("it holds features of {}; choose one with --encoder-name", all.join(", ")),
        };
        let (values, width) = hdf::values(&group.dataset(&encoder)?)?;
        let size = |name: &str| hdf::whole(&file, name).and_then(|value| u32::try_from(value).ok()).filter(|&value| value > 0);
        Exchange {
            id: id.to_owned(),
            values,
            width,
            coords: hdf::coords(&file.dataset("coords").map_err(|_| anyhow!("it has no dataset 'coords'"))?)?,
            encoder: Some(encoder),
            mpp: None,
            side_level0_px: size("patch_size_level0"),
            step_level0_px: hdf::step(&file),
            tile_px: size("patch_size"),
            canvas: size("level0_width").zip(size("level0_height")).map(|(width, height)| Size { width, height }),
            label: None,
            labelled: None,
            header: None,
        }
        .with(given)
        .checked()
    }

    fn places(&self, root: &Path, id: &str, _: &Given) -> Vec<hdf5::Group> {
        let Some(file) = hdf::root(&folder(root).join(format!("{id}.h5"))) else { return Vec::new() };
        let features = file.group("features").ok();
        std::iter::once(file).chain(features).collect()
    }

    fn writer(&self, _: &Path) -> Result<Option<Box<dyn Writer>>> {
        Ok(None)
    }
}
