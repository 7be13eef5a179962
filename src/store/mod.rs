//! Everything that touches the disk: whole-or-absent files, run folders, bags, weights, tables.

mod checkpoint;
pub mod digest;
pub mod files;
mod pickle;
pub mod run;
pub mod table;
pub mod weights;
