//! Golden tests: the same numbers as the reference implementations, case by case.

pub mod case;
pub mod fill;

mod aggregators;
mod encoders;
mod losses;
mod metrics;
mod preprocessing;
mod train_step;
mod vit;
