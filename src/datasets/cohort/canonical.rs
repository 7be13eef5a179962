//! From rows as written to labelled slides: ids, patients, classes, centres and parts; every row that cannot be used is told at once.

use std::collections::BTreeMap;
use std::fmt::Display;

use anyhow::{Result, bail, ensure};

use super::ids::{damage, slide_id, whole};
use super::offenders::Offenders;
use super::patient_stage::NODE_CLASSES;
use super::rows::Row;
use super::settings::{CohortSettings, Format, first_group, pattern};
use super::{CENTRE, Cohort, Labelled, PART};

/// The parts of an official split, and the usual spellings of each in lower case.
const PARTS: [(&str, &[&str]); 3] =
    [("train", &["train", "training"]), ("valid", &["valid", "val", "validation"]), ("test", &["test", "testing"])];

/// `source`: the table or folder, for messages.
///
/// # Errors
/// Every empty cell, damaged id, id listed twice, unknown class and unknown part; patients that nothing names.
pub(super) fn cohort(rows: Vec<Row>, settings: &CohortSettings, source: &dyn Display) -> Result<Cohort> {
    let named = named_patients(&rows, settings, source)?;
    let part_of = parts(settings)?;
    let part_pattern = pattern("part-pattern", &settings.part_pattern)?;
    let labels: Vec<Option<String>> = rows.iter().map(|row| class(&row.label, settings)).collect();
    let classes = classes(&labels, settings);

    let mut wrong = Offenders::default();
    let mut slides = Vec::with_capacity(rows.len());
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for ((row, patient), label) in rows.into_iter().zip(named).zip(labels) {
        let id = slide_id(&row.slide);
        let who = if id.is_empty() { row.place.clone() } else { format!("'{id}' ({})", row.place) };
        if id.is_empty() {
            wrong.add("empty slide id; fill it or remove the row", &who);
        } else {
            places.entry(id.clone()).or_default().push(row.place.clone());
        }
        match &patient {
            Some(patient) if !patient.is_empty() => {
                if let Some(reason) = damage(patient) {
                    wrong.add(format!("patient: {reason}"), format!("{who} of '{patient}'"));
                }
            }
            Some(_) => wrong.add("empty patient; fill it or remove the row", &who),
            None => wrong.add(format!("cohort.patient-pattern = '{}' finds no patient in", settings.patient_pattern), &who),
        }
        // A date such as 1/2/24 would otherwise pass for a path.
        if let Some(reason) = damage(row.slide.trim()).or_else(|| damage(&id)) {
            wrong.add(reason, format!("'{}' ({})", row.slide.trim(), row.place));
        }
        let target = label.as_ref().and_then(|label| classes.iter().position(|class| class == label));
        match (row.label.as_str(), target) {
            ("", _) => wrong.add("empty label; fill it or remove the row", &who),
            (label, None) => wrong.add(format!("label '{label}' is not one of the classes {}", classes.join(", ")), &who),
            _ => {}
        }
        let mut columns = row.columns;
        if let Some(centre) = row.centre {
            if centre.is_empty() {
                wrong.add("empty centre; fill it, or set cohort.centre = []", &who);
            }
            columns.insert(CENTRE.into(), centre);
        }
        let part = match (&row.part, &part_pattern) {
            (None, Some(pattern)) => Some(first_group(pattern, &id).unwrap_or_default().to_owned()),
            (part, _) => part.clone(),
        };
        if let Some(written) = part {
            let Some(part) = part_of(&written) else {
                wrong.add(
                    format!("part '{written}' is none of train, valid and test; map it with cohort.part-map, or set cohort.part = []"),
                    &who,
                );
                continue;
            };
            columns.insert(PART.into(), part.to_owned());
        }
        if let (Some(patient), Some(target)) = (patient, target) {
            slides.push(Labelled { slide: id, patient, target: target as i64, columns });
        }
    }
    for (id, places) in places.into_iter().filter(|(_, places)| places.len() > 1) {
        wrong.add("slides that are listed twice; keep one of each", format!("'{id}' ({})", places.join(" and ")));
    }
    wrong.refuse(source)?;
    slides.sort_by(|a, b| a.slide.cmp(&b.slide));
    let waivers = waivers(settings, &slides);
    Ok(Cohort { classes, slides, waivers, partial: settings.partial })
}

