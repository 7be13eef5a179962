//! What stands on both sides of a split: patients, slides under two names, near-duplicates, centres. It stops a run, unless a reason
//! is given that every output then repeats.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::Dataset;
use super::split::Split;
use crate::ground::listing::listing;
use crate::store::identity::Identity;

/// Settings of `[leaks]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LeakSettings {
    /// Why leaks that are found do not stop the run; empty: they do.
    pub allow: String,
    /// Column of the labels whose values may not be both tested and trained or validated on, where external validation is claimed;
    /// empty: none is.
    pub external: String,
    /// Bits of 256 by which the thumbnails of one slide may differ; 0 accepts equal ones only.
    pub thumbnail_distance: u32,
}

impl Default for LeakSettings {
    // METHOD: between copies (6 and fewer of 256 bits, `tiling::fingerprint`) and other slides (51 and more, of 1,404 pairs), nearer to
    // the copies: a cohort of hundreds of slides has a hundred times as many pairs.
    fn default() -> Self {
        Self { allow: String::new(), external: String::new(), thumbnail_distance: 24 }
    }
}

/// What two slides on two sides have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The patient.
    Patient,
    /// The slide itself, by the bytes of its file, its features or its coordinates.
    Slide,
    /// The look: the fingerprints of the thumbnails differ in a few bits.
    NearDuplicate,
    /// The centre, or whatever column the claim of external validation is about.
    External,
}

impl Kind {
    /// In words, for outputs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Patient => "same patient",
            Self::Slide => "same slide",
            Self::NearDuplicate => "near-duplicate slide",
            Self::External => "not external",
        }
    }
}

/// Two slides that a split must not part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// What they share.
    pub kind: Kind,
    /// The parts they stand in.
    pub parts: [&'static str; 2],
    /// Their ids.
    pub slides: [String; 2],
    /// What gives it away.
    pub why: String,
}

impl std::fmt::Display for Leak {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { parts: [a, b], slides: [first, second], why, .. } = self;
        write!(f, "{a}: '{first}', {b}: '{second}': {why}")
    }
}

/// Stops the run where something leaks, unless `settings.allow` says why it may; then one line per kind of leak, for every output.
/// `identities`: of the dataset's rows; empty for images, which are told apart by their ids alone.
///
/// # Errors
/// The leaks, each with its two slides and parts; a column for external validation that is not there.
pub fn check(settings: &LeakSettings, dataset: &dyn Dataset, split: &Split, identities: &[Identity]) -> Result<Vec<String>> {
    let blind = identities.iter().filter(|identity| identity.fingerprint.is_none()).count();
    if blind > 0 {
        tracing::info!(
            "leaks: {blind} of {} bags carry no fingerprint and are not checked for near-duplicates; `wsi tile` and `wsi extract` make them",
            identities.len()
        );
    }
    let found = find(settings, dataset, split, identities)?;
    let reason = settings.allow.trim();
    if found.is_empty() {
        return Ok(Vec::new());
    }
    ensure!(
        !reason.is_empty(),
        "split '{}' leaks between its parts ({}); correct the labels or the split, or give a reason with --allow-leak:\n  {}",
        split.name,
        counts(&found).iter().map(|(kind, parts, count)| format!("{}, {parts}: {count}", kind.name())).collect::<Vec<_>>().join("; "),
        listing(&found, "\n  ")
    );
    let waiver = |(kind, parts, count): (Kind, String, usize)| format!("{}, {parts}: {count}; allowed: {reason}", kind.name());
    let waivers: Vec<String> = counts(&found).into_iter().map(waiver).collect();
    waivers.iter().for_each(|waiver| tracing::warn!("leaks: {waiver}"));
    Ok(waivers)
}

fn counts(found: &[Leak]) -> Vec<(Kind, String, usize)> {
    let mut counts: BTreeMap<(Kind, String), usize> = BTreeMap::new();
    for leak in found {
        *counts.entry((leak.kind, leak.parts.join(" | "))).or_default() += 1;
    }
    counts.into_iter().map(|((kind, parts), count)| (kind, parts, count)).collect()
}

