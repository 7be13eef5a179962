//! Our own layout: `bags/<id>.h5`, or a folder of such files.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Exchange, Format, Given, Values, Writer, first_h5, hdf, missing, stems};
use crate::ground::plan::{Plan, Window};
use crate::ground::reader::Reader;
use crate::store::bag::{self, Origin};

pub(super) struct Native;

impl Format for Native {
    fn name(&self) -> &'static str {
        "wsi"
    }

    fn recognises(&self, root: &Path) -> bool {
        root.is_dir() && first_h5(&bag::folder(root)).is_some_and(|path| bag::read_header(&path).is_ok_and(|header| header.is_some()))
    }

    fn ids(&self, root: &Path, _: &Given) -> Result<Vec<String>> {
        stems(&bag::folder(root), ".h5")
    }

    fn read(&self, root: &Path, id: &str, _: &Given) -> Result<Exchange> {
        let path = bag::folder(root).join(format!("{id}.h5"));
        let bag = bag::read(&path)?;
        let single = bag::read_single(&path)?;
        let header = bag.header;
        let of = |get: fn(&bag::Header) -> u32| header.as_ref().map(get);
        Ok(Exchange {
            id: id.to_owned(),
            width: bag.features.width,
            values: single.map_or(Values::Half(bag.features.values), Values::Single),
            coords: bag.coords,
            encoder: header.as_ref().map(|header| header.origin.encoder.clone()),
            mpp: header.as_ref().map(|header| header.mpp),
            side_level0_px: of(|header| header.window.side_level0_px),
            step_level0_px: of(|header| header.window.step_level0_px),
            tile_px: of(|header| header.window.tile_px),
            canvas: header.as_ref().and_then(|header| header.canvas),
            label: None,
            labelled: None,
            header,
        })
    }

    fn places(&self, root: &Path, id: &str, _: &Given) -> Vec<hdf5::Group> {
        hdf::root(&bag::folder(root).join(format!("{id}.h5"))).into_iter().collect()
    }

    fn writer(&self, root: &Path) -> Result<Option<Box<dyn Writer>>> {
        Ok(Some(Box::new(NativeWriter { bags: root.join("bags") })))
    }
}

struct NativeWriter {
    bags: PathBuf,
}

impl Writer for NativeWriter {
    fn add(&mut self, bag: &Exchange) -> Result<()> {
        // Our own bags stay what their owner chose; what other programs store becomes half, as training reads it.
        let values = if bag.header.is_some() { bag.values.clone() } else { half(bag)? };
        let plan = plan(bag)?;
        let origin = match &bag.header {
            Some(header) => header.origin.clone(),
            None => Origin {
                encoder: missing(bag.encoder.clone(), "encoder", "--encoder-name")?,
                weights: "external".to_owned(),
                computed: None,
            },
        };
        bag::write_values(&self.bags.join(format!("{}.h5", bag.id)), &plan, &values, bag.width, &origin, None)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

fn half(bag: &Exchange) -> Result<Values> {
    let (values, error) = bag.values.to_half()?;
    if error > 0.0 {
        tracing::info!("{}: single precision became half, largest relative error {error:.1e}", bag.id);
    }
    Ok(Values::Half(values))
}

/// A plan of the tiles, as far as it is known: read from level 0, as large as their footprint.
fn plan(bag: &Exchange) -> Result<Plan> {
    let mpp = missing(bag.mpp, "pixel size", "--slide-mpp (µm per level-0 pixel)")?;
    let side = missing(bag.side_level0_px, "tiles' footprint", "--side-level0 (level-0 pixels)")?;
    let tile_px = missing(bag.tile_px, "tile size", "--tile-px (pixels that the encoder was given)")?;
    let coords = bag.coords.clone();
    let canvas = bag.canvas(side)?;
    let tile_mpp = f64::from(side) * mpp.mean() / f64::from(tile_px);
    let (window, file, digest, source, fingerprint) = match &bag.header {
        Some(header) => {
            (header.window.clone(), header.slide_file.clone(), header.slide_digest.clone(), header.mpp_source.clone(), header.fingerprint)
        }
        None => (
            Window {
                level: 0,
                level_downsample: 1.0,
                read_px: side,
                tile_px,
                side_level0_px: side,
                step_level0_px: bag.step_level0_px(side),
                mpp_requested: tile_mpp,
                mpp_true: tile_mpp,
                residual: 0.0,
                reader: Reader::OpenSlide,
                decode_scale: 1,
            },
            bag.id.clone(),
            "external".to_owned(),
            "external".to_owned(),
            None,
        ),
    };
    Ok(Plan {
        slide_id: bag.id.clone(),
        slide_file: file,
        slide_digest: digest,
        canvas,
        bounds: bag.header.as_ref().and_then(|header| header.bounds),
        mpp,
        mpp_source: source,
        window,
        fingerprint,
        tissue: vec![1.0; coords.len()],
        coords,
    })
}
