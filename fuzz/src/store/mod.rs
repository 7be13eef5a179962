//! The room of the annotations, without tables and HDF5.

#[path = "../../../src/store/annotations/mod.rs"]
pub(crate) mod annotations;
#[path = "../../../src/store/files.rs"]
pub(crate) mod files;
pub(crate) mod table;

#[path = "../../../src/store/archive.rs"]
mod archive;
#[path = "../../../src/store/checkpoint.rs"]
mod checkpoint;
#[path = "../../../src/store/located.rs"]
mod located;
#[path = "../../../src/store/pickle/mod.rs"]
mod pickle;

/// One pickle.
pub(crate) fn read_pickle(bytes: &[u8]) {
    if let Ok(pickle) = pickle::parse(bytes) {
        assert!(pickle.length <= bytes.len());
    }
}

/// A whole checkpoint: its tensors, and their numbers where they are not many times the file.
pub(crate) fn read_checkpoint(bytes: &[u8]) {
    let mut source = std::io::Cursor::new(bytes);
    let Ok(found) = checkpoint::open(&mut source) else { return };
    for tensor in found.tensors.values() {
        assert!(tensor.size() <= bytes.len() as u64);
        assert_eq!(tensor.bytes(&mut source).unwrap().len() as u64, tensor.size());
    }
}
