//! Whether the HDF5 library that is linked does what it should.

use std::path::Path;

use anyhow::{Result, ensure};
use half::f16;

use super::locking;

/// Such as `1.14.6`.
pub fn hdf5_version() -> String {
    let (major, minor, micro) = hdf5::library_version();
    format!("{major}.{minor}.{micro}")
}

/// Writes some half-precision numbers into a file of `folder` and reads them back, as every stage does: with the file system's locks or,
/// where it refuses them, without. The file stays.
///
/// # Errors
/// The library's own; other numbers than were written.
pub fn round_trip(folder: &Path) -> Result<()> {
    let path = folder.join("numbers.h5");
    let numbers: Vec<f16> = (0..256).map(|number| f16::from_f32(number as f32 / 7.0)).collect();
    let file = locking::create(|builder| builder.create(&path))?;
    file.new_dataset::<f16>().shape(numbers.len()).create("numbers")?.write_raw(&numbers)?;
    file.close()?;
    let read = locking::open(&path)?.dataset("numbers")?.read_raw::<f16>()?;
    ensure!(read == numbers, "numbers come back changed");
    Ok(())
}
