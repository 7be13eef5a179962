//! A stand-in for the training part of CAMELYON17: its folders, file names, label file, annotations and imbalance.
//!
//! Five nodes a patient, twenty patients a centre numbered from 20 · centre; `stages.csv` holds a row for each patient's
//! archive (pN stage) and one for each slide. Counts per centre and class follow the public labels.

use std::fmt::Write;

use anyhow::Result;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::{check_scale, quotas};
use crate::ground::seed;
use crate::synth::scenes::lymph_node::Burden;
use crate::synth::stain::Laboratory;
use crate::synth::{LabelFile, Scene, SyntheticSlide};

/// How large it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Camelyon17Settings {
    /// Share of the real 500 slides: the first ⌈20 · scale⌉ patients of each centre, five slides each.
    pub scale: f64,
    /// Same seed, same bytes.
    pub seed: u64,
}

impl Default for Camelyon17Settings {
    fn default() -> Self {
        Self { scale: 0.2, seed: 0 }
    }
}

const PATIENTS_PER_CENTRE: usize = 20;
const NODES_PER_PATIENT: usize = 5;
/// Slides of each centre with an annotation file in the real cohort.
const ANNOTATED_PER_CENTRE: f64 = 10.0;

/// Negative, ITC, micro and macro of each real centre.
const COUNTS: [[usize; 4]; 5] = [[64, 11, 10, 15], [58, 7, 23, 12], [75, 2, 8, 15], [60, 8, 13, 19], [61, 8, 5, 26]];

/// Pixel sizes are twice those of the scanners in question (0.22–0.25 µm/px), which makes files a quarter as large.
static LABORATORIES: [Laboratory; 5] = [
    Laboratory { mpp: 0.48, haematoxylin: [0.62, 0.70, 0.30], eosin: [0.06, 0.46, 0.20] },
    Laboratory { mpp: 0.46, haematoxylin: [0.58, 0.76, 0.36], eosin: [0.08, 0.56, 0.28] },
    Laboratory { mpp: 0.45, haematoxylin: [0.70, 0.72, 0.26], eosin: [0.05, 0.36, 0.13] },
    Laboratory { mpp: 0.49, haematoxylin: [0.52, 0.68, 0.40], eosin: [0.09, 0.60, 0.36] },
    Laboratory { mpp: 0.50, haematoxylin: [0.66, 0.62, 0.20], eosin: [0.04, 0.42, 0.24] },
];

impl Camelyon17Settings {
    /// By patient and node.
    ///
    /// # Errors
    /// A scale that is no share.
    pub(in crate::synth) fn slides(&self) -> Result<Vec<SyntheticSlide>> {
        check_scale(self.scale)?;
        let patients = (PATIENTS_PER_CENTRE as f64 * self.scale).ceil() as usize;
        let mut slides = Vec::new();
        for (centre, counts) in COUNTS.iter().enumerate() {
            let mut annotations = (ANNOTATED_PER_CENTRE * self.scale).ceil() as usize;
            let burdens = deal(&quotas(counts, patients * NODES_PER_PATIENT), patients, centre, self.seed);
            for (place, nodes) in burdens.iter().enumerate() {
                let patient = centre * PATIENTS_PER_CENTRE + place;
                for (node, &burden) in nodes.iter().enumerate() {
                    let slide_id = format!("patient_{patient:03}_node_{node}");
                    let annotated = burden != Burden::Negative && annotations > 0;
                    annotations -= usize::from(annotated);
                    slides.push(SyntheticSlide {
                        path: format!("training/center_{centre}/{slide_id}.tif"),
                        annotation: annotated.then(|| format!("lesion_annotations/{slide_id}.xml")),
                        slide_id,
                        patient_id: format!("patient_{patient:03}"),
                        label: label(burden).to_owned(),
                        centre,
                        laboratory: &LABORATORIES[centre],
                        scene: Scene::LymphNode(burden),
                    });
                }
            }
        }
        Ok(slides)
    }
}

fn label(burden: Burden) -> &'static str {
    match burden {
        Burden::Negative => "negative",
        Burden::Itc => "itc",
        Burden::Micro => "micro",
        Burden::Macro => "macro",
    }
}