/// Every leak. Of a patient or a centre on two sides one pair of slides is named, of slides every pair.
///
/// # Errors
/// As [`check`], but for the leaks themselves.
pub fn find(settings: &LeakSettings, dataset: &dyn Dataset, split: &Split, identities: &[Identity]) -> Result<Vec<Leak>> {
    ensure!(
        identities.is_empty() || identities.len() == dataset.ids().len(),
        "{} identities for {} slides",
        identities.len(),
        dataset.ids().len()
    );
    let [train, valid, test] = split.parts();
    let sides = Sides { dataset, pairs: vec![(train, valid), (train, test), (valid, test)] };
    let mut found = sides.first_of_each(Kind::Patient, |row| &dataset.groups()[row], |patient| format!("patient '{patient}'"));
    if !identities.is_empty() {
        found.extend(sides.same_slide(identities));
        let known: Vec<[String; 2]> = found.iter().filter(|leak| leak.kind == Kind::Slide).map(|leak| leak.slides.clone()).collect();
        let alike = sides.alike(identities, settings.thumbnail_distance);
        found.extend(alike.into_iter().filter(|leak| !known.contains(&leak.slides)));
    }
    if !settings.external.is_empty() {
        let column = &settings.external;
        let Some(cells) = dataset.column(column) else {
            bail!("leaks.external: the labels have no column '{column}'; name the column that the test set is external by");
        };
        let sides = Sides { dataset, pairs: vec![(train, test), (valid, test)] };
        found.extend(sides.first_of_each(Kind::External, |row| &cells[row], |value| format!("{column} '{value}'")));
    }
    Ok(found)
}

/// One of an identity's digests.
type Digest = fn(&Identity) -> Option<&String>;

type Part<'a> = (&'static str, &'a [usize]);

/// Pairs of parts that must have nothing in common.
struct Sides<'a> {
    dataset: &'a dyn Dataset,
    pairs: Vec<(Part<'a>, Part<'a>)>,
}

impl Sides<'_> {
    fn leak(&self, kind: Kind, parts: [&'static str; 2], rows: [usize; 2], why: String) -> Leak {
        Leak { kind, parts, slides: rows.map(|row| self.dataset.ids()[row].clone()), why }
    }

    /// One leak for every value that is on both sides.
    fn first_of_each<'k>(&self, kind: Kind, key: impl Fn(usize) -> &'k String, why: impl Fn(&str) -> String) -> Vec<Leak> {
        let mut found = Vec::new();
        for &((a, rows_a), (b, rows_b)) in &self.pairs {
            let first = |rows: &[usize]| {
                let mut first = BTreeMap::new();
                for &row in rows {
                    first.entry(key(row)).or_insert(row);
                }
                first
            };
            let other = first(rows_b);
            let both = first(rows_a).into_iter().filter_map(|(key, row)| Some((key, row, *other.get(key)?)));
            found.extend(both.map(|(value, row, other)| self.leak(kind, [a, b], [row, other], why(value))));
        }
        found
    }

    /// Every pair of slides that is one slide, by the strongest evidence there is.
    fn same_slide(&self, identities: &[Identity]) -> Vec<Leak> {
        let evidence: [(&str, Digest); 3] = [
            ("the same slide file (equal digest)", |identity| identity.slide.as_ref()),
            ("the same features (equal digest)", |identity| identity.features.as_ref()),
            ("the same tiles (equal coordinates)", |identity| identity.coords.as_ref()),
        ];
        let mut found = BTreeMap::new();
        for &((a, rows_a), (b, rows_b)) in &self.pairs {
            for (why, of) in evidence {
                let mut others: BTreeMap<&String, Vec<usize>> = BTreeMap::new();
                for &row in rows_b {
                    if let Some(digest) = of(&identities[row]) {
                        others.entry(digest).or_default().push(row);
                    }
                }
                for &row in rows_a {
                    for &other in of(&identities[row]).and_then(|digest| others.get(digest)).into_iter().flatten() {
                        found.entry([row, other]).or_insert_with(|| self.leak(Kind::Slide, [a, b], [row, other], why.to_owned()));
                    }
                }
            }
        }
        found.into_values().collect()
    }

    /// Every pair of slides whose fingerprints differ in at most `distance` bits.
    fn alike(&self, identities: &[Identity], distance: u32) -> Vec<Leak> {
        let prints = |rows: &[usize]| rows.iter().filter_map(|&row| Some((row, identities[row].fingerprint?))).collect::<Vec<_>>();
        let mut found = Vec::new();
        for &((a, rows_a), (b, rows_b)) in &self.pairs {
            let others = prints(rows_b);
            for (row, print) in prints(rows_a) {
                for (other, second) in &others {
                    if let Some(bits) = print.distance(second).filter(|bits| *bits <= distance) {
                        let why = format!("thumbnails differ in {bits} of 256 bits");
                        found.push(self.leak(Kind::NearDuplicate, [a, b], [row, *other], why));
                    }
                }
            }
        }
        found
    }
}
