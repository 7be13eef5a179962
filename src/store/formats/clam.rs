//! CLAM: `h5_files/<id>.h5` and `pt_files/<id>.pt`, with `patches/<id>.h5` beside them.
//!
//! A CLAM bag says neither encoder nor pixel size; the footprint stands in `patches`, where that folder is.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};

use super::{Exchange, Format, Given, Labelled, Values, Writer, hdf, missing, stems, torch};
use crate::store::table::{self, Cells};

pub(super) struct Clam;

const H5: &str = "h5_files";
const PT: &str = "pt_files";
const PATCHES: &str = "patches";

/// Rows in one piece of the file, as CLAM's own writer cuts them.
const CHUNK: usize = 32;

impl Format for Clam {
    fn name(&self) -> &'static str {
        "clam"
    }

    fn recognises(&self, root: &Path) -> bool {
        root.join(H5).is_dir() || root.join(PT).is_dir()
    }

    fn ids(&self, root: &Path, _: &Given) -> Result<Vec<String>> {
        if root.join(H5).is_dir() { stems(&root.join(H5), ".h5") } else { stems(&root.join(PT), ".pt") }
    }

    fn read(&self, root: &Path, id: &str, given: &Given) -> Result<Exchange> {
        let patches = patches(root, id)?;
        let (values, width, coords) = if root.join(H5).is_dir() {
            let file = hdf::open(&root.join(H5).join(format!("{id}.h5")))?;
            let features = file.dataset("features").map_err(|_| anyhow!("it has no dataset 'features'"))?;
            let coords = file.dataset("coords").map_err(|_| anyhow!("it has no dataset 'coords'"))?;
            let (values, width) = hdf::values(&features)?;
            (values, width, hdf::coords(&coords)?)
        } else {
            let (values, width) = torch::read(&root.join(PT).join(format!("{id}.pt")))?;
            let Some(patches) = &patches else {
                bail!("a .pt file has no coordinates, and there is no {PATCHES}/{id}.h5 beside it; add CLAM's folder of patches")
            };
            (values, width, hdf::coords(&patches.coords)?)
        };
        Exchange {
            id: id.to_owned(),
            values,
            width,
            coords,
            encoder: None,
            mpp: None,
            side_level0_px: patches.as_ref().and_then(|patches| patches.side),
            step_level0_px: None,
            tile_px: patches.as_ref().and_then(|patches| patches.tile_px),
            canvas: None,
            label: None,
            labelled: None,
            header: None,
        }
        .with(given)
        .checked()
    }

    fn places(&self, root: &Path, id: &str, _: &Given) -> Vec<hdf5::Group> {
        [H5, PATCHES].into_iter().filter_map(|folder| hdf::root(&root.join(folder).join(format!("{id}.h5")))).collect()
    }

    fn writer(&self, root: &Path) -> Result<Option<Box<dyn Writer>>> {
        Ok(Some(Box::new(ClamWriter { root: root.to_owned(), ids: Vec::new(), labelled: Default::default() })))
    }
}

/// What `patches/<id>.h5` says.
struct Patches {
    coords: hdf5::Dataset,
    /// Footprint in level-0 pixels.
    side: Option<u32>,
    /// Pixels at the level that was read.
    tile_px: Option<u32>,
}

fn patches(root: &Path, id: &str) -> Result<Option<Patches>> {
    let path = root.join(PATCHES).join(format!("{id}.h5"));
    if !path.is_file() {
        return Ok(None);
    }
    let coords = hdf::open(&path)?.dataset("coords").map_err(|_| anyhow!("{PATCHES}/{id}.h5 has no dataset 'coords'"))?;
    let tile_px = hdf::whole(&coords, "patch_size").and_then(|size| u32::try_from(size).ok());
    let downsample = match hdf::whole(&coords, "patch_level") {
        Some(0) => Some(1.0),
        _ => hdf::real(&coords, "downsample"),
    };
    let side = tile_px.zip(downsample).map(|(px, downsample)| (f64::from(px) * downsample).round() as u32);
    Ok(Some(Patches { coords, side, tile_px }))
}

struct ClamWriter {
    root: PathBuf,
    ids: Vec<String>,
    /// Patient, slide and class of each labelled slide.
    labelled: [Vec<String>; 3],
}

impl Writer for ClamWriter {
    fn add(&mut self, bag: &Exchange) -> Result<()> {
        let side = missing(bag.side_level0_px, "tiles' footprint", "--side-level0 (level-0 pixels)")?;
        let within = |at: i64| i32::try_from(at).map_err(|_| anyhow!("a coordinate is {at}, more than CLAM's 32 bits hold"));
        let narrow: Vec<i32> = bag.coords.iter().flat_map(|at| [at.x, at.y]).map(within).collect::<Result<_>>()?;
        let canvas = bag.canvas(side)?;
        let canvas = [i64::from(canvas.width), i64::from(canvas.height)];
        hdf::create(&self.root.join(PATCHES).join(format!("{}.h5", bag.id)), |file| {
            let coords = hdf::write_rows(file, "coords", &hdf::flat(&bag.coords, |value| value), 2, None)?;
            // METHOD: squares of true micrometres seldom fall on a whole number of a coarser level's pixels; level 0 always tells the
            // footprint exactly.
            hdf::write_whole(&coords, "patch_size", side.into())?;
            hdf::write_whole(&coords, "patch_level", 0)?;
            coords.new_attr::<f64>().shape(2).create("downsample")?.write_raw(&[1.0, 1.0])?;
            for name in ["downsampled_level_dim", "level_dim"] {
                coords.new_attr::<i64>().shape(2).create(name)?.write_raw(&canvas)?;
            }
            hdf::write_text(&coords, "name", &bag.id)?;
            hdf::write_text(&coords, "save_path", ".")
        })?;
        let single = Values::Single(bag.values.to_single());
        hdf::create(&self.root.join(H5).join(format!("{}.h5", bag.id)), |file| {
            hdf::write_values(file, "features", &single, bag.width, Some(CHUNK))?;
            hdf::write_rows(file, "coords", &narrow, 2, Some(CHUNK)).map(drop)
        })?;
        torch::write(&self.root.join(PT).join(format!("{}.pt", bag.id)), &single, bag.width)?;
        self.ids.push(bag.id.clone());
        if let Some(Labelled { patient, class }) = &bag.labelled {
            let row = [patient.clone(), bag.id.clone(), class.clone()];
            self.labelled.iter_mut().zip(row).for_each(|(column, cell)| column.push(cell));
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let count = self.ids.len();
        let columns = vec![
            ("slide_id", Cells::Text(self.ids)),
            ("process", Cells::Whole(vec![0; count])),
            ("status", Cells::Text(vec!["processed".to_owned(); count])),
        ];
        table::write(&self.root.join("process_list_autogen.csv"), columns)?;
        let [patients, slides, classes] = self.labelled;
        if slides.is_empty() {
            return Ok(());
        }
        let columns = vec![("case_id", Cells::Text(patients)), ("slide_id", Cells::Text(slides)), ("label", Cells::Text(classes))];
        table::write(&self.root.join("dataset.csv"), columns)
    }
}
