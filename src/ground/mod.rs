//! What every room stands on: shapes, units, seeds, progress. Imports nothing of the crate.

pub mod batch;
pub mod coverage;
pub mod device;
pub mod distributions;
pub mod fingerprint;
pub mod interrupt;
pub mod interval;
pub mod libtorch;
pub mod linear;
pub mod listing;
pub mod memory;
pub mod nearness;
pub mod nvidia;
pub mod plan;
pub mod polygon;
pub mod progress;
pub mod reader;
pub mod seed;
pub mod shard;
pub mod share;
pub mod tile_filter;
pub mod tile_status;
pub mod units;
pub mod usage;
pub mod volume;
