//! Settings of `[cohort]`: where a table or a folder says which slide is whose, and what it shows.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use regex::Regex;
use serde::{Deserialize, Serialize};

/// How the labels are written down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// A table (CSV, XLSX), one row a slide.
    #[default]
    Table,
    /// Folders: `<class>/<slide>.*`, `<part>/<class>/<slide>.*` or `<part>/<group>/<class>/<slide>.*`.
    Folder,
    /// CAMELYON17's table of patient stages and slide labels, or a table of its slides.
    Camelyon17,
}

/// A column's name, or several of which the first that is present counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Names {
    /// One name.
    One(String),
    /// Candidates, best first; none: the column is not looked for.
    Several(Vec<String>),
}

impl Names {
    /// The candidates, best first.
    pub fn candidates(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }

    fn several<const K: usize>(names: [&str; K]) -> Self {
        Self::Several(names.map(str::to_owned).to_vec())
    }
}

/// Settings of `[cohort]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CohortSettings {
    /// How the labels are written down.
    pub format: Format,
    /// Sheet of an XLSX table; blank for the first.
    pub sheet: String,
    /// Column of the slide: its id (file name without the last extension), its file name or a path to it.
    pub slide: Names,
    /// Column of the patient.
    pub patient: Names,
    /// Column of the class.
    pub label: Names,
    /// Column of the centre, where there is one.
    pub centre: Names,
    /// Column of the official part, where there is one: `train`, `valid` or `test` after `part-map`.
    pub part: Names,
    /// Regular expression whose first group on the slide id is the patient, where there is no such column.
    pub patient_pattern: String,
    /// Regular expression whose first group on the slide id is the part, where there is no such column.
    pub part_pattern: String,
    /// Why every slide counts as a patient of its own, where neither column nor pattern names one; recorded.
    pub each_slide_is_a_patient: String,
    /// Class names in index order; empty: those found, sorted.
    pub classes: Vec<String>,
    /// Use the slides that have both a label and a bag; without it every label needs a bag.
    pub partial: bool,
    /// 0 for the true labels; k > 0 hands the labels of whole patients to other patients (stream k), as a control.
    pub shuffle_labels: u64,
    /// From labels as written to class names; empty: labels are class names.
    pub label_map: BTreeMap<String, String>,
    /// From parts as written to `train`, `valid` and `test`, besides the usual spellings.
    pub part_map: BTreeMap<String, String>,
}

impl Default for CohortSettings {
    fn default() -> Self {
        Self {
            format: Format::default(),
            sheet: String::new(),
            slide: Names::several(["slide_id", "WSI Filename", "slide", "filename", "file", "image_id", "wsi", "path"]),
            patient: Names::several(["patient_id", "Patient Id", "patient", "case_id"]),
            label: Names::One("label".into()),
            centre: Names::several(["centre", "center", "site", "hospital"]),
            part: Names::several(["part", "split_info", "Set", "split"]),
            patient_pattern: String::new(),
            part_pattern: String::new(),
            each_slide_is_a_patient: String::new(),
            classes: Vec::new(),
            partial: false,
            shuffle_labels: 0,
            label_map: BTreeMap::new(),
            part_map: BTreeMap::new(),
        }
    }
}

/// A pattern whose first group is wanted; `None` where the setting is blank.
///
/// # Errors
/// No regular expression, or one without a group; names the setting.
pub(super) fn pattern(setting: &str, text: &str) -> Result<Option<Regex>> {
    if text.is_empty() {
        return Ok(None);
    }
    let regex = Regex::new(text).with_context(|| format!("cohort.{setting} = '{text}' is no regular expression"))?;
    ensure!(
        regex.captures_len() > 1,
        "cohort.{setting} = '{text}' has no group; put brackets around the part that is meant, as in '^([0-9]+)_'"
    );
    Ok(Some(regex))
}

/// The first group of `regex` in `id`, unless it is empty.
pub(super) fn first_group<'a>(regex: &Regex, id: &'a str) -> Option<&'a str> {
    regex.captures(id)?.get(1).map(|group| group.as_str()).filter(|group| !group.is_empty())
}
