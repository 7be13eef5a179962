//! Everything that touches the disk: whole-or-absent files, run folders, bags, weights, tables.

pub mod digest;
pub mod files;
pub mod history;
pub mod pooled;
pub mod predictions;
pub mod run;
pub mod scores;
pub mod table;
