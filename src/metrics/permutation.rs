//! Whether two runs differ at all: paired permutation test on the same items, with whole patients swapped.
//!
//! If it made no difference which run a prediction came from, exchanging the two runs' predictions of a patient would change
//! nothing but chance. Slides of one patient depend on each other and are swapped together.

use rayon::prelude::*;

use rand::RngCore;

use super::clusters::Clusters;
use crate::ground::seed;

/// Differences closer than this are equal: the same counts summed in another order.
const ROUNDING: f64 = 1e-12;

/// What [`paired`] found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Permutation {
    /// Two-sided; NaN where the difference is undefined.
    pub p: f64,
    /// Arrangements that were looked at, the one that was seen included.
    pub arrangements: usize,
    /// Whether these are all there are.
    pub exact: bool,
}

/// Share of arrangements whose difference is at least as large as the one seen, in either direction.
///
/// `groups [N]` names each row's patient. `difference` gets a flag for each row, whether the two runs' predictions are
/// exchanged there, and gives the first run's score minus the second's. All 2^patients arrangements are enumerated where
/// they are at most `resamples`; otherwise `resamples` random ones are drawn and the one seen is counted as one more
/// (Phipson & Smyth 2010), so that p is never 0. The same seed draws the same swaps on any number of threads.
// METHOD: an arrangement whose difference is undefined counts as at least as large: it can only make p larger.
pub fn paired(groups: &[String], resamples: usize, seed: u64, difference: impl Fn(&[bool]) -> Option<f64> + Sync) -> Permutation {
    let clusters = Clusters::new(groups);
    let all = u32::try_from(clusters.count).ok().and_then(|patients| 1usize.checked_shl(patients)).filter(|&all| all <= resamples);
    let exact = all.is_some();
    let arrangements = all.unwrap_or(resamples + 1);
    let seen = difference(&vec![false; groups.len()]).filter(|seen| seen.is_finite());
    let Some(seen) = seen else { return Permutation { p: f64::NAN, arrangements, exact } };

    let base = seed::stream(seed, "permutation");
    let scratch = || (vec![false; clusters.count], vec![false; groups.len()]);
    let as_large = |(of_patient, of_row): &mut (Vec<bool>, Vec<bool>), arrangement: usize| {
        if exact {
            of_patient.iter_mut().enumerate().for_each(|(patient, swap)| *swap = arrangement >> patient & 1 == 1);
        } else {
            let mut random = base.clone();
            random.set_stream(arrangement as u64);
            of_patient.iter_mut().for_each(|swap| *swap = random.next_u32() & 1 == 1);
        }
        clusters.spread(of_patient, of_row);
        difference(of_row).is_none_or(|found| found.is_nan() || found.abs() >= seen.abs() - ROUNDING)
    };
    let drawn = if exact { arrangements } else { resamples };
    let count = (0..drawn).into_par_iter().map_init(scratch, as_large).filter(|&large| large).count();
    Permutation { p: (count + usize::from(!exact)) as f64 / arrangements as f64, arrangements, exact }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean over rows of first − second, with exchanged rows' signs turned.
    fn mean_difference(of_row: &[f64]) -> impl Fn(&[bool]) -> Option<f64> + Sync {
        |swapped: &[bool]| Some(of_row.iter().zip(swapped).map(|(d, &swap)| if swap { -d } else { *d }).sum::<f64>() / of_row.len() as f64)
    }

    fn patients(of_row: &[usize]) -> Vec<String> {
        of_row.iter().map(|patient| format!("p{patient}")).collect()
    }

    #[test]
    fn four_patients_are_enumerated() {
        // Signs of 1, 2, 3, 4: |sum| ≥ 8 for +1+2+3+4 = 10, −1+2+3+4 = 8 and their mirrors; the one seen is 8.
        let found = paired(&patients(&[0, 1, 2, 3]), 16, 0, mean_difference(&[-1.0, 2.0, 3.0, 4.0]));
        assert_eq!(found, Permutation { p: 4.0 / 16.0, arrangements: 16, exact: true });
        assert!(!paired(&patients(&[0, 1, 2, 3]), 15, 0, mean_difference(&[-1.0, 2.0, 3.0, 4.0])).exact);
    }

    #[test]
    fn slides_of_a_patient_are_swapped_together() {
        let found = paired(&patients(&[0, 0, 1, 1]), 100, 0, mean_difference(&[1.0; 4]));
        assert_eq!((found.p, found.arrangements), (0.5, 4), "as independent slides p would be 2/16");
    }

    #[test]
    fn drawing_comes_near_enumerating_and_never_to_zero() {
        let (of_row, groups) = ((1..=10).map(|i| f64::from(i) - 3.5).collect::<Vec<_>>(), patients(&(0..10).collect::<Vec<_>>()));
        let exact = paired(&groups, 1024, 0, mean_difference(&of_row));
        let drawn = paired(&groups, 1023, 0, mean_difference(&of_row));
        assert!(exact.exact && !drawn.exact && drawn.arrangements == 1024);
        // Three standard errors of a share of 1023.
        assert!((exact.p - drawn.p).abs() < 3.0 * (exact.p * (1.0 - exact.p) / 1023.0).sqrt(), "{exact:?} {drawn:?}");
        let clear = paired(&patients(&(0..40).collect::<Vec<_>>()), 199, 0, mean_difference(&[1.0; 40]));
        assert_eq!(clear.p, 1.0 / 200.0);
    }

    #[test]
    fn no_difference_and_no_definition() {
        let groups = patients(&(0..30).collect::<Vec<_>>());
        assert_eq!(paired(&groups, 50, 0, mean_difference(&[0.0; 30])).p, 1.0);
        assert!(paired(&groups, 50, 0, |_| None).p.is_nan());
        let once = |swapped: &[bool]| swapped.iter().all(|swap| !swap).then_some(1.0);
        assert_eq!(paired(&groups, 50, 0, once).p, 1.0, "undefined arrangements count against a difference");
    }

    #[test]
    fn threads_change_nothing() {
        let of_row: Vec<f64> = (0..60).map(|i| f64::from(i % 7) - 2.5).collect();
        let groups = patients(&(0..60).collect::<Vec<_>>());
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| paired(&groups, 300, 5, mean_difference(&of_row)))
        };
        assert_eq!(with(1), with(3));
    }
}
