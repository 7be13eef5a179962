//! Everything that touches the disk: whole-or-absent files, run folders, bags, weights, tables.

pub mod annotations;
mod archive;
pub mod bag;
mod checkpoint;
pub mod coords;
pub mod digest;
pub mod files;
pub mod formats;
pub mod history;
pub mod identity;
pub mod library;
mod located;
pub mod matlab;
pub mod part;
mod pickle;
pub mod pickled;
pub mod pooled;
pub mod predictions;
pub mod pseudonym;
mod published;
pub mod run;
pub mod scores;
pub mod table;
pub mod tensors;
pub mod values;
pub mod weights;
