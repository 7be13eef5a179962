//! The demonstration's three classes made hard: slides of three times the area whose lesions take a few hundredths of the
//! tissue, for comparisons on which the demonstration's own cohort is at its ceiling.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::demo;
use crate::synth::SyntheticSlide;
use crate::synth::scenes::connective::Tissue;

/// How large and how hard it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RareSettings {
    /// Slides of each class; a multiple of four: two slides a patient, two centres.
    pub slides_per_class: usize,
    /// Mean share of the tissue's area that lesions take, 0.001–0.2; a slide has 0.5 to 1.5 times as much.
    pub lesion_share: f64,
    /// Same seed, same bytes.
    pub seed: u64,
}

impl Default for RareSettings {
    fn default() -> Self {
        Self { slides_per_class: 16, lesion_share: 0.02, seed: 0 }
    }
}

/// Side of the square slide, µm.
const SIDE_UM: f32 = 1600.0;

impl RareSettings {
    /// Balanced over class and centre.
    ///
    /// # Errors
    /// A number of slides that cannot be balanced, a share that cannot be drawn.
    pub(in crate::synth) fn slides(&self) -> Result<Vec<SyntheticSlide>> {
        let share = self.lesion_share;
        ensure!((0.001..=0.2).contains(&share), "lesion-share = {share}: give a share of the tissue from 0.001 to 0.2");
        demo::balanced("rare", self.slides_per_class, |lesion| Tissue {
            lesion,
            side_um: SIDE_UM,
            inflamed: 6,
            mimics: 3,
            lesion_share: Some(share as f32),
        })
    }
}
