//! CAMELYON17: `stages.csv` (also called `stage_labels.csv`), or a table of its slides with numbers for classes.
//!
//! Source: Litjens et al. 2018 (GigaScience), Bándi et al. 2019; methods §6.1.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use anyhow::Result;
use regex::Regex;

use super::canonical::class;
use super::ids::slide_id;
use super::offenders::Offenders;
use super::patient_stage::{COLUMN, NODE_CLASSES, NODES, Stage, patient_stage};
use super::rows::{Row, Table};
use super::settings::{CohortSettings, Names};
use crate::ground::listing::listing;

/// Patients with public labels; those of the challenge's test set follow from 100.
const PUBLIC: usize = 100;
const PATIENTS_PER_CENTRE: usize = 20;

/// The slides with patient, centre and the patient's stage in the column [`COLUMN`]; rows in any order.
///
/// The official table has the columns `patient` and `stage`; rows that end in `.zip` are patients, the others slides. Any other table is
/// read by the columns that the settings name; its patients' stages follow from their nodes.
///
/// # Errors
/// Every slide whose name is not `patient_NNN_node_N`, every unknown stage, every patient stated twice.
pub(super) fn rows(path: &Path, settings: &CohortSettings) -> Result<Vec<Row>> {
    let table = Table::read(path, settings)?;
    let official = ["patient", "stage"].map(|name| table.find(&Names::One(name.into())));
    let mut wrong = Offenders::default();
    let mut stated = BTreeMap::new();
    let mut rows = match official {
        [Some(names), Some(stages)] => {
            let mut slides = Vec::new();
            for (row, (name, stage)) in names.iter().zip(stages).enumerate() {
                if !name.to_lowercase().ends_with(".zip") {
                    slides.push(Row {
                        place: table.place(row),
                        slide: name.clone(),
                        label: stage.clone(),
                        columns: table.columns(row),
                        ..Row::default()
                    });
                } else if let Some(known) = Stage::named(stage) {
                    if stated.insert(slide_id(name), known).is_some() {
                        wrong.add("patients with two stages; keep one row", name);
                    }
                } else {
                    wrong.add("stages other than pN0, pN0(i+), pN1mi, pN1 and pN2", format!("'{stage}' of {name} ({})", table.place(row)));
                }
            }
            slides
        }
        _ => table.rows(settings)?,
    };
    for row in &mut rows {
        match number(&slide_id(&row.slide)) {
            Some((patient, number)) => {
                if row.centre.is_none() {
                    match number {
                        ..PUBLIC => row.centre = Some((number / PATIENTS_PER_CENTRE).to_string()),
                        _ => wrong.add("patients beyond the 100 with public labels; name their centre in a column `centre`", &row.slide),
                    }
                }
                row.patient = Some(patient);
            }
            None => wrong.add("slides that are not called patient_NNN_node_N", format!("'{}' ({})", row.slide, row.place)),
        }
    }
    wrong.refuse(format_args!("'{}'", path.display()))?;
    let derived = derived(&rows, settings);
    let disagreeing: Vec<String> = derived
        .iter()
        .filter_map(|(patient, stage)| stated.get(patient).filter(|stated| *stated != stage).map(|stated| (patient, stated, stage)))
        .map(|(patient, stated, stage)| format!("{patient} ({} stated, {} by its nodes)", stated.name(), stage.name()))
        .collect();
    if !disagreeing.is_empty() {
        tracing::warn!(
            "'{}': stated stages that do not follow from the nodes; the stated ones count: {}",
            path.display(),
            listing(&disagreeing, ", ")
        );
    }
    for row in &mut rows {
        let patient = row.patient.as_ref();
        let stage = patient.and_then(|patient| stated.get(patient).or_else(|| derived.get(patient)));
        row.columns.insert(COLUMN.into(), stage.map_or("", |stage| stage.name()).into());
    }
    Ok(rows)
}

/// `patient_007` and 7 for `patient_007_node_3`.
fn number(id: &str) -> Option<(String, usize)> {
    static NODE: LazyLock<Regex> = LazyLock::new(|| Regex::new("^(patient_([0-9]{3}))_node_[0-9]+$").expect("valid"));
    let groups = NODE.captures(id)?;
    Some((groups[1].to_owned(), groups[2].parse().ok()?))
}

/// The stage of every patient whose five nodes have labels.
fn derived(rows: &[Row], settings: &CohortSettings) -> BTreeMap<String, Stage> {
    let mut counts: BTreeMap<&String, [usize; 4]> = BTreeMap::new();
    for row in rows {
        let label = class(&row.label, settings);
        let class = NODE_CLASSES.iter().position(|class| label.as_deref() == Some(class));
        if let (Some(patient), Some(class)) = (&row.patient, class) {
            counts.entry(patient).or_default()[class] += 1;
        }
    }
    let complete = counts.into_iter().filter(|(_, counts)| counts.iter().sum::<usize>() == NODES);
    complete.map(|(patient, counts)| (patient.clone(), patient_stage(counts))).collect()
}
