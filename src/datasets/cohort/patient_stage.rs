//! The stage of a CAMELYON17 patient from the classes of five lymph nodes, and the challenge's score.
//!
//! Source: Bándi et al. 2019, the CAMELYON17 challenge; methods §6.1.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::metrics::agreement::{Disagreement, kappa};
use crate::metrics::classification::Confusion;

/// Classes of a node, in index order.
pub const NODE_CLASSES: [&str; 4] = ["negative", "itc", "micro", "macro"];
/// Nodes of a patient, one slide each.
pub const NODES: usize = 5;
/// The column that holds a patient's stage on each of the patient's slides; empty where it is not known.
pub const COLUMN: &str = "patient_stage";

/// Pathological stage, in order of severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// No node shows tumour.
    N0,
    /// Isolated tumour cells only.
    N0IsolatedCells,
    /// Micro-metastases, no macro-metastasis.
    N1Micro,
    /// A macro-metastasis; one to three nodes with metastases.
    N1,
    /// A macro-metastasis; four or more nodes with metastases.
    N2,
}

impl Stage {
    /// Every stage, in order of severity.
    pub const ALL: [Self; 5] = [Self::N0, Self::N0IsolatedCells, Self::N1Micro, Self::N1, Self::N2];

    /// As the challenge writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::N0 => "pN0",
            Self::N0IsolatedCells => "pN0(i+)",
            Self::N1Micro => "pN1mi",
            Self::N1 => "pN1",
            Self::N2 => "pN2",
        }
    }

    /// The stage that the challenge writes as `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }
}

/// The stage of a patient with so many nodes of each of the [`NODE_CLASSES`]. Isolated tumour cells are no metastasis and do not count
/// as a positive node.
pub fn patient_stage(counts: [usize; 4]) -> Stage {
    let [_, isolated, micro, makro] = counts;
    match (makro, micro + makro) {
        (0, 0) if isolated == 0 => Stage::N0,
        (0, 0) => Stage::N0IsolatedCells,
        (0, _) => Stage::N1Micro,
        (_, 1..=3) => Stage::N1,
        _ => Stage::N2,
    }
}

/// How well stages derived from predicted nodes agree with the true ones.
#[derive(Debug, Clone, PartialEq)]
pub struct StageAgreement {
    /// Cohen's kappa with quadratic weights over the five stages; NaN where every patient has one and the same stage.
    pub kappa: f64,
    /// Patient, stated stage, stage of the predicted nodes; sorted by patient.
    pub patients: Vec<(String, Stage, Stage)>,
}

/// The challenge's score of predicted node classes. All lists are `[N]`, one entry a slide; `stated` names the patient's stage,
/// `predicted` is an index into [`NODE_CLASSES`].
///
/// `None` unless every patient has exactly five nodes and one stated stage: the stage of fewer nodes is another question.
///
/// # Panics
/// Lists of different lengths.
pub fn stage_agreement(patients: &[String], stated: &[String], predicted: &[usize]) -> Option<StageAgreement> {
    assert!(patients.len() == stated.len() && patients.len() == predicted.len(), "one entry a slide in every list");
    let mut of: BTreeMap<&str, (Stage, [usize; 4])> = BTreeMap::new();
    for ((patient, stated), &class) in patients.iter().zip(stated).zip(predicted) {
        let stage = Stage::named(stated)?;
        let (first, counts) = match of.entry(patient) {
            Entry::Vacant(place) => place.insert((stage, [0; 4])),
            Entry::Occupied(place) => place.into_mut(),
        };
        if *first != stage {
            return None;
        }
        *counts.get_mut(class)? += 1;
    }
    if of.is_empty() || of.values().any(|(_, counts)| counts.iter().sum::<usize>() != NODES) {
        return None;
    }
    let patients: Vec<(String, Stage, Stage)> =
        of.into_iter().map(|(patient, (stated, counts))| (patient.to_owned(), stated, patient_stage(counts))).collect();
    let confusion = Confusion::of(patients.iter().map(|(_, stated, derived)| (*stated as usize, *derived as usize)), Stage::ALL.len());
    Some(StageAgreement { kappa: kappa(&confusion, Disagreement::Quadratic), patients })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_follow_the_rule_of_the_challenge() {
        for (counts, stage) in [
            ([5, 0, 0, 0], Stage::N0),
            ([2, 3, 0, 0], Stage::N0IsolatedCells),
            ([3, 1, 1, 0], Stage::N1Micro),
            ([0, 0, 5, 0], Stage::N1Micro),
            ([4, 0, 0, 1], Stage::N1),
            ([1, 1, 2, 1], Stage::N1),
            ([1, 0, 3, 1], Stage::N2),
            ([0, 0, 0, 5], Stage::N2),
            ([0, 2, 0, 3], Stage::N1),
        ] {
            assert_eq!(patient_stage(counts), stage, "{counts:?}");
        }
        assert!(Stage::ALL.into_iter().all(|stage| Stage::named(stage.name()) == Some(stage)));
    }

    /// Five slides of each patient with the stage stated for the patient.
    fn nodes(of: &[(&str, &str, [usize; 5])]) -> (Vec<String>, Vec<String>, Vec<usize>) {
        let each = |pick: fn(&(&str, &str, [usize; 5])) -> String| of.iter().flat_map(|patient| vec![pick(patient); 5]).collect();
        (
            each(|(patient, ..)| (*patient).to_owned()),
            each(|(_, stated, _)| (*stated).to_owned()),
            of.iter().flat_map(|(.., c)| *c).collect(),
        )
    }

    #[test]
    fn agreement_is_quadratic_over_patients() {
        let (patients, stated, predicted) =
            nodes(&[("a", "pN0", [0; 5]), ("b", "pN2", [3; 5]), ("c", "pN1", [0, 0, 0, 2, 0]), ("d", "pN0", [0, 0, 1, 0, 0])]);
        let found = stage_agreement(&patients, &stated, &predicted).unwrap();
        assert_eq!(found.patients[2], ("c".to_owned(), Stage::N1, Stage::N1Micro));
        assert_eq!(found.patients[3].2, Stage::N0IsolatedCells);
        // Truth 0 4 3 0, derived 0 4 2 1: observed Σ(i−j)² = 2; expected, over all 16 pairs: 86 / 4.
        assert!((found.kappa - (1.0 - 2.0 / 21.5)).abs() < 1e-12, "{}", found.kappa);
    }

    #[test]
    fn incomplete_patients_have_no_agreement() {
        let (patients, stated, predicted) = nodes(&[("a", "pN0", [0; 5]), ("b", "pN2", [3; 5])]);
        assert!(stage_agreement(&patients[..9], &stated[..9], &predicted[..9]).is_none(), "a node is missing");
        let mut unknown = stated.clone();
        unknown[0].clear();
        assert!(stage_agreement(&patients, &unknown, &predicted).is_none(), "a stage is not known");
        assert!(stage_agreement(&[], &[], &[]).is_none());
        let (patients, stated, predicted) = nodes(&[("a", "pN0", [0; 5])]);
        assert!(stage_agreement(&patients, &stated, &predicted).unwrap().kappa.is_nan(), "one stage only");
    }
}
