//! The labels, and whether they and the slides name the same.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, Patient, error, ok, warning};
use crate::datasets::cohort::{Cohort, match_ids};
use crate::ground::listing::listing;
use crate::stages::one_line;

const TABLE: &str = "labels";
const JOINED: &str = "labels and slides";

pub(super) fn check(patient: &Patient) -> Vec<Finding> {
    let (Some(path), config) = (&patient.asked.labels, &patient.asked.config) else { return Vec::new() };
    let cohort = match Cohort::read(path, &config.cohort, config.seed) {
        Ok(cohort) => cohort,
        Err(wrong) => {
            // Outputs hold no path of the machine.
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let seen = one_line(&wrong).replace(&path.display().to_string(), &name);
            return vec![error(TABLE, seen, "docs/cohorts.md says how labels are read")];
        }
    };
    let mut findings = vec![classes(&cohort)];
    if let Some(slides) = patient.slides.as_ref().and_then(|slides| slides.ids()) {
        findings.extend(joined(&cohort, &slides));
    }
    findings
}

/// Slides and patients of each class. A class of one patient cannot be on two sides of a split.
fn classes(cohort: &Cohort) -> Finding {
    let mut patients: BTreeMap<i64, (usize, BTreeSet<&str>)> = BTreeMap::new();
    for slide in &cohort.slides {
        let (slides, of) = patients.entry(slide.target).or_default();
        *slides += 1;
        of.insert(&slide.patient);
    }
    let all: BTreeSet<&str> = cohort.slides.iter().map(|slide| slide.patient.as_str()).collect();
    let counts = cohort.classes.iter().enumerate().map(|(class, name)| {
        let (slides, of) = patients.get(&(class as i64)).map_or((0, 0), |(slides, of)| (*slides, of.len()));
        (name, slides, of)
    });
    let counts: Vec<_> = counts.collect();
    let words: Vec<String> = counts.iter().map(|(name, slides, of)| format!("{name} {slides} of {of}")).collect();
    let seen = format!("{} slides of {} patients; each class's: {}", cohort.slides.len(), all.len(), listing(&words, ", "));
    if counts.iter().any(|(_, slides, _)| *slides == 0) {
        return error(TABLE, seen, "a class without a slide: take it out of cohort.classes, or correct cohort.label-map");
    }
    if counts.iter().any(|(.., of)| *of < 2) {
        return warning(TABLE, seen, "a class of one patient cannot be both trained and tested on");
    }
    ok(TABLE, seen)
}

fn joined(cohort: &Cohort, slides: &[String]) -> Vec<Finding> {
    let labels: Vec<String> = cohort.slides.iter().map(|slide| slide.slide.clone()).collect();
    let matched = match_ids(&labels, slides);
    let mut findings = Vec::new();
    let named = |ids: &[String], at: &[usize]| listing(&at.iter().map(|&index| ids[index].as_str()).collect::<Vec<_>>(), ", ");
    if !matched.ambiguous.is_empty() {
        let each: Vec<String> = matched.ambiguous.iter().map(|(id, why)| format!("'{id}' {}", why.replace("bag", "slide"))).collect();
        findings.push(error(JOINED, listing(&each, "; "), "write the id as the slide's file has it"));
    }
    let (lost, unlabelled) = (&matched.labels_without_bag, &matched.bags_without_label);
    if !lost.is_empty() {
        let seen = format!("{} of {} labels have no slide: {}", lost.len(), labels.len(), named(&labels, lost));
        let advice = "find the slides, remove the rows, or set cohort.partial = true";
        // Training refuses labels without a bag unless it is told otherwise.
        let level = if cohort.partial && !matched.pairs.is_empty() { warning } else { error };
        findings.push(level(JOINED, seen, advice));
    }
    if !unlabelled.is_empty() {
        let seen = format!("{} of {} slides have no label: {}", unlabelled.len(), slides.len(), named(slides, unlabelled));
        findings.push(warning(JOINED, seen, "they are tiled and embedded, and left out of training"));
    }
    if !matched.repaired.is_empty() {
        let each: Vec<String> = matched.repaired.iter().map(|(label, slide)| format!("'{label}' is '{slide}'")).collect();
        let seen = format!("{} labels had lost their leading zeros: {}", each.len(), listing(&each, ", "));
        findings.push(warning(JOINED, seen, "they are put back; export the table with ids as text"));
    }
    if findings.is_empty() {
        findings.push(ok(JOINED, format!("{} slides, each with its label", matched.pairs.len())));
    }
    findings
}
