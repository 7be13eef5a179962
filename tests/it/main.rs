//! All integration tests in one binary: one link against libtorch. Every test owns its directory.
#![allow(unreachable_pub)] // nothing is reached from outside a test binary

mod bad_input;
mod data;
mod house;
mod extract;
mod parity;
mod program;
mod report;
mod synth;
mod tile;
mod tissue;
mod train;
