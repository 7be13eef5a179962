//! How recipes, decision rules and numbers are called in front of people; files keep the exact names.

use crate::store::pooled::Row;
use crate::store::scores::Decision;

/// `NCMI`, `CE`, `untrained`, or the loss's own name.
pub fn recipe(loss: &str, epochs: usize) -> String {
    match (epochs, loss) {
        (0, _) => "untrained".to_owned(),
        (_, "ncmi") => "NCMI".to_owned(),
        (_, "cross-entropy") => "CE".to_owned(),
        (_, other) => other.to_owned(),
    }
}

/// A recipe with its decision rule: `NCMI-LP`, `CE+LP`, `CE, its own head`.
// METHOD: the paper writes NCMI-LP for its own method and CE+LP for the baseline given the same probe.
pub fn recipe_and_decision(loss: &str, epochs: usize, decision: Decision) -> String {
    let (name, joint) = (recipe(loss, epochs), if loss == "ncmi" && epochs > 0 { '-' } else { '+' });
    match decision {
        Decision::Lp => format!("{name}{joint}LP"),
        Decision::Cc => format!("{name}{joint}CC"),
        Decision::Knn => format!("{name}{joint}kNN"),
        Decision::Own if loss == "supcon" => format!("{name}, nearest class mean"),
        Decision::Own => format!("{name}, its own head"),
    }
}

/// `= 0.012`, `< 0.001`: what follows a p; `None` where there was no test.
pub fn p_value(p: f64) -> Option<String> {
    match p {
        p if p.is_nan() => None,
        p if p < 0.001 => Some("< 0.001".to_owned()),
        p => Some(format!("= {p:.3}")),
    }
}

/// The name of a row.
pub fn row(row: &Row) -> String {
    let name = recipe_and_decision(&row.loss, row.epochs, row.decision);
    let rules = if row.protocol == "strict" { String::new() } else { format!(", {} protocol", row.protocol) };
    if row.labels == "true" { name + &rules } else { format!("{name}, labels {}{rules}", row.labels) }
}

/// Where a recipe stands: division, bag model (`none` for images, left out), encoder.
pub fn setting(split: &str, aggregator: &str, encoder: &str) -> String {
    let parts = [split, aggregator, encoder];
    parts.into_iter().filter(|part| !part.is_empty() && !of_images(part)).collect::<Vec<_>>().join(" · ")
}

/// Whether a recipe without a bag model classifies images, not slides of patients.
pub fn of_images(aggregator: &str) -> bool {
    aggregator == "none"
}

/// `48 slides of 24 patients`, or `916 images`.
pub fn crowd(slides: usize, patients: usize, aggregator: &str) -> String {
    if of_images(aggregator) { count(slides, "image") } else { format!("{} of {}", count(slides, "slide"), count(patients, "patient")) }
}

/// `1 slide`, `2 slides`.
pub fn count(number: usize, singular: &str) -> String {
    if number == 1 { format!("1 {singular}") } else { format!("{number} {singular}s") }
}

/// Three decimals with the sign always there; a true minus.
pub fn signed(value: f64) -> String {
    if !value.is_finite() {
        return "undefined".to_owned();
    }
    format!("{value:+.3}").replace('-', "−")
}

/// Three decimals, or a dash for what is undefined.
pub fn score(value: f64) -> String {
    if value.is_finite() { format!("{value:.3}") } else { "–".to_owned() }
}

/// A name for files: small letters, digits and single hyphens, at most 100 of them.
pub fn slug(text: &str) -> String {
    let plain: String = text.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { ' ' }).collect();
    let joined = plain.split_whitespace().collect::<Vec<_>>().join("-");
    joined.chars().take(100).collect::<String>().trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_words() {
        assert_eq!(recipe_and_decision("ncmi", 50, Decision::Lp), "NCMI-LP");
        assert_eq!(recipe_and_decision("cross-entropy", 50, Decision::Lp), "CE+LP");
        assert_eq!(recipe_and_decision("cross-entropy", 50, Decision::Knn), "CE+kNN");
        assert_eq!(recipe_and_decision("ncmi", 0, Decision::Lp), "untrained+LP");
        assert_eq!(setting("holdout", "none", "resnet18"), "holdout · resnet18");
        assert_eq!(slug("roc 4-fold by patient · ABMIL / Γ"), "roc-4-fold-by-patient-abmil");
        assert_eq!((signed(-0.0104), count(1, "seed"), score(f64::NAN)), ("−0.010".into(), "1 seed".into(), "–".into()));
    }
}
