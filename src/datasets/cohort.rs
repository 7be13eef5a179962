//! The table of labels: which slide belongs to which patient, class and centre.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::ground::seed;
use crate::store::table;

/// Settings of `[cohort]`: the columns of the labels table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CohortSettings {
    /// Column of the slide's id (file name without its last extension).
    pub slide: String,
    /// Column of the patient.
    pub patient: String,
    /// Column of the class.
    pub label: String,
    /// Class names in index order; empty: those of the table, sorted.
    pub classes: Vec<String>,
    /// 0 for the true labels; k > 0 hands the labels of whole patients to other patients (stream k), as a control.
    pub shuffle_labels: u64,
}

impl Default for CohortSettings {
    fn default() -> Self {
        Self { slide: "slide_id".into(), patient: "patient_id".into(), label: "label".into(), classes: Vec::new(), shuffle_labels: 0 }
    }
}

/// One labelled slide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labelled {
    /// Slide id.
    pub slide: String,
    /// Patient id.
    pub patient: String,
    /// Class index.
    pub target: i64,
    /// Every column of the table, for splits by column.
    pub columns: BTreeMap<String, String>,
}

/// The labelled slides, sorted by slide id.
#[derive(Debug, Clone)]
pub struct Cohort {
    /// Class names in index order.
    pub classes: Vec<String>,
    /// Sorted by slide id.
    pub slides: Vec<Labelled>,
}

impl Cohort {
    /// Reads a table of labels.
    ///
    /// # Errors
    /// A missing column, an empty cell, a slide listed twice, a class that is not in `classes`; each names its row's slide.
    pub fn read(path: &Path, settings: &CohortSettings, seed: u64) -> Result<Self> {
        let frame = table::read(path)?;
        let slide = table::text(&frame, &settings.slide, path)?;
        let patient = table::text(&frame, &settings.patient, path)?;
        let label = table::text(&frame, &settings.label, path)?;
        let names: Vec<String> = table::names(&frame);
        let cells = names.iter().map(|name| table::text(&frame, name, path)).collect::<Result<Vec<_>>>()?;

        let mut classes = settings.classes.clone();
        if classes.is_empty() {
            classes = label.clone();
            classes.sort();
            classes.dedup();
        }
        let mut slides = Vec::with_capacity(slide.len());
        for row in 0..slide.len() {
            if slide[row].is_empty() || patient[row].is_empty() || label[row].is_empty() {
                bail!(
                    "'{}': row {} (slide '{}') has an empty slide, patient or label; fill it or remove the row",
                    path.display(),
                    row + 2,
                    slide[row]
                );
            }
            let Some(target) = classes.iter().position(|class| *class == label[row]) else {
                bail!(
                    "'{}': slide '{}' has the label '{}', which is not one of cohort.classes: {}",
                    path.display(),
                    slide[row],
                    label[row],
                    classes.join(", ")
                );
            };
            let columns = names.iter().zip(&cells).map(|(name, cells)| (name.clone(), cells[row].clone())).collect();
            slides.push(Labelled { slide: slide[row].clone(), patient: patient[row].clone(), target: target as i64, columns });
        }
        slides.sort_by(|a, b| a.slide.cmp(&b.slide));
        if let Some(twice) = slides.windows(2).find(|pair| pair[0].slide == pair[1].slide) {
            bail!("'{}': slide '{}' is listed twice; keep one row", path.display(), twice[0].slide);
        }
        let mut cohort = Self { classes, slides };
        if settings.shuffle_labels > 0 {
            cohort.shuffle(seed, settings.shuffle_labels);
        }
        Ok(cohort)
    }

    /// Every patient gets the labels of one other patient, chosen by a random permutation of patients.
    ///
    /// METHOD: shuffling slides one by one would break the likeness of a patient's slides and make the control too easy to fail.
    fn shuffle(&mut self, seed: u64, stream: u64) {
        let mut labels: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for slide in &self.slides {
            labels.entry(slide.patient.clone()).or_default().push(slide.target);
        }
        let mut donors: Vec<Vec<i64>> = labels.values().cloned().collect();
        donors.shuffle(&mut seed::stream(seed, &format!("shuffle-labels/{stream}")));
        let donors: BTreeMap<String, Vec<i64>> = labels.into_keys().zip(donors).collect();
        let mut given: BTreeMap<String, usize> = BTreeMap::new();
        for slide in &mut self.slides {
            let turn = given.entry(slide.patient.clone()).or_default();
            let donor = &donors[&slide.patient];
            slide.target = donor[*turn % donor.len()];
            *turn += 1;
        }
    }
}
