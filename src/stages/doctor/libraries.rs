//! Whether the libraries are there and compute what they should.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use tch::{Device, Kind, Tensor};

use super::{Finding, Patient, error, ok, warning};
use crate::ground::units::{Coord, Size};
use crate::slides::{self, ReaderChoice};
use crate::stages::one_line;
use crate::store::library;
use crate::synth::{self, CohortSettings};
use crate::torch::version;

/// Largest mean difference of the two readers' pixels, levels of 255: their JPEG decoders round differently.
const READERS_AGREE: f64 = 2.0;

pub(super) fn check(_: &Patient) -> Vec<Finding> {
    vec![ok("program", format!("wsi {}", env!("CARGO_PKG_VERSION"))), libtorch(), openslide(), hdf5()]
}

fn libtorch() -> Finding {
    let kernels = version::kernels().unwrap_or_else(|error| error.to_string());
    let seen = format!("{}, {kernels} kernels{}", version::version(), if tch::utils::has_mkl() { ", MKL" } else { "" });
    match multiplies(Device::Cpu) {
        Err(wrong) => error("libtorch", format!("{seen}; {wrong}"), "install the libtorch that this program was built with"),
        Ok(()) if kernels == "DEFAULT" => warning(
            "libtorch",
            format!("{seen}: no AVX2, so that networks run many times slower"),
            "run on a processor with AVX2, or unset ATEN_CPU_CAPABILITY",
        ),
        Ok(()) => ok("libtorch", seen),
    }
}

/// Whether a product of matrices is exact on a device.
pub(super) fn multiplies(device: Device) -> Result<(), String> {
    const SIDE: i64 = 64;
    let multiply = || -> Result<bool, tch::TchError> {
        // Whole numbers, so that every precision and order of sums gives the same.
        let ramp = Tensor::f_arange(SIDE, (Kind::Float, device))?.f_view([SIDE, 1])?.f_remainder(4.0)?;
        let product = ramp.f_matmul(&Tensor::f_ones([1, SIDE], (Kind::Float, device))?)?.f_sum(Kind::Float)?;
        Ok(f64::try_from(&product)? == (SIDE / 4 * (1 + 2 + 3) * SIDE) as f64)
    };
    match multiply() {
        Ok(true) => Ok(()),
        Ok(false) => Err("a product of matrices is wrong".to_owned()),
        Err(error) => Err(error.to_string().lines().next().unwrap_or_default().to_owned()),
    }
}

fn openslide() -> Finding {
    let seen = slides::openslide_version().unwrap_or_else(|| "of unknown version".to_owned());
    match in_scratch(reads_a_slide) {
        Ok(()) => ok("OpenSlide", seen),
        Err(wrong) => {
            error("OpenSlide", format!("{seen}; {}", one_line(&wrong)), "install OpenSlide 4.0 or newer, and give TMPDIR some space")
        }
    }
}

/// Both readers open a synthetic slide and see the same.
fn reads_a_slide(folder: &Path) -> Result<()> {
    let cohort = synth::cohort(&CohortSettings::default())?;
    let path = folder.join("slide.tif");
    std::fs::write(&path, synth::render(cohort.first().context("no slide")?, 0)?)?;
    let size = Size { width: 256, height: 256 };
    let read = |reader| -> Result<Vec<u8>> {
        let slide = slides::open_with(&path, reader)?;
        let canvas = slide.geometry().canvas();
        let at = Coord { x: i64::from(canvas.width / 2), y: i64::from(canvas.height / 2) };
        Ok(slide.read(at, size, 0)?.into_raw())
    };
    let (one, other) = (read(ReaderChoice::OpenSlide)?, read(ReaderChoice::JpegTiles)?);
    let apart = one.iter().zip(&other).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / one.len() as f64;
    ensure!(one.len() == other.len() && apart <= READERS_AGREE, "the two readers see different pixels, {apart:.1} levels apart");
    Ok(())
}

fn hdf5() -> Finding {
    let seen = library::hdf5_version();
    match in_scratch(library::round_trip) {
        Ok(()) => ok("HDF5", seen),
        Err(wrong) => error("HDF5", format!("{seen}; {}", one_line(&wrong)), "give TMPDIR some space; else report it with this line"),
    }
}

/// Runs in a folder of its own in the temporary folder, which is gone afterwards.
fn in_scratch(work: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let folder = tempfile::tempdir().map_err(|error| anyhow::anyhow!("the temporary folder cannot be written: {}", error.kind()))?;
    work(folder.path())
}
