//! Cohorts made from numbers alone, for the demonstration, for tests, and for trying a pipeline before the real slides
//! are there: no download, no patient.

mod asap;
mod canvas;
mod cohorts;
mod noise;
mod scenes;
mod stain;
mod tiff;

use anyhow::Result;

use crate::ground::seed;
use crate::registry;

pub use cohorts::bracs::BracsSettings;
pub use cohorts::camelyon17::Camelyon17Settings;
pub use cohorts::demo::DemoSettings;
pub use cohorts::rare::RareSettings;

registry! {
    /// Which cohort to make and how large.
    pub enum CohortSettings {
        "demo" => Demo(DemoSettings),
        "camelyon17" => Camelyon17(Camelyon17Settings),
        "bracs" => Bracs(BracsSettings),
        "rare" => Rare(RareSettings),
    }
    default "demo"
}

/// One slide of a cohort.
pub struct SyntheticSlide {
    /// File name without extension.
    pub slide_id: String,
    /// Whose it is; the patient has a random stream of their own.
    pub patient_id: String,
    /// The class, as the label file spells it.
    pub label: String,
    /// From 0.
    pub centre: usize,
    /// Where the slide lies in the cohort's folder.
    pub path: String,
    /// Where its lesions' outlines lie, if the cohort ships them.
    pub annotation: Option<String>,
    laboratory: &'static stain::Laboratory,
    scene: Scene,
}

/// What lies on the glass.
enum Scene {
    Connective(scenes::connective::Tissue),
    LymphNode(scenes::lymph_node::Burden),
    Breast(scenes::breast::Pattern),
}

impl SyntheticSlide {
    /// µm per level-0 pixel of the centre's scanner.
    pub fn mpp(&self) -> f64 {
        self.laboratory.mpp
    }
}

/// A label file of the cohort.
pub struct LabelFile {
    /// Where it lies in the cohort's folder.
    pub path: String,
    /// What it holds.
    pub text: String,
}

impl CohortSettings {
    /// Same seed, same bytes.
    pub fn seed(&self) -> u64 {
        match self {
            Self::Demo(settings) => settings.seed,
            Self::Camelyon17(settings) => settings.seed,
            Self::Bracs(settings) => settings.seed,
            Self::Rare(settings) => settings.seed,
        }
    }

    /// The cohort's label file.
    pub fn label_file(&self, slides: &[SyntheticSlide]) -> LabelFile {
        match self {
            Self::Demo(_) | Self::Rare(_) => cohorts::demo::labels(slides),
            Self::Camelyon17(_) => cohorts::camelyon17::labels(slides),
            Self::Bracs(_) => cohorts::bracs::labels(slides),
        }
    }
}

/// The cohort's slides.
///
/// # Errors
/// A size that the cohort cannot have.
pub fn cohort(settings: &CohortSettings) -> Result<Vec<SyntheticSlide>> {
    match settings {
        CohortSettings::Demo(settings) => settings.slides(),
        CohortSettings::Camelyon17(settings) => settings.slides(),
        CohortSettings::Bracs(settings) => settings.slides(),
        CohortSettings::Rare(settings) => settings.slides(),
    }
}

/// The slide as the bytes of a pyramidal TIFF.
///
/// # Errors
/// The JPEG encoder's own; none in practice.
pub fn render(slide: &SyntheticSlide, seed: u64) -> Result<Vec<u8>> {
    let mut patient = seed::stream(seed, &format!("synth/{}", slide.patient_id));
    let mut random = seed::stream(seed, &format!("synth/{}", slide.slide_id));
    let picture = match &slide.scene {
        Scene::Connective(tissue) => scenes::connective::paint(tissue, slide.laboratory, &mut patient, &mut random),
        Scene::Breast(pattern) => scenes::breast::paint(*pattern, slide.laboratory, &mut patient, &mut random),
        Scene::LymphNode(burden) => {
            let node = scenes::lymph_node::Node::plan(*burden, &mut random);
            scenes::lymph_node::paint(&node, slide.laboratory, &mut patient, &mut random)
        }
    };
    tiff::pyramid(&picture.image, slide.mpp(), &|x, y, side| picture.is_scanned(x, y, side))
}

/// The outlines of the slide's metastases as ASAP XML, in level-0 pixels; `None` for tissue without any.
pub fn outlines(slide: &SyntheticSlide, seed: u64) -> Option<String> {
    let Scene::LymphNode(burden) = &slide.scene else { return None };
    let node = scenes::lymph_node::Node::plan(*burden, &mut seed::stream(seed, &format!("synth/{}", slide.slide_id)));
    Some(asap::xml(&node.metastases, scenes::lymph_node::SIDE_UM, slide.mpp()))
}
