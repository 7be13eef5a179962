//! How sure a score is: bootstrap that resamples patients, not slides.
//!
//! Slides of one patient resemble each other; resampling slides would count the same evidence several times and give
//! intervals that are too narrow. Efron & Tibshirani 1993, ch. 13 (percentile) and 14.3 (BCa); Davison & Hinkley 1997,
//! §3.8 (clusters).

use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::clusters::Clusters;
use super::normal;
use crate::ground::interval::{Interval, Unbounded};
use crate::ground::seed;

/// Resamples that reports use.
pub const RESAMPLES: usize = 2000;
/// Bounds of a 95 % interval.
const SHARES: [f64; 2] = [0.025, 0.975];
/// Values closer than this are equal: the same counts summed in another order.
const ROUNDING: f64 = 1e-12;

/// How the bounds are read off the resampled values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bounds {
    /// Their 2.5 % and 97.5 % quantiles.
    #[default]
    Percentile,
    /// Bias-corrected and accelerated (Efron 1987): other quantiles, where the values lie to one side of the score and
    /// where their spread changes with it. The acceleration leaves out one patient at a time.
    Bca,
}

/// How intervals are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bootstrap {
    /// How the bounds are read off the resampled values.
    pub bounds: Bounds,
    /// Number of resamples.
    pub resamples: usize,
    /// The same seed draws the same patients, whatever the statistic and the number of threads.
    pub seed: u64,
}

impl Bootstrap {
    /// The method in words, for outputs.
    pub fn description(&self) -> String {
        let bounds = match self.bounds {
            Bounds::Percentile => "percentile",
            Bounds::Bca => "BCa (bias-corrected and accelerated)",
        };
        format!("95 % patient-clustered {bounds} bootstrap, {} resamples", self.resamples)
    }

    /// The statistic on all rows with its 95 % interval. `groups [N]` names each row's patient; whole patients are drawn.
    ///
    /// `statistic` gets how many times each row stands in the resample, `[N]`; `None` or NaN leaves the resample out. The
    /// interval says why it has no bounds.
    pub fn clustered(&self, groups: &[String], statistic: impl Fn(&[u32]) -> Option<f64> + Sync) -> Interval {
        let statistic = |times: &[u32]| statistic(times).filter(|value| value.is_finite());
        let value = statistic(&vec![1; groups.len()]).unwrap_or(f64::NAN);
        let clusters = Clusters::new(groups);
        if clusters.count < 2 {
            return Interval::without_bounds(value, 0, Unbounded::OnePatient);
        }
        let mut values: Vec<f64> = self.resampled(&clusters, groups.len(), &statistic).into_iter().flatten().collect();
        values.sort_by(f64::total_cmp);
        if values.is_empty() {
            return Interval::without_bounds(value, 0, Unbounded::NeverDefined);
        }
        let shares = match self.bounds {
            Bounds::Percentile => Some(SHARES),
            Bounds::Bca => bca_shares(&values, value, &leave_one_out(&clusters, groups.len(), statistic)),
        };
        match shares {
            Some([low, high]) => Interval {
                low: quantile(&values, low),
                high: quantile(&values, high),
                resamples_used: values.len(),
                ..Interval::point(value)
            },
            None => Interval::without_bounds(value, values.len(), Unbounded::TooSkewed),
        }
    }

    /// A curve on a fixed grid with its pointwise 95 % interval; `curve` gives `[points]` for what [`Self::clustered`]'s statistic gets, NaN
    /// where it is undefined. The same patients are drawn as there. Memory: 8 bytes a point and resample.
    // METHOD: percentile bounds whatever `bounds` says: BCa has a pole of its own at each point, and a band with holes says less.
    pub fn pointwise(&self, groups: &[String], curve: impl Fn(&[u32]) -> Vec<f64> + Sync) -> Vec<Interval> {
        let whole = curve(&vec![1; groups.len()]);
        let clusters = Clusters::new(groups);
        if clusters.count < 2 {
            return whole.into_iter().map(|value| Interval::without_bounds(value, 0, Unbounded::OnePatient)).collect();
        }
        let all = self.resampled(&clusters, groups.len(), &curve);
        let at = |(point, value): (usize, f64)| {
            let mut values: Vec<f64> = all.iter().map(|curve| curve[point]).filter(|value| value.is_finite()).collect();
            values.sort_by(f64::total_cmp);
            if values.is_empty() {
                return Interval::without_bounds(value, 0, Unbounded::NeverDefined);
            }
            let [low, high] = SHARES.map(|share| quantile(&values, share));
            Interval { low, high, resamples_used: values.len(), ..Interval::point(value) }
        };
        whole.into_iter().enumerate().map(at).collect()
    }

