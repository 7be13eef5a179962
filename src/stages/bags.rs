//! `bags`: look at bags of any layout, judge them, and write them in another. An export is no run: it goes into a folder of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail, ensure};

use super::one_line;
use crate::datasets::cohort::{self, Cohort, CohortSettings};
use crate::ground::interrupt;
use crate::ground::progress::Progress;
use crate::store::formats::{self, Exchange, Format, Given, Labelled, Violation};

/// Which bags.
pub struct Inputs {
    /// A folder of bags, or a cohort file.
    pub root: PathBuf,
    /// The layout's name; `None` looks.
    pub format: Option<String>,
    /// What the layout does not say.
    pub given: Given,
}

impl Inputs {
    fn format(&self) -> Result<&'static dyn Format> {
        self.given.check()?;
        match &self.format {
            Some(name) => formats::named(name),
            None => formats::detect(&self.root),
        }
    }

    fn ids(&self, format: &dyn Format) -> Result<Vec<String>> {
        let ids = format.ids(&self.root, &self.given)?;
        ensure!(!ids.is_empty(), "'{}' holds no bags of the layout {}", self.root.display(), format.name());
        Ok(ids)
    }
}

/// One line a bag, tab-separated, with a header line.
///
/// # Errors
/// No bags; a bag that cannot be read is a line of its own.
pub fn show(inputs: &Inputs) -> Result<Vec<String>> {
    let format = inputs.format()?;
    let mut lines = vec!["id\tlayout\ttiles\twidth\tnumbers\tencoder\tmpp\ttile px\tfootprint px\tx\ty\tnot ok".to_owned()];
    for id in inputs.ids(format)? {
        interrupt::check()?;
        lines.push(match format.read(&inputs.root, &id, &inputs.given) {
            Ok(bag) => line(&bag, format.name()),
            Err(error) => format!("{id}\t{}\t{}", format.name(), one_line(&error)),
        });
    }
    Ok(lines)
}

fn line(bag: &Exchange, layout: &str) -> String {
    let known = |value: Option<String>| value.unwrap_or_else(|| "?".to_owned());
    let range = |of: fn(&crate::ground::units::Coord) -> i64| {
        let values = || bag.coords.iter().map(of);
        values().min().zip(values().max()).map_or_else(|| "-".to_owned(), |(low, high)| format!("{low}..{high}"))
    };
    let status = bag.header.as_ref().and_then(|header| header.status);
    [
        bag.id.clone(),
        layout.to_owned(),
        bag.tiles().to_string(),
        bag.width.to_string(),
        match bag.values {
            formats::Values::Half(_) => "f16".to_owned(),
            formats::Values::Single(_) => "f32".to_owned(),
        },
        known(bag.encoder.clone()),
        known(bag.mpp.map(|mpp| format!("{:.4}", mpp.mean()))),
        known(bag.tile_px.map(|px| px.to_string())),
        known(bag.side_level0_px.map(|px| px.to_string())),
        range(|at| at.x),
        range(|at| at.y),
        known(status.map(|status| (status.unreadable + status.outside + status.blank).to_string())),
    ]
    .join("\t")
}

/// Every rule that a bag breaks, bag by bag.
///
/// # Errors
/// No bags.
pub fn lint(inputs: &Inputs) -> Result<Vec<Violation>> {
    let format = inputs.format()?;
    let mut found = Vec::new();
    for id in inputs.ids(format)? {
        interrupt::check()?;
        found.extend(formats::lint(format, &inputs.root, &id, &inputs.given)?);
    }
    Ok(found)
}

/// Writes the bags in the layout `to` into the folder `out`, which must not hold anything. A bag that fails stops no other.
///
/// # Errors
/// No bags, a layout that is read only, labels that cannot be read; at the end, one error that names every bag that failed and why.
pub fn convert(inputs: &Inputs, to: &str, labels: Option<&Path>, out: &Path) -> Result<usize> {
    let from = inputs.format()?;
    let to = formats::named(to)?;
    let ids = inputs.ids(from)?;
    let empty = !out.exists() || out.read_dir().is_ok_and(|mut entries| entries.next().is_none());
    ensure!(empty, "'{}' is not empty; choose another --out", out.display());
    let labels = labels.map(targets).transpose()?;
    let mut writer = to.writer(out)?.ok_or_else(|| anyhow!("the layout {} is read only", to.name()))?;

    let progress = Progress::new("bags", ids.len());
    let mut failed = Vec::new();
    for id in &ids {
        interrupt::check()?;
        let written = from.read(&inputs.root, id, &inputs.given).and_then(|bag| {
            let bag = bag.with(&inputs.given);
            let label = labels.as_ref().and_then(|labels| labels.get(id));
            // Indices of two lists of classes must not meet in one cohort.
            let target = if labels.is_some() { label.map(|(target, _)| *target) } else { bag.label };
            writer.add(&Exchange { label: target, labelled: label.map(|(_, l)| l.clone()), ..bag })
        });
        if let Err(error) = written {
            failed.push(format!("  {id}: {}", one_line(&error)));
        }
        progress.add(1, id);
    }
    progress.finish();
    let done = ids.len() - failed.len();
    if let Err(error) = writer.finish() {
        failed.push(format!("  what belongs to the whole cohort: {}", one_line(&error)));
    }
    tracing::info!("bags: {done} of {} converted from {} to {}", ids.len(), from.name(), to.name());
    if !failed.is_empty() {
        bail!("{done} of {} bags were converted and are complete; what failed:\n{}", ids.len(), failed.join("\n"));
    }
    Ok(done)
}

/// Class index, class and patient of each slide in a table of labels.
fn targets(path: &Path) -> Result<BTreeMap<String, (i64, Labelled)>> {
    let Cohort { classes, slides, .. } = Cohort::read(path, &CohortSettings::default(), 0)?;
    let labelled = |slide: cohort::Labelled| {
        let class = classes[slide.target as usize].clone();
        (slide.slide, (slide.target, Labelled { patient: slide.patient, class }))
    };
    Ok(slides.into_iter().map(labelled).collect())
}
