//! The learning rate over time, as a share of the initial one.

use serde::{Deserialize, Serialize};

crate::registry! {
    /// Schedules, by the `name` in `[train.schedule]`.
    pub enum ScheduleSettings {
        "constant" => Constant(Constant),
        "cosine" => Cosine(Cosine),
        "multi-step" => MultiStep(MultiStep),
    } default "cosine"
}

/// The initial rate throughout.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Constant {}

/// Half a cosine from 1 to 0 over all epochs, per step, after a linear warm-up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cosine {
    /// Epochs of linear warm-up.
    pub warm_up: f64,
}

/// Multiplied by `factor` at each milestone epoch, effective from that epoch on (counted from 1), after a linear warm-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct MultiStep {
    /// Epochs, from 1.
    pub milestones: Vec<usize>,
    /// What the rate is multiplied by.
    pub factor: f64,
    /// Epochs of linear warm-up.
    pub warm_up: f64,
}

impl Default for MultiStep {
    fn default() -> Self {
        Self { milestones: vec![60, 120, 160], factor: 0.1, warm_up: 0.0 }
    }
}

impl ScheduleSettings {
    /// Share of the initial rate after `passed` epochs (fractional, from 0) of `epochs`.
    pub fn share(&self, passed: f64, epochs: usize) -> f64 {
        match self {
            Self::Constant(_) => 1.0,
            Self::Cosine(Cosine { warm_up }) if passed < *warm_up => passed / warm_up,
            Self::Cosine(Cosine { warm_up }) => 0.5 * (1.0 + (std::f64::consts::PI * (passed - warm_up) / (epochs as f64 - warm_up)).cos()),
            Self::MultiStep(MultiStep { warm_up, .. }) if passed < *warm_up => passed / warm_up,
            Self::MultiStep(MultiStep { milestones, factor, .. }) => {
                factor.powi(milestones.iter().filter(|&&milestone| passed + 1.0 >= milestone as f64).count() as i32)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_meets_the_golden_values() {
        let rate = |passed| 1e-4 * ScheduleSettings::default().share(passed, 50);
        assert_eq!(rate(0.0), 1e-4);
        assert!((rate(25.0) - 5e-5).abs() < 1e-12);
        assert!((rate(49.9) - 9.87e-10).abs() < 1e-12);
    }

    #[test]
    fn steps_take_effect_at_the_milestone_epoch() {
        let schedule = ScheduleSettings::MultiStep(MultiStep { factor: 0.2, warm_up: 1.0, ..Default::default() });
        let rate = |epoch: f64| 0.1 * schedule.share(epoch - 1.0, 200);
        for (epoch, expected) in
            [(1.0, 0.0), (2.0, 0.1), (59.0, 0.1), (60.0, 0.02), (119.0, 0.02), (120.0, 0.004), (160.0, 0.0008), (200.0, 0.0008)]
        {
            assert!((rate(epoch) - expected).abs() < 1e-12, "epoch {epoch}");
        }
    }
}
