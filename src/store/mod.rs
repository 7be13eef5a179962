//! Everything that touches the disk: whole-or-absent files, run folders, bags, weights, tables.

pub mod annotations;
pub mod bag;
mod checkpoint;
pub mod coords;
pub mod digest;
pub mod files;
pub mod history;
pub mod identity;
mod pickle;
pub mod pooled;
pub mod predictions;
pub mod pseudonym;
pub mod run;
pub mod scores;
pub mod table;
pub mod tensors;
pub mod weights;
