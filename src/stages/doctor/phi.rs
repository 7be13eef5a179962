//! Where slide files may tell whose they are.

use std::fmt;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::slides;

/// One thing that somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// File name inside the slide folder.
    pub slide: String,
    /// Tag, picture or name.
    pub place: String,
    /// What is often found there.
    pub what: String,
    /// Length of what stands there; 0 for pictures.
    pub characters: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}\t{}\t{}", self.slide, self.place, self.what, self.characters)
    }
}

/// Where slides may tell whose they are: tags, attached pictures, file names. A slide that cannot be opened is a finding too.
///
/// # Errors
/// No slides at `path`.
pub fn places(path: &Path) -> Result<Vec<Place>> {
    let mut findings = Vec::new();
    for slide in slides::list(path)? {
        let mut add = |place: &str, what: String, characters| {
            findings.push(Place { slide: slide.file.clone(), place: place.to_owned(), what, characters });
        };
        if let Some(what) = slides::name_risk(&slide.id) {
            add("file name", format!("it looks like {what}"), slide.id.chars().count());
        }
        match slides::privacy_risks(&slide.path) {
            Ok(risks) => risks.into_iter().for_each(|risk| add(&risk.place, risk.why.to_owned(), risk.characters)),
            Err(error) => add("the file", format!("not looked at: {error:#}"), 0),
        }
    }
    tracing::info!("doctor: {} places to look at; wsi itself reads none of them and copies none into its outputs", findings.len());
    Ok(findings)
}