/// Each row's patient: its cell, else the pattern's first group (`None` where it does not match), else its own slide id.
///
/// # Errors
/// Nothing names patients: neither column, pattern nor waiver.
fn named_patients(rows: &[Row], settings: &CohortSettings, source: &dyn Display) -> Result<Vec<Option<String>>> {
    let pattern = pattern("patient-pattern", &settings.patient_pattern)?;
    if rows.iter().any(|row| row.patient.is_some()) {
        return Ok(rows.iter().map(|row| row.patient.as_deref().map(|cell| whole(cell).to_owned())).collect());
    }
    if let Some(pattern) = pattern {
        return Ok(rows.iter().map(|row| first_group(&pattern, &slide_id(&row.slide)).map(str::to_owned)).collect());
    }
    if !settings.each_slide_is_a_patient.trim().is_empty() {
        return Ok(rows.iter().map(|row| Some(slide_id(&row.slide))).collect());
    }
    bail!(
        "{source}: nothing says which slides are one patient's, and a split that parts them would flatter every score; name the column \
         (cohort.patient), find the patient in the slide id (cohort.patient-pattern = '^([^_]+)_'), or say why every slide is a \
         patient (cohort.each-slide-is-a-patient = 'REASON')"
    )
}

fn waivers(settings: &CohortSettings, slides: &[Labelled]) -> Vec<String> {
    let reason = settings.each_slide_is_a_patient.trim();
    let waived = !reason.is_empty() && slides.iter().all(|slide| slide.patient == slide.slide);
    if waived { vec![format!("each slide counts as a patient: {reason}")] } else { Vec::new() }
}

/// The class that a label means. `None`: it is not in the map, and no class either.
pub(super) fn class(label: &str, settings: &CohortSettings) -> Option<String> {
    let map = &settings.label_map;
    if map.is_empty() {
        return Some(label.to_owned());
    }
    let mapped = map.get(label).or_else(|| map.get(whole(label)));
    let is_class = || settings.classes.iter().chain(map.values()).any(|class| class == label);
    mapped.cloned().or_else(|| is_class().then(|| label.to_owned()))
}

/// The settings' classes, else the format's own, else those found, sorted.
fn classes(labels: &[Option<String>], settings: &CohortSettings) -> Vec<String> {
    if !settings.classes.is_empty() {
        return settings.classes.clone();
    }
    if settings.format == Format::Camelyon17 && settings.label_map.is_empty() {
        return NODE_CLASSES.map(str::to_owned).to_vec();
    }
    let mut found: Vec<String> = labels.iter().flatten().filter(|label| !label.is_empty()).cloned().collect();
    found.sort();
    found.dedup();
    found
}

/// The part that a cell means: by `part-map`, else by the usual spellings in any capitals.
///
/// # Errors
/// A `part-map` that leads elsewhere than to a part.
fn parts(settings: &CohortSettings) -> Result<impl Fn(&str) -> Option<&'static str>> {
    let spelt = |cell: &str| {
        let cell = cell.to_lowercase();
        PARTS.iter().find(|(_, spellings)| spellings.contains(&cell.as_str())).map(|(part, _)| *part)
    };
    for (from, to) in &settings.part_map {
        ensure!(spelt(to).is_some(), "cohort.part-map: '{from}' leads to '{to}', which is none of train, valid and test");
    }
    let map: BTreeMap<String, String> = settings.part_map.iter().map(|(from, to)| (from.to_lowercase(), to.clone())).collect();
    Ok(move |cell: &str| spelt(map.get(&cell.to_lowercase()).map_or(cell, String::as_str)))
}
