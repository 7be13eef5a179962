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

/// Half a cosine from 1 to 0 over all epochs after a linear warm-up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cosine {
    /// Epochs of linear warm-up.
    pub warm_up: f64,
    /// Whether the rate changes between epochs only, not with every step.
    pub per_epoch: bool,
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
        let warm_up = match self {
            Self::Constant(_) => 0.0,
            Self::Cosine(Cosine { warm_up, .. }) | Self::MultiStep(MultiStep { warm_up, .. }) => *warm_up,
        };
        if passed < warm_up { passed / warm_up } else { self.share_without_warm_up(passed, epochs) }
    }

    /// [`Self::share`] for what is not warmed up, such as the centroids of NCMI; 1 during the warm-up.
    pub fn share_without_warm_up(&self, passed: f64, epochs: usize) -> f64 {
        match self {
            Self::Constant(_) => 1.0,
            Self::Cosine(Cosine { warm_up, per_epoch }) => {
                let passed = if *per_epoch { passed.floor() } else { passed };
                let done = ((passed - warm_up) / (epochs as f64 - warm_up)).max(0.0);
                0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
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
    fn a_cosine_per_epoch_holds_still_within_one() {
        let schedule = ScheduleSettings::Cosine(Cosine { warm_up: 2.0, per_epoch: true });
        assert_eq!((schedule.share(0.0, 10), schedule.share(1.0, 10), schedule.share(2.0, 10)), (0.0, 0.5, 1.0));
        assert_eq!(schedule.share(6.0, 10), schedule.share(6.9, 10));
        assert!((schedule.share(6.0, 10) - 0.5).abs() < 1e-12);
        assert_eq!(schedule.share_without_warm_up(0.0, 10), 1.0);
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
        assert_eq!(schedule.share_without_warm_up(0.5, 200), 1.0, "centroids are not warmed up");
    }
}
