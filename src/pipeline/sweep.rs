//! A sweep: lists of values for some settings; every combination is a run.

use serde::Deserialize;
use toml::Value;

/// One `[[sweep]]` of a pipeline file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Sweep {
    /// Name of the comparison; runs of one group differ in fold and seed only.
    pub group: String,
    /// Setting → list of values, or one value.
    pub set: toml::Table,
}

/// Every run as (setting, value) pairs; one run without pairs where there is no sweep. The last setting varies fastest.
pub(super) fn points(sweeps: &[Sweep]) -> Vec<Vec<(String, Value)>> {
    if sweeps.is_empty() {
        return vec![Vec::new()];
    }
    sweeps.iter().flat_map(of_one).collect()
}

fn of_one(sweep: &Sweep) -> Vec<Vec<(String, Value)>> {
    let start = vec![vec![("probe.group".to_owned(), Value::String(sweep.group.clone()))]];
    sweep.set.iter().fold(start, |points, (key, value)| {
        let values = match value {
            Value::Array(values) => values.clone(),
            single => vec![single.clone()],
        };
        let with = |point: &Vec<(String, Value)>, value: Value| point.iter().cloned().chain([(key.clone(), value)]).collect();
        points.iter().flat_map(|point| values.iter().map(move |value| with(point, value.clone()))).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_is_a_run() {
        let sweep: Sweep = toml::from_str("group = 'g'\n[set]\n'a.b' = [1, 2]\nc = ['x', 'y', 'z']\nd = true").expect("a sweep");
        let points = points(&[sweep]);
        assert_eq!(points.len(), 6);
        assert_eq!(
            points[1][1..],
            [("a.b".to_owned(), Value::Integer(1)), ("c".to_owned(), Value::String("y".into())), ("d".to_owned(), Value::Boolean(true))]
        );
    }
}
