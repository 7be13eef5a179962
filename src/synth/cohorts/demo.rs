//! The demonstration's cohort: three classes that differ in the architecture of small lesions, not in colour; two centres
//! that differ in stain *and* in micron size, so that a pipeline which confuses pixels with micrometres, or colour with
//! disease, shows it.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::synth::scenes::connective::{LABORATORIES, Lesion, Tissue};
use crate::synth::{LabelFile, Scene, SyntheticSlide};

/// How large it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DemoSettings {
    /// Slides of each class; a multiple of four: two slides a patient, two centres.
    pub slides_per_class: usize,
    /// Same seed, same bytes.
    pub seed: u64,
}

impl Default for DemoSettings {
    fn default() -> Self {
        Self { slides_per_class: 8, seed: 0 }
    }
}

/// Side of the square slide, µm.
const SIDE_UM: f32 = 900.0;
const SLIDES_PER_PATIENT: usize = 2;

impl DemoSettings {
    /// Balanced over class and centre.
    ///
    /// # Errors
    /// A number of slides that cannot be balanced.
    pub(in crate::synth) fn slides(&self) -> Result<Vec<SyntheticSlide>> {
        balanced("synth", self.slides_per_class, |lesion| Tissue { lesion, side_um: SIDE_UM, inflamed: 2, mimics: 0, lesion_share: None })
    }
}

/// `slides_per_class` slides of each class named `<name>_<patient>_<slide>`, two a patient, the same from both centres.
///
/// # Errors
/// A number of slides that cannot be balanced.
pub(super) fn balanced(name: &str, slides_per_class: usize, tissue: impl Fn(Lesion) -> Tissue) -> Result<Vec<SyntheticSlide>> {
    let per_centre = SLIDES_PER_PATIENT * LABORATORIES.len();
    if slides_per_class == 0 || !slides_per_class.is_multiple_of(per_centre) {
        bail!("{slides_per_class} slides per class cannot be balanced; give a multiple of {per_centre}: two slides a patient, two centres");
    }
    let classes = Lesion::ALL.len();
    let mut slides = Vec::new();
    for patient in 0..classes * slides_per_class / SLIDES_PER_PATIENT {
        let (lesion, centre) = (Lesion::ALL[patient % classes], (patient / classes) % LABORATORIES.len());
        for slide in 0..SLIDES_PER_PATIENT {
            let slide_id = format!("{name}_{patient:03}_{slide}");
            slides.push(SyntheticSlide {
                path: format!("slides/{slide_id}.tif"),
                slide_id,
                patient_id: format!("S{patient:03}"),
                label: lesion.label().to_owned(),
                centre,
                annotation: None,
                laboratory: &LABORATORIES[centre],
                scene: Scene::Connective(tissue(lesion)),
            });
        }
    }
    Ok(slides)
}

/// `labels.csv` with the columns `slide_id`, `patient_id`, `label`, `centre` and `mpp`.
pub(in crate::synth) fn labels(slides: &[SyntheticSlide]) -> LabelFile {
    let mut text = "slide_id,patient_id,label,centre,mpp\n".to_owned();
    for slide in slides {
        text += &format!("{},{},{},centre_{},{:?}\n", slide.slide_id, slide.patient_id, slide.label, slide.centre, slide.mpp());
    }
    LabelFile { path: "labels.csv".into(), text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cohorts_are_balanced() {
        let slides = DemoSettings { slides_per_class: 8, seed: 0 }.slides().unwrap();
        for lesion in Lesion::ALL {
            for centre in 0..2 {
                assert_eq!(slides.iter().filter(|slide| slide.label == lesion.label() && slide.centre == centre).count(), 4);
            }
        }
        assert!(DemoSettings { slides_per_class: 6, seed: 0 }.slides().is_err());
    }
}
