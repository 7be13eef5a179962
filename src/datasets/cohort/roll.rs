//! Who is in and who is not: labels joined to bags, and the file that says so, `cohort.csv`.

use std::path::Path;

use anyhow::{Context, Result};

use super::ids::match_ids;
use super::offenders::Offenders;
use super::{CENTRE, Cohort, Labelled, PART};
use crate::ground::listing::listing;
use crate::store::table::{self, Cells};

/// The file's name inside a train folder.
pub const FILE: &str = "cohort.csv";

/// Whether a slide is trained or tested on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It has a label and a bag.
    Used,
    /// It has a label, but no bag.
    NoBag,
    /// It has a bag, but no label.
    NoLabel,
}

impl Status {
    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::NoBag => "no bag",
            Self::NoLabel => "no label",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Used, Self::NoBag, Self::NoLabel].into_iter().find(|status| status.name() == name)
    }
}

/// One slide that labels or bags name; what is not known of it is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Slide id.
    pub slide: String,
    /// Patient id.
    pub patient: String,
    /// Class name.
    pub label: String,
    /// Centre, where the cohort has one.
    pub centre: String,
    /// Official part, where the cohort has one.
    pub part: String,
    /// Whether it is used.
    pub status: Status,
}

/// Reads the file that [`Roll::write`] wrote.
///
/// # Errors
/// Names the file: a missing column, a status that there is not.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let frame = table::read(path)?;
    let text = |name: &str| table::text(&frame, name, path);
    let [slides, patients, labels] = ["slide_id", "patient_id", "label"].map(text);
    let [centres, parts, statuses] =
        ["centre", "part", "status"].map(|name| if table::has(&frame, name) { text(name) } else { Ok(Vec::new()) });
    let (slides, patients, labels, centres, parts, statuses) = (slides?, patients?, labels?, centres?, parts?, statuses?);
    let cell = |cells: &[String], row: usize| cells.get(row).cloned().unwrap_or_default();
    let entry = |(row, slide): (usize, String)| {
        let status = cell(&statuses, row);
        Ok(Entry {
            slide,
            patient: cell(&patients, row),
            label: cell(&labels, row),
            centre: cell(&centres, row),
            part: cell(&parts, row),
            status: Status::named(&status).with_context(|| format!("'{}': '{status}' is no status", path.display()))?,
        })
    };
    slides.into_iter().enumerate().map(entry).collect()
}

/// Every slide that labels or bags name, sorted by id, and what was waived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roll {
    /// Sorted by slide id.
    pub entries: Vec<Entry>,
    /// Checks that the settings switched off, each with its reason.
    pub waivers: Vec<String>,
}

impl Roll {
    /// Writes slide_id, patient_id, label, centre, part and status, one row a slide.
    ///
    /// # Errors
    /// Names the file.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = |cell: fn(&Entry) -> &str| Cells::Text(self.entries.iter().map(|entry| cell(entry).to_owned()).collect());
        table::write(
            path,
            vec![
                ("slide_id", text(|entry| &entry.slide)),
                ("patient_id", text(|entry| &entry.patient)),
                ("label", text(|entry| &entry.label)),
                ("centre", text(|entry| &entry.centre)),
                ("part", text(|entry| &entry.part)),
                ("status", text(|entry| entry.status.name())),
            ],
        )
    }
}

impl Cohort {
    /// The slides that have a bag, under the bag's own id and sorted by it, and the roll of all. `bags`: ids, in any order; `place`:
    /// where they lie, for messages.
    ///
    /// # Errors
    /// Every label that fits several bags; without `partial`, every label without a bag; no label with a bag.
    pub fn join(mut self, bags: &[String], place: &str) -> Result<(Self, Roll)> {
        let labels: Vec<String> = self.slides.iter().map(|slide| slide.slide.clone()).collect();
        let matched = match_ids(&labels, bags);
        let mut wrong = Offenders::default();
        for (id, reason) in &matched.ambiguous {
            wrong.add("labels that do not name one bag each; write the id as the bag's file has it", format!("'{id}' {reason}"));
        }
        let without_bag: Vec<String> = matched.labels_without_bag.iter().map(|&label| format!("'{}'", labels[label])).collect();
        if !self.partial || matched.pairs.is_empty() {
            let fault = format!(
                "{} of the {} slides in the labels have no bag; extract them, remove their rows, or set cohort.partial = true to use those \
                 that have one",
                without_bag.len(),
                labels.len()
            );
            without_bag.iter().for_each(|id| wrong.add(&fault, id));
        }
        wrong.refuse(format_args!("'{place}'"))?;
        if !without_bag.is_empty() {
            tracing::warn!("{} slides have a label, but no bag, and are left out: {}", without_bag.len(), listing(&without_bag, ", "));
        }
        if !matched.repaired.is_empty() {
            let repaired: Vec<String> = matched.repaired.iter().map(|(label, bag)| format!("'{label}' is '{bag}'")).collect();
            tracing::warn!("{} labels had lost their leading zeros: {}", repaired.len(), listing(&repaired, ", "));
        }
        if !matched.bags_without_label.is_empty() {
            let unlabelled: Vec<String> = matched.bags_without_label.iter().map(|&bag| format!("'{}'", bags[bag])).collect();
            tracing::info!("{} bags have no label and are left out: {}", unlabelled.len(), listing(&unlabelled, ", "));
        }

        for &(label, bag) in &matched.pairs {
            self.slides[label].slide.clone_from(&bags[bag]);
        }
        let known = matched.pairs.iter().map(|&(label, _)| (label, Status::Used));
        let missing = matched.labels_without_bag.iter().map(|&label| (label, Status::NoBag));
        let mut entries: Vec<Entry> = known.chain(missing).map(|(label, status)| self.entry(&self.slides[label], status)).collect();
        entries.extend(matched.bags_without_label.iter().map(|&bag| unlabelled(&bags[bag])));
        entries.sort_by(|a, b| a.slide.cmp(&b.slide));

        let mut used: Vec<Labelled> = matched.pairs.iter().map(|&(label, _)| self.slides[label].clone()).collect();
        used.sort_by(|a, b| a.slide.cmp(&b.slide));
        self.slides = used;
        let roll = Roll { entries, waivers: self.waivers.clone() };
        Ok((self, roll))
    }

    fn entry(&self, slide: &Labelled, status: Status) -> Entry {
        let column = |name: &str| slide.columns.get(name).cloned().unwrap_or_default();
        Entry {
            slide: slide.slide.clone(),
            patient: slide.patient.clone(),
            label: self.classes[slide.target as usize].clone(),
            centre: column(CENTRE),
            part: column(PART),
            status,
        }
    }
}

fn unlabelled(bag: &str) -> Entry {
    let [patient, label, centre, part] = [const { String::new() }; 4];
    Entry { slide: bag.to_owned(), patient, label, centre, part, status: Status::NoLabel }
}
