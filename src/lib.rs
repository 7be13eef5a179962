//! `wsi`: whole slides in, trustworthy numbers out.
//!
//! The river: slides → tiles → features → bags → a model with a loss → predictions → scores → a report.
//! `docs/architecture.md` draws the rooms and who may import whom.

pub mod registry;

pub mod cli;
pub mod config;
pub mod encoders;
pub mod ground;
pub mod losses;
pub mod slides;
pub mod stages;
pub mod store;
pub mod synth;
pub mod tiling;
pub mod tissue;