    /// What `of` makes of each resample, in order.
    fn resampled<T: Send>(&self, clusters: &Clusters, rows: usize, of: &(impl Fn(&[u32]) -> T + Sync)) -> Vec<T> {
        let base = seed::stream(self.seed, "bootstrap");
        let scratch = || (vec![0; clusters.count], vec![0; rows]);
        let one = |(of_patient, of_row): &mut (Vec<u32>, Vec<u32>), resample: usize| {
            // A stream for each resample: threads cannot change what is drawn.
            let mut random = base.clone();
            random.set_stream(resample as u64);
            of_patient.fill(0);
            (0..clusters.count).for_each(|_| of_patient[random.random_range(0..clusters.count as u32) as usize] += 1);
            clusters.spread(of_patient, of_row);
            of(of_row)
        };
        (0..self.resamples).into_par_iter().map_init(scratch, one).collect()
    }

    /// `first − second` on the same rows in the same resamples: patients that are hard for both cancel.
    pub fn paired_difference(
        &self,
        groups: &[String],
        first: impl Fn(&[u32]) -> Option<f64> + Sync,
        second: impl Fn(&[u32]) -> Option<f64> + Sync,
    ) -> Interval {
        self.clustered(groups, |times| Some(first(times)? - second(times)?))
    }
}

/// The statistic without each patient in turn; a patient without whom it is undefined is left out.
fn leave_one_out(clusters: &Clusters, rows: usize, statistic: impl Fn(&[u32]) -> Option<f64> + Sync) -> Vec<f64> {
    let scratch = || (vec![1; clusters.count], vec![0; rows]);
    let one = |(of_patient, of_row): &mut (Vec<u32>, Vec<u32>), patient: usize| {
        of_patient[patient] = 0;
        clusters.spread(of_patient, of_row);
        of_patient[patient] = 1;
        statistic(of_row)
    };
    (0..clusters.count).into_par_iter().map_init(scratch, one).flatten_iter().collect()
}

/// Which quantiles of the sorted resamples bound the BCa interval (Efron & Tibshirani 1993, eqs 14.10, 14.14 and 14.15).
/// `None` where every resample lies on one side of the value, or the formula has passed its pole.
// METHOD: resamples equal to the value count one half below it; scores of few slides take few values.
fn bca_shares(sorted: &[f64], value: f64, left_out: &[f64]) -> Option<[f64; 2]> {
    let below = sorted.iter().filter(|resampled| **resampled < value - ROUNDING).count() as f64;
    let level = sorted.iter().filter(|resampled| (**resampled - value).abs() <= ROUNDING).count() as f64;
    let bias = normal::quantile((below + level / 2.0) / sorted.len() as f64);
    let acceleration = acceleration(left_out);
    Some([bca_share(bias, acceleration, SHARES[0])?, bca_share(bias, acceleration, SHARES[1])?])
}

fn bca_share(bias: f64, acceleration: f64, nominal: f64) -> Option<f64> {
    let moved = bias + normal::quantile(nominal);
    let stretch = 1.0 - acceleration * moved;
    (bias.is_finite() && stretch > 0.0).then(|| normal::cdf(bias + moved / stretch))
}

/// Σ d³ / 6 (Σ d²)^1.5, d the mean of the values less each of them; 0 where they do not differ.
fn acceleration(left_out: &[f64]) -> f64 {
    let mean = left_out.iter().sum::<f64>() / left_out.len() as f64;
    let sum = |power| left_out.iter().map(|value| (mean - value).powi(power)).sum::<f64>();
    let squares = sum(2);
    if squares > ROUNDING * ROUNDING * left_out.len() as f64 { sum(3) / (6.0 * squares.powf(1.5)) } else { 0.0 }
}

