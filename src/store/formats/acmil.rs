//! The cohort file of ACMIL and of what followed it (AEM, ASMIL): one HDF5 file, a group a slide with `feat`, `coords` and its label.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use hdf5::File;

use super::{Exchange, Format, Given, Values, Writer, hdf, missing};
use crate::store::files;

pub(super) struct Acmil;

/// The file's name in a folder that is written.
const FILE: &str = "patch_feats_pretrain_wsi.h5";

/// The cohort file: `root` itself, or the only one in it.
fn file(root: &Path) -> Option<PathBuf> {
    if root.is_file() {
        return Some(root.to_owned());
    }
    let mut found = std::fs::read_dir(root).ok()?.flatten().map(|entry| entry.path()).filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("patch_feats"))
            && path.extension().is_some_and(|end| end == "h5")
    });
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

fn open(root: &Path) -> Result<File> {
    hdf::open(&file(root).ok_or_else(|| anyhow!("it holds no cohort file patch_feats….h5, or several; give the file"))?)
}

impl Format for Acmil {
    fn name(&self) -> &'static str {
        "acmil"
    }

    fn recognises(&self, root: &Path) -> bool {
        let first = |root| open(root).ok()?.groups().ok()?.into_iter().next();
        first(root).is_some_and(|group| group.link_exists("feat"))
    }

    fn ids(&self, root: &Path, _: &Given) -> Result<Vec<String>> {
        let mut ids = open(root)?.member_names().context("the cohort file is damaged")?;
        ids.sort();
        Ok(ids)
    }

    fn read(&self, root: &Path, id: &str, given: &Given) -> Result<Exchange> {
        let group = open(root)?.group(id).map_err(|_| anyhow!("there is no such slide in the cohort file"))?;
        let (values, width) = hdf::values(&group.dataset("feat").map_err(|_| anyhow!("it has no dataset 'feat'"))?)?;
        Exchange {
            id: id.to_owned(),
            values,
            width,
            coords: hdf::coords(&group.dataset("coords").map_err(|_| anyhow!("it has no dataset 'coords'"))?)?,
            encoder: None,
            mpp: None,
            side_level0_px: None,
            step_level0_px: None,
            tile_px: None,
            canvas: None,
            label: hdf::whole(&group, "label"),
            labelled: None,
            header: None,
        }
        .with(given)
        .checked()
    }

    fn places(&self, root: &Path, id: &str, _: &Given) -> Vec<hdf5::Group> {
        open(root).and_then(|file| Ok(file.group(id)?)).into_iter().collect()
    }

    fn writer(&self, root: &Path) -> Result<Option<Box<dyn Writer>>> {
        files::create_folder(root)?;
        let temporary = tempfile::Builder::new().prefix(&format!(".{FILE}.")).suffix(files::TEMPORARY).tempfile_in(root)?.into_temp_path();
        let file = hdf::empty(&temporary)?;
        Ok(Some(Box::new(AcmilWriter { path: root.join(FILE), temporary, file })))
    }
}

/// Fills a temporary file, which takes its name when the cohort is whole.
struct AcmilWriter {
    path: PathBuf,
    temporary: tempfile::TempPath,
    file: File,
}

impl Writer for AcmilWriter {
    fn add(&mut self, bag: &Exchange) -> Result<()> {
        let label = missing(bag.label, "label", "--labels FILE")?;
        let (half, error) = bag.values.to_half()?;
        if error > 0.0 {
            tracing::info!("{}: single precision became half, largest relative error {error:.1e}", bag.id);
        }
        ensure!(!self.file.link_exists(&bag.id), "it is in the cohort file already");
        let group = self.file.create_group_builder().obj_track_times(false).create(bag.id.as_str())?;
        hdf::write_values(&group, "feat", &Values::Half(half), bag.width, None)?;
        hdf::write_rows(&group, "coords", &hdf::flat(&bag.coords, |value| value), 2, None)?;
        hdf::write_whole(&group, "label", label)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let Self { path, temporary, file } = *self;
        file.close()?;
        files::put_in_place(temporary, &path)
    }
}
