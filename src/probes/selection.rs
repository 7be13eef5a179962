//! Which candidate a probe takes: the best on the validation rows, never on the test rows.

use std::collections::BTreeMap;

use crate::store::scores::Selection;

/// Place of the candidate to take, and the record of the choice. `scores`: macro-F1 of each on the validation rows, NaN for a
/// fit that failed; `None` without validation rows, where the first candidate is taken.
// METHOD: ties go to the earlier candidate, so a grid is written from the preferred value on.
pub(super) fn select(candidates: Vec<BTreeMap<String, f64>>, scores: Option<&[f64]>) -> (usize, Selection) {
    let mut best = 0;
    if let Some(scores) = scores {
        for (index, &score) in scores.iter().enumerate() {
            if score > scores[best] || scores[best].is_nan() {
                best = index;
            }
        }
    }
    let selection = Selection {
        chosen: candidates[best].clone(),
        candidates: candidates.len(),
        by: if scores.is_some() { "macro-F1 on the validation rows" } else { "the settings: there are no validation rows" }.to_owned(),
        validation_macro_f1: scores.map(|scores| scores[best]).filter(|score| score.is_finite()),
    };
    (best, selection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_best_is_taken_and_failures_never_are() {
        let candidates = || (0..4).map(|k| BTreeMap::from([("k".to_owned(), f64::from(k))])).collect::<Vec<_>>();
        let (place, selection) = select(candidates(), Some(&[f64::NAN, 0.5, 0.7, 0.7]));
        assert_eq!((place, selection.chosen["k"], selection.candidates, selection.validation_macro_f1), (2, 2.0, 4, Some(0.7)));
        let (place, selection) = select(candidates(), None);
        assert_eq!((place, selection.validation_macro_f1), (0, None));
        assert!(selection.by.contains("no validation rows"));
    }
}
