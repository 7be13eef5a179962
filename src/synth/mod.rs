//! A small cohort made from numbers alone, for the demonstration and for tests: no download, no patient.
//!
//! Three classes that differ in the architecture of small lesions, not in colour; two centres that differ in stain *and*
//! in micron size, so that a pipeline which confuses pixels with micrometres, or colour with disease, shows it.

mod noise;
mod scene;
mod tiff;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::ground::seed;

pub use scene::Lesion;

/// What to make.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CohortSettings {
    /// Slides of each class; a multiple of four: two slides a patient, two centres.
    pub slides_per_class: usize,
    /// Same seed, same bytes.
    pub seed: u64,
}

impl Default for CohortSettings {
    fn default() -> Self {
        Self { slides_per_class: 8, seed: 0 }
    }
}

/// One slide of the cohort.
#[derive(Debug, Clone, PartialEq)]
pub struct SyntheticSlide {
    /// File name without extension.
    pub slide_id: String,
    /// Two slides a patient.
    pub patient_id: String,
    /// What its lesions are; [`Lesion::None`] for a normal slide.
    pub lesion: Lesion,
    /// 0 or 1.
    pub centre: usize,
}

impl SyntheticSlide {
    /// µm per level-0 pixel of the centre's scanner.
    pub fn mpp(&self) -> f64 {
        scene::CENTRES[self.centre].mpp
    }
}

const SLIDES_PER_PATIENT: usize = 2;

/// The cohort's slides, balanced over class and centre.
///
/// # Errors
/// A number of slides that cannot be balanced.
pub fn cohort(settings: &CohortSettings) -> Result<Vec<SyntheticSlide>> {
    let per_centre = SLIDES_PER_PATIENT * scene::CENTRES.len();
    if settings.slides_per_class == 0 || !settings.slides_per_class.is_multiple_of(per_centre) {
        bail!(
            "{} slides per class cannot be balanced; give a multiple of {per_centre}: two slides a patient, two centres",
            settings.slides_per_class
        );
    }
    let classes = Lesion::ALL.len();
    let patients = classes * settings.slides_per_class / SLIDES_PER_PATIENT;
    let slides = (0..patients).flat_map(|patient| {
        (0..SLIDES_PER_PATIENT).map(move |slide| SyntheticSlide {
            slide_id: format!("synth_{patient:03}_{slide}"),
            patient_id: format!("S{patient:03}"),
            lesion: Lesion::ALL[patient % classes],
            centre: (patient / classes) % scene::CENTRES.len(),
        })
    });
    Ok(slides.collect())
}

/// The slide as the bytes of a pyramidal TIFF.
///
/// # Errors
/// The JPEG encoder's own; none in practice.
pub fn render(slide: &SyntheticSlide, seed: u64) -> Result<Vec<u8>> {
    let mut patient = seed::stream(seed, &format!("synth/{}", slide.patient_id));
    let mut random = seed::stream(seed, &format!("synth/{}", slide.slide_id));
    let picture = scene::paint(slide.lesion, &scene::CENTRES[slide.centre], &mut patient, &mut random);
    tiff::pyramid(&picture.image, slide.mpp(), &|x, y, side| picture.is_scanned(x, y, side))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cohorts_are_balanced() {
        let slides = cohort(&CohortSettings { slides_per_class: 8, seed: 0 }).unwrap();
        for lesion in Lesion::ALL {
            for centre in 0..2 {
                assert_eq!(slides.iter().filter(|slide| slide.lesion == lesion && slide.centre == centre).count(), 4);
            }
        }
        assert!(cohort(&CohortSettings { slides_per_class: 6, seed: 0 }).is_err());
    }
}
