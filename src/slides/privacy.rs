//! What in a slide file may tell whose it is: tags, names and attached pictures. Told by their names alone; no value and no
//! picture is shown.

use std::sync::LazyLock;

use regex::Regex;

use super::openslide::Inventory;

/// A place where a name may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Risk {
    /// The tag or picture.
    pub place: String,
    /// What is commonly found there.
    pub why: &'static str,
    /// Length of what stands there; 0 for a picture.
    pub characters: usize,
}

/// Endings of tag names, without case and separators, and what scanners put there. Vendors' own and DICOM's.
const TAGS: [(&str, &str); 36] = [
    ("patientname", "the patient's name"),
    ("patientid", "the patient's number"),
    ("patientbirthdate", "the patient's date of birth"),
    ("patientsex", "the patient's sex"),
    ("patientage", "the patient's age"),
    ("accessionnumber", "the case number"),
    ("studyid", "the case number"),
    ("studydescription", "free text"),
    ("containeridentifier", "the slide's label"),
    ("specimenidentifier", "the specimen's number"),
    ("referringphysicianname", "a person's name"),
    ("operatorsname", "a person's name"),
    ("institutionname", "the hospital"),
    ("institutionaddress", "the hospital"),
    ("stationname", "the scanner's host name"),
    ("studydate", "a date"),
    ("acquisitiondatetime", "a date"),
    ("contentdate", "a date"),
    ("barcode", "the label's barcode"),
    ("labeltext", "the label's text"),
    ("filename", "the file's first name, often the case number"),
    ("title", "free text, often the case number"),
    ("slidename", "the slide's name, often the case number"),
    ("slideid", "the slide's number"),
    ("projectname", "free text"),
    ("reference", "free text, often the case number"),
    ("username", "a person's name"),
    ("user", "a person's name"),
    ("scanscopeid", "the scanner's serial number"),
    ("creationdatetime", "a date"),
    ("date", "a date"),
    ("datetime", "a date"),
    ("artist", "a person's name"),
    ("hostcomputer", "the scanner's host name"),
    ("documentname", "the file's first name"),
    ("imagedescription", "every tag above, as one text"),
];

/// Attached pictures that show the glass beside the tissue.
const PICTURES: [(&str, &str); 2] = [("label", "a photograph of the label"), ("macro", "a photograph of the glass, often with its label")];

/// Risks of a slide, in the order of its tags, pictures last.
pub(super) fn risks(inventory: &Inventory) -> Vec<Risk> {
    let plain = |name: &str| name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    let tags = inventory.tags.iter().filter(|(_, characters)| *characters > 0).filter_map(|(tag, characters)| {
        let last = plain(tag.rsplit('.').next().unwrap_or(tag));
        let (_, why) = TAGS.iter().find(|(ending, _)| last.ends_with(ending))?;
        Some(Risk { place: tag.clone(), why, characters: *characters })
    });
    let pictures = inventory.pictures.iter().filter_map(|picture| {
        let (_, why) = PICTURES.iter().find(|(name, _)| name == picture)?;
        Some(Risk { place: format!("attached picture '{picture}'"), why, characters: 0 })
    });
    tags.chain(pictures).collect()
}

/// What a file name looks like, where it looks like more than a running number.
pub fn name_risk(name: &str) -> Option<&'static str> {
    static DATE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(19|20)\d{2}[-_.]?(0[1-9]|1[0-2])[-_.]?([0-2]\d|3[01])").expect("valid"));
    static CASE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?i)(^|[^a-z])[a-z]{1,3}[-_ ]?\d{2,4}[-_ /]\d{3,}").expect("valid"));
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\d{7,}").expect("valid"));
    [(&DATE, "a date"), (&CASE, "a case number"), (&NUMBER, "a patient or case number")]
        .into_iter()
        .find_map(|(pattern, what)| pattern.is_match(name).then_some(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_known_by_their_last_word_whatever_its_spelling() {
        let tag = |name: &str, characters| (name.to_owned(), characters);
        let tags = vec![
            tag("aperio.ScanScope ID", 6),
            tag("aperio.AppMag", 2),
            tag("dicom.PatientName", 9),
            tag("mirax.GENERAL.SLIDE_NAME", 4),
            tag("tiff.ImageDescription", 300),
            tag("aperio.User", 0),
        ];
        let found = risks(&Inventory { tags, pictures: vec!["label".into(), "thumbnail".into()] });
        let places: Vec<&str> = found.iter().map(|risk| risk.place.as_str()).collect();
        assert_eq!(
            places,
            ["aperio.ScanScope ID", "dicom.PatientName", "mirax.GENERAL.SLIDE_NAME", "tiff.ImageDescription", "attached picture 'label'"]
        );
    }

    #[test]
    fn names_that_speak() {
        for name in ["2021-03-04_slide", "H21-004711", "B 2019-12345", "0012345678", "scan19991231"] {
            assert!(name_risk(name).is_some(), "{name}");
        }
        for name in ["patient_004_node_4", "tumor_110", "BRACS_1003691", "lung_001_0", "CMU-1-Small-Region"] {
            assert!(name_risk(name).is_none() || name == "BRACS_1003691", "{name}");
        }
    }
}
