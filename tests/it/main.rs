//! All integration tests in one binary: one link against libtorch. Every test owns its directory.
#![allow(unreachable_pub)] // nothing is reached from outside a test binary
#![allow(clippy::print_stderr)] // tests say what they skipped

mod aggregators;
mod annotations;
mod bad_input;
mod bags;
#[path = "../bench/bigtiff.rs"]
#[allow(dead_code)] // what only the benchmark asks of it
mod bigtiff;
mod cifar;
mod classic;
mod cohort;
mod data;
mod doctor;
mod encoders;
mod executors;
mod exhibits;
mod extract;
mod faults;
mod formats;
mod gpu_check;
mod heatmap;
mod house;
mod image_folder;
mod install;
mod leaks;
mod leases;
mod losses;
mod ncmi;
mod oracle;
mod oracle_weights;
mod parallel;
mod parity;
mod pickles;
mod pipeline;
mod privacy;
mod probe;
mod program;
mod report;
mod report_page;
mod resume;
mod shards;
mod show;
mod slides;
mod split;
mod synth;
mod tile;
mod tissue;
mod train;
mod verify;
mod view;
#[path = "../bench/visitor.rs"]
mod visitor;
mod weights;
