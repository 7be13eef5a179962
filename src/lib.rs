//! `wsi`: whole slides in, trustworthy numbers out.
//!
//! The river: slides → tiles → features → bags → a model with a loss → predictions → scores → a report.
//! `docs/architecture.md` draws the rooms and who may import whom.

pub mod registry;

pub mod aggregators;
pub mod cli;
pub mod config;
pub mod datasets;
pub mod encoders;
pub mod ground;
pub mod learn;
pub mod losses;
pub mod metrics;
pub mod model;
pub mod pipeline;
pub mod probes;
pub mod render;
pub mod slides;
pub mod stages;
pub mod store;
pub mod synth;
pub mod tiling;
pub mod tissue;
pub mod torch;
