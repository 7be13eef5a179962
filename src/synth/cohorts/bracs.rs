//! A stand-in for BRACS: its folders by part, group and type, its file names, and its imbalance.
//!
//! The label table has the columns of a published list of the cohort: `case_id`, `slide_id`, `split_info` and `label`,
//! the type's number from 0 (normal) to 6 (invasive). The real files are Aperio's `.svs`; these are generic `.tif`.

use std::fmt::Write;

use anyhow::Result;
use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::check_scale;
use crate::ground::seed;
use crate::synth::scenes::breast::Pattern;
use crate::synth::stain::Laboratory;
use crate::synth::{LabelFile, Scene, SyntheticSlide};

/// How large it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BracsSettings {
    /// Share of the real 547 slides; every type keeps at least one slide in each part.
    pub scale: f64,
    /// Same seed, same bytes.
    pub seed: u64,
}

impl Default for BracsSettings {
    fn default() -> Self {
        Self { scale: 0.1, seed: 0 }
    }
}

const PARTS: [&str; 3] = ["train", "val", "test"];
/// Slides of each type in the real training, validation and test parts, in the order of the types.
const COUNTS: [[usize; 3]; 7] = [[27, 10, 7], [120, 11, 16], [56, 9, 9], [24, 6, 11], [28, 8, 12], [40, 9, 12], [100, 12, 20]];
/// Most slides of one patient; the real cohort has 547 of 189.
const MOST_OF_A_PATIENT: usize = 4;
/// File names count from here.
const FIRST_ID: usize = 1001;

/// One hospital, one scanner; its pixel size is twice the real one's.
static LABORATORY: Laboratory = Laboratory { mpp: 0.5, haematoxylin: [0.64, 0.70, 0.30], eosin: [0.06, 0.46, 0.20] };

/// Group and type as the folders spell them.
fn folder(pattern: Pattern) -> (&'static str, &'static str) {
    match pattern {
        Pattern::Normal => ("BT", "N"),
        Pattern::Benign => ("BT", "PB"),
        Pattern::Hyperplasia => ("BT", "UDH"),
        Pattern::FlatAtypia => ("AT", "FEA"),
        Pattern::AtypicalHyperplasia => ("AT", "ADH"),
        Pattern::InSitu => ("MT", "DCIS"),
        Pattern::Invasive => ("MT", "IC"),
    }
}

impl BracsSettings {
    /// Part after part; no patient has slides in two of them.
    ///
    /// # Errors
    /// A scale that is no share.
    pub(in crate::synth) fn slides(&self) -> Result<Vec<SyntheticSlide>> {
        check_scale(self.scale)?;
        let mut random = seed::stream(self.seed, "synth/bracs");
        let (mut slides, mut patient) = (Vec::new(), 0);
        for (part, &name) in PARTS.iter().enumerate() {
            let slides_of = |class: usize| (COUNTS[class][part] as f64 * self.scale).round().max(1.0) as usize;
            let mut classes: Vec<usize> = (0..COUNTS.len()).flat_map(|class| std::iter::repeat_n(class, slides_of(class))).collect();
            classes.shuffle(&mut random);
            while !classes.is_empty() {
                let count = random.random_range(1..=MOST_OF_A_PATIENT).min(classes.len());
                for class in classes.drain(..count) {
                    let pattern = Pattern::ALL[class];
                    let (group, kind) = folder(pattern);
                    let slide_id = format!("BRACS_{}", FIRST_ID + slides.len());
                    slides.push(SyntheticSlide {
                        path: format!("BRACS_WSI/{name}/Group_{group}/Type_{kind}/{slide_id}.tif"),
                        slide_id,
                        patient_id: format!("patient_{patient}"),
                        label: class.to_string(),
                        centre: 0,
                        annotation: None,
                        laboratory: &LABORATORY,
                        scene: Scene::Breast(pattern),
                    });
                }
                patient += 1;
            }
        }
        Ok(slides)
    }
}

/// `labels.csv`: a first column without a name that counts the rows, then patient, slide, part and number of the type.
pub(in crate::synth) fn labels(slides: &[SyntheticSlide]) -> LabelFile {
    let mut text = ",case_id,slide_id,split_info,label\n".to_owned();
    for (row, slide) in slides.iter().enumerate() {
        let part = slide.path.split('/').nth(1).expect("the path names the part");
        let _ = writeln!(text, "{row},{},{},{part},{}", slide.patient_id, slide.slide_id, slide.label);
    }
    LabelFile { path: "labels.csv".into(), text }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn the_whole_cohort_has_the_real_counts() {
        let slides = BracsSettings { scale: 1.0, seed: 0 }.slides().unwrap();
        assert_eq!(slides.len(), 547);
        for (class, counts) in COUNTS.iter().enumerate() {
            for (part, &count) in PARTS.iter().zip(counts) {
                let found = slides.iter().filter(|slide| slide.label == class.to_string() && slide.path.contains(&format!("/{part}/")));
                assert_eq!(found.count(), count, "type {class} in {part}");
            }
        }
    }

    #[test]
    fn no_patient_is_in_two_parts() {
        for seed in 0..5 {
            let mut parts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for slide in (BracsSettings { scale: 0.1, seed }).slides().unwrap() {
                parts.entry(slide.patient_id).or_default().insert(slide.path.split('/').nth(1).unwrap().to_owned());
            }
            assert!(parts.len() > 10 && parts.values().all(|parts| parts.len() == 1), "{parts:?}");
        }
    }
}
