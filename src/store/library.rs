//! Whether the HDF5 library that is linked does what it should.

use std::path::Path;

use anyhow::{Result, ensure};
use half::f16;

/// Such as `1.14.6`.
pub fn hdf5_version() -> String {
    let (major, minor, micro) = hdf5::library_version();
    format!("{major}.{minor}.{micro}")
}

/// Writes some half-precision numbers into a file of `folder` and reads them back; the file stays.
///
/// # Errors
/// The library's own, such as a lock that the file system refuses; other numbers than were written.
pub fn round_trip(folder: &Path) -> Result<()> {
    let path = folder.join("numbers.h5");
    let numbers: Vec<f16> = (0..256).map(|number| f16::from_f32(number as f32 / 7.0)).collect();
    let file = hdf5::File::create(&path)?;
    file.new_dataset::<f16>().shape(numbers.len()).create("numbers")?.write_raw(&numbers)?;
    file.close()?;
    let read = hdf5::File::open(&path)?.dataset("numbers")?.read_raw::<f16>()?;
    ensure!(read == numbers, "numbers come back changed");
    Ok(())
}
