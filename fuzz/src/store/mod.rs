//! The room of the annotations, without tables and HDF5.

#[path = "../../../src/store/annotations/mod.rs"]
pub(crate) mod annotations;
#[path = "../../../src/store/files.rs"]
pub(crate) mod files;
pub(crate) mod table;