/// Linear interpolation between order statistics (Hyndman & Fan's type 7); `sorted` is not empty.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len() - 1;
    let position = share * last as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (position - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percentile(resamples: usize, seed: u64) -> Bootstrap {
        Bootstrap { bounds: Bounds::Percentile, resamples, seed }
    }

    fn mean_of(values: &[f64]) -> impl Fn(&[u32]) -> Option<f64> + Sync {
        |times: &[u32]| {
            let count: u32 = times.iter().sum();
            Some(values.iter().zip(times).map(|(value, &times)| value * f64::from(times)).sum::<f64>() / f64::from(count))
        }
    }

    /// Row i belongs to patient i / slides.
    fn patients(rows: usize, slides: usize) -> Vec<String> {
        (0..rows).map(|row| format!("p{:03}", row / slides)).collect()
    }

    #[test]
    fn the_interval_of_a_mean_is_near_its_normal_one() {
        let values: Vec<f64> = (0..200).map(|i| f64::from(i % 10)).collect();
        let found = percentile(2000, 1).clustered(&patients(200, 1), mean_of(&values));
        let half = 1.96 * (8.25f64 / 200.0).sqrt();
        assert_eq!((found.value, found.resamples_used), (4.5, 2000));
        assert!((found.low - (4.5 - half)).abs() < 0.05 && (found.high - (4.5 + half)).abs() < 0.05, "{found}");
    }

    #[test]
    fn copies_of_a_patients_slides_are_no_new_evidence() {
        let once: Vec<f64> = (0..40).map(|i| f64::from(i % 4)).collect();
        let thrice: Vec<f64> = once.iter().flat_map(|value| [*value; 3]).collect();
        for bounds in [Bounds::Percentile, Bounds::Bca] {
            let bootstrap = Bootstrap { bounds, resamples: 500, seed: 1 };
            let single = bootstrap.clustered(&patients(40, 1), mean_of(&once));
            let copied = bootstrap.clustered(&patients(120, 3), mean_of(&thrice));
            assert!((single.low - copied.low).abs() < 1e-12 && (single.high - copied.high).abs() < 1e-12);
        }
    }

    #[test]
    fn what_is_hard_for_both_cancels_in_a_paired_difference() {
        let hard: Vec<f64> = (0..60).map(|i| f64::from(i % 7)).collect();
        let harder: Vec<f64> = hard.iter().map(|value| value + 1.0).collect();
        for bounds in [Bounds::Percentile, Bounds::Bca] {
            let bootstrap = Bootstrap { bounds, resamples: 500, seed: 1 };
            let found = bootstrap.paired_difference(&patients(60, 1), mean_of(&harder), mean_of(&hard));
            assert!((found.low - 1.0).abs() < 1e-9 && (found.high - 1.0).abs() < 1e-9, "{found}");
        }
    }

    #[test]
    fn a_band_is_the_interval_at_each_point() {
        let values: Vec<f64> = (0..40).map(|i| f64::from(i * i % 11)).collect();
        let mean = mean_of(&values);
        let curve = |times: &[u32]| vec![mean(times).unwrap_or(f64::NAN), f64::NAN, 2.0];
        let band = percentile(300, 5).pointwise(&patients(40, 2), curve);
        assert_eq!(band[0], percentile(300, 5).clustered(&patients(40, 2), mean_of(&values)));
        assert_eq!((band[1].unbounded, band[2].low, band[2].high), (Some(Unbounded::NeverDefined), 2.0, 2.0));
        assert_eq!(percentile(300, 5).pointwise(&patients(2, 2), |_| vec![1.0])[0].unbounded, Some(Unbounded::OnePatient));
    }

    #[test]
    fn one_patient_has_a_value_and_no_interval() {
        let found = percentile(500, 1).clustered(&patients(2, 2), mean_of(&[0.0, 1.0]));
        assert_eq!((found.value, found.resamples_used, found.unbounded), (0.5, 0, Some(Unbounded::OnePatient)));
    }

    #[test]
    fn undefined_resamples_are_left_out_and_counted() {
        let found = percentile(400, 1).clustered(&patients(2, 1), |times| (times[0] == 1).then_some(1.0));
        assert!((150..250).contains(&found.resamples_used), "{found:?}");
        let never = percentile(400, 1).clustered(&patients(2, 1), |_| None);
        assert_eq!((never.resamples_used, never.unbounded), (0, Some(Unbounded::NeverDefined)));
    }

    #[test]
    fn the_seed_decides_and_the_threads_do_not() {
        let values: Vec<f64> = (0..30).map(f64::from).collect();
        let run = |seed, threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| percentile(300, seed).clustered(&patients(30, 1), mean_of(&values)))
        };
        assert_eq!(run(3, 1), run(3, 3));
        assert_ne!(run(3, 1), run(4, 1));
    }

    #[test]
    fn acceleration_is_a_sixth_of_the_skewness_over_the_root_of_n() {
        // Left-out means of 0, 0, 0, 4 are 4/3, 4/3, 4/3, 0; d = −1/3, −1/3, −1/3, 1.
        let expected = (24.0 / 27.0) / (6.0 * (4.0f64 / 3.0).powf(1.5));
        let clusters = Clusters::new(&patients(4, 1));
        let found = acceleration(&leave_one_out(&clusters, 4, mean_of(&[0.0, 0.0, 0.0, 4.0])));
        assert!((found - expected).abs() < 1e-12, "{found}");
        assert_eq!(acceleration(&[0.3; 5]), 0.0);
    }

    #[test]
    fn without_bias_and_acceleration_bca_is_the_percentile_interval() {
        let sorted: Vec<f64> = (-50..=50).map(f64::from).collect();
        let [low, high] = bca_shares(&sorted, 0.0, &[-1.0, 0.0, 1.0]).unwrap();
        assert!((low - 0.025).abs() < 1e-12 && (high - 0.975).abs() < 1e-12);
    }

    #[test]
    fn a_worked_bias_correction() {
        // Φ(1) of the resamples lie below the value and a = 0: the shares are Φ(2 ∓ 1.96), computed from tables.
        let below = 8413;
        let sorted: Vec<f64> = (0..10_000).map(|i| if i < below { -1.0 } else { 1.0 }).collect();
        let [low, high] = bca_shares(&sorted, 0.0, &[0.0; 3]).unwrap();
        assert!((low - 0.515_95).abs() < 1e-3 && (high - 0.999_963).abs() < 1e-5, "{low} {high}");
    }

    #[test]
    fn the_textbook_example_of_bca() {
        // Efron & Tibshirani 1993, ch. 14: the variance of the spatial test's A scores, 171.5, has â = 0.061; with their
        // ẑ₀ = 0.146 the shares of a 90 % interval are 0.110 and 0.985.
        let scores = [48, 36, 20, 29, 42, 42, 20, 42, 22, 41, 45, 14, 6, 0, 33, 28, 34, 4, 32, 24, 47, 41, 24, 26, 30, 41].map(f64::from);
        let variance = |times: &[u32]| {
            let count = f64::from(times.iter().sum::<u32>());
            let moment = |power| scores.iter().zip(times).map(|(score, &times)| score.powi(power) * f64::from(times)).sum::<f64>() / count;
            Some(moment(2) - moment(1).powi(2))
        };
        let groups = patients(26, 1);
        let acceleration = acceleration(&leave_one_out(&Clusters::new(&groups), 26, variance));
        assert!((acceleration - 0.061).abs() < 5e-4, "{acceleration}");
        for (nominal, share) in [(0.05, 0.110), (0.95, 0.985)] {
            let found = bca_share(0.146, acceleration, nominal).unwrap();
            assert!((found - share).abs() < 1e-3, "{found}");
        }
        let moved = Bootstrap { bounds: Bounds::Bca, resamples: 2000, seed: 0 }.clustered(&groups, variance);
        let plain = percentile(2000, 0).clustered(&groups, variance);
        assert!((moved.value - 171.534_023_668_639_04).abs() < 1e-9 && moved.low > plain.low && moved.high > plain.high);
    }

    #[test]
    fn bca_has_no_bounds_where_all_resamples_lie_on_one_side() {
        let smallest = |times: &[u32]| Some(f64::from(times.iter().filter(|&&times| times > 0).count() as u32));
        let found = Bootstrap { bounds: Bounds::Bca, resamples: 200, seed: 0 }.clustered(&patients(50, 1), smallest);
        assert_eq!((found.resamples_used, found.unbounded), (200, Some(Unbounded::TooSkewed)));
        assert!(!found.is_bounded());
    }

    #[test]
    fn bca_moves_towards_the_long_tail_of_a_skewed_mean() {
        let values: Vec<f64> = (1..=30).map(|i| f64::from(i).powi(3)).collect();
        let plain = percentile(2000, 0).clustered(&patients(30, 1), mean_of(&values));
        let moved = Bootstrap { bounds: Bounds::Bca, resamples: 2000, seed: 0 }.clustered(&patients(30, 1), mean_of(&values));
        assert!(moved.low > plain.low && moved.high > plain.high, "{plain} {moved}");
    }
}
