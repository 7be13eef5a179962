//! Free-response ROC: how many lesions are found at how many false positives a slide.
//!
//! Source: Bejnordi et al., JAMA 2017 (CAMELYON16): the score is the mean sensitivity at ¼, ½, 1, 2, 4 and 8 false positives a slide.

/// Mean false positives a slide at which CAMELYON16 asks for the sensitivity.
pub const FALSE_POSITIVES: [f64; 6] = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0];

/// A place that a model points at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Higher is surer.
    pub score: f64,
    /// The lesion that the place is in, numbered over all slides; `None` for a false positive.
    pub lesion: Option<usize>,
}

/// Share of `lesions` that are found at no more than each of [`FALSE_POSITIVES`] on average over `slides`; `None` without lesions.
///
/// A lesion is found by its surest detection, and further ones in it count neither way. Detections of equal score are taken together.
pub fn sensitivities(mut detections: Vec<Detection>, lesions: usize, slides: usize) -> Option<[f64; 6]> {
    if lesions == 0 || slides == 0 {
        return None;
    }
    detections.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut found = vec![false; lesions];
    let (mut hits, mut misses) = (0usize, 0usize);
    let mut shares = [0.0; 6];
    for level in detections.chunk_by(|a, b| a.score == b.score) {
        for detection in level {
            match detection.lesion {
                Some(lesion) if !found[lesion] => {
                    found[lesion] = true;
                    hits += 1;
                }
                Some(_) => {}
                None => misses += 1,
            }
        }
        for (share, most) in shares.iter_mut().zip(FALSE_POSITIVES) {
            if misses as f64 / slides as f64 <= most {
                *share = hits as f64 / lesions as f64;
            }
        }
    }
    Some(shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(score: f64, lesion: Option<usize>) -> Detection {
        Detection { score, lesion }
    }

    #[test]
    fn lesions_are_found_once_and_ties_count_together() {
        let detections = vec![at(0.2, Some(1)), at(0.9, Some(0)), at(0.8, Some(0)), at(0.5, None), at(0.5, Some(2)), at(0.1, None)];
        // Two slides: one false positive is a half of one a slide.
        let shares = sensitivities(detections, 4, 2).unwrap();
        assert_eq!(shares, [0.25, 0.75, 0.75, 0.75, 0.75, 0.75]);
    }

    #[test]
    fn nothing_to_find_has_no_score() {
        assert_eq!(sensitivities(vec![at(1.0, None)], 0, 3), None);
        assert_eq!(sensitivities(Vec::new(), 2, 1), Some([0.0; 6]));
    }
}
