//! Scores on plain slices, in f64: how right, how well ordered, how well calibrated, how concentrated, and how sure we are of it.
//!
//! Labels and predictions are class indices below C; probabilities are rows `[N][C]`. What is undefined is `None` or NaN,
//! never a number that stands for nothing. [`panel`] gathers everything about one scored test set.

pub mod agreement;
pub mod auc;
pub mod average_precision;
pub mod bootstrap;
pub mod calibration;
pub mod classification;
mod clusters;
pub mod correlation;
pub mod delong;
pub mod froc;
pub mod holm;
pub mod information;
pub mod normal;
pub mod panel;
pub mod permutation;
pub mod ranking;
pub mod spread;
pub mod student;
