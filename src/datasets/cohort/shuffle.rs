//! The control with shuffled labels: what a model scores that cannot have learnt anything.

use std::collections::BTreeMap;

use rand::seq::SliceRandom;

use super::Labelled;
use crate::ground::seed;

/// Every patient gets the labels of one other patient, chosen by a random permutation of patients.
///
/// METHOD: shuffling slides one by one would break the likeness of a patient's slides and make the control too easy to fail.
pub(super) fn shuffle(slides: &mut [Labelled], seed: u64, stream: u64) {
    let mut labels: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for slide in slides.iter() {
        labels.entry(slide.patient.clone()).or_default().push(slide.target);
    }
    let mut donors: Vec<Vec<i64>> = labels.values().cloned().collect();
    donors.shuffle(&mut seed::stream(seed, &format!("shuffle-labels/{stream}")));
    let donors: BTreeMap<String, Vec<i64>> = labels.into_keys().zip(donors).collect();
    let mut given: BTreeMap<String, usize> = BTreeMap::new();
    for slide in slides {
        let turn = given.entry(slide.patient.clone()).or_default();
        let donor = &donors[&slide.patient];
        slide.target = donor[*turn % donor.len()];
        *turn += 1;
    }
}