/// The nodes of each patient of one centre. Disease comes in patients: a quarter have none, and of the others one third
/// has twice, one third three times as many positive nodes as the last.
fn deal(counts: &[usize], patients: usize, centre: usize, seed: u64) -> Vec<Vec<Burden>> {
    let mut random = seed::stream(seed, &format!("synth/camelyon17/centre_{centre}"));
    let mut order: Vec<usize> = (0..patients).collect();
    order.shuffle(&mut random);
    order.truncate((patients * 3).div_ceil(4));
    let ill = order.len();
    order.extend_from_within(..ill * 2 / 3);
    order.extend_from_within(..ill / 3);
    let mut turns = order.into_iter().cycle();

    let kinds = [(Burden::Itc, counts[1]), (Burden::Micro, counts[2]), (Burden::Macro, counts[3])];
    let mut positive: Vec<Burden> = kinds.into_iter().flat_map(|(burden, count)| std::iter::repeat_n(burden, count)).collect();
    positive.shuffle(&mut random);
    let mut nodes: Vec<Vec<Burden>> = vec![Vec::new(); patients];
    for burden in positive {
        let patient = turns.find(|&patient| nodes[patient].len() < NODES_PER_PATIENT).expect("the cycle is endless");
        nodes[patient].push(burden);
    }
    for nodes in &mut nodes {
        nodes.resize(NODES_PER_PATIENT, Burden::Negative);
        nodes.shuffle(&mut random);
    }
    nodes
}

/// `stages.csv`: each patient's archive with its pN stage, then its slides.
pub(in crate::synth) fn labels(slides: &[SyntheticSlide]) -> LabelFile {
    let mut text = "patient,stage\n".to_owned();
    for nodes in slides.chunk_by(|a, b| a.patient_id == b.patient_id) {
        let labels: Vec<&str> = nodes.iter().map(|slide| slide.label.as_str()).collect();
        let _ = writeln!(text, "{}.zip,{}", nodes[0].patient_id, stage(&labels));
        for slide in nodes {
            let _ = writeln!(text, "{}.tif,{}", slide.slide_id, slide.label);
        }
    }
    LabelFile { path: "stages.csv".into(), text }
}

/// pN of the challenge's rules: isolated tumour cells do not count as positive nodes.
fn stage(labels: &[&str]) -> &'static str {
    let count = |label: &str| labels.iter().filter(|&&other| other == label).count();
    match (count("macro"), count("micro"), count("itc")) {
        (0, 0, 0) => "pN0",
        (0, 0, _) => "pN0(i+)",
        (0, _, _) => "pN1mi",
        (large, small, _) if large + small < 4 => "pN1",
        _ => "pN2",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn slides(scale: f64, seed: u64) -> Vec<SyntheticSlide> {
        Camelyon17Settings { scale, seed }.slides().unwrap()
    }

    #[test]
    fn the_whole_cohort_has_the_real_counts() {
        let slides = slides(1.0, 0);
        assert_eq!(slides.len(), 500);
        for (centre, counts) in COUNTS.iter().enumerate() {
            for (label, &count) in ["negative", "itc", "micro", "macro"].iter().zip(counts) {
                let found = slides.iter().filter(|slide| slide.centre == centre && slide.label == *label).count();
                assert_eq!(found, count, "{label} in centre {centre}");
            }
        }
        let stages = labels(&slides).text;
        for stage in ["pN0", "pN0(i+)", "pN1mi", "pN1", "pN2"] {
            assert!(stages.lines().any(|line| line.ends_with(&format!(".zip,{stage}"))), "no patient has {stage}");
        }
    }

    #[test]
    fn a_fifth_has_every_class_on_both_sides() {
        for seed in 0..5 {
            let slides = slides(0.2, seed);
            assert_eq!(slides.len(), 100);
            for label in ["negative", "itc", "micro", "macro"] {
                let patients = |centres: std::ops::Range<usize>| {
                    let with = slides.iter().filter(|slide| slide.label == label && centres.contains(&slide.centre));
                    with.map(|slide| slide.patient_id.as_str()).collect::<BTreeSet<_>>().len()
                };
                assert!(patients(0..3) >= 3 && patients(3..5) >= 1, "{label} with seed {seed}");
            }
            assert!(
                slides.iter().all(|slide| slide.patient_id == slide.slide_id[..11]
                    && slide.slide_id[8..11].parse::<usize>().unwrap() / 20 == slide.centre)
            );
        }
    }

    #[test]
    fn stages_follow_the_rules() {
        assert_eq!(stage(&["negative", "itc"]), "pN0(i+)");
        assert_eq!(stage(&["micro", "itc", "micro", "micro", "micro"]), "pN1mi");
        assert_eq!(stage(&["macro", "micro", "micro", "itc", "itc"]), "pN1");
        assert_eq!(stage(&["macro", "micro", "micro", "micro", "itc"]), "pN2");
    }
}
