//! All integration tests in one binary: one link against libtorch. Every test owns its directory.

mod data;
mod metrics;
