//! A sweep: lists of values for some settings; every combination is a run.

use serde::Deserialize;
use toml::Value;

/// One `[[sweep]]` of a pipeline file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Sweep {
    /// Name of the comparison; runs of one group differ in fold and seed only. `{key}` stands for that setting's value in the run.
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
    let points = sweep.set.iter().fold(vec![Vec::new()], |points: Vec<Vec<(String, Value)>>, (key, value)| {
        let values = match value {
            Value::Array(values) => values.clone(),
            single => vec![single.clone()],
        };
        let with = |point: &Vec<(String, Value)>, value: Value| point.iter().cloned().chain([(key.clone(), value)]).collect();
        points.iter().flat_map(|point| values.iter().map(move |value| with(point, value.clone()))).collect()
    });
    points
        .into_iter()
        .map(|point| std::iter::once(("probe.group".to_owned(), label(&sweep.group, &point))).chain(point).collect())
        .collect()
}

fn label(group: &str, point: &[(String, Value)]) -> Value {
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Value::String(point.iter().fold(group.to_owned(), |label, (key, value)| label.replace(&format!("{{{key}}}"), &shown(value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_is_a_run() {
        let sweep: Sweep = toml::from_str("group = 'g {c}'\n[set]\n'a.b' = [1, 2]\nc = ['x', 'y', 'z']\nd = true").expect("a sweep");
        let points = points(&[sweep]);
        assert_eq!(points.len(), 6);
        assert_eq!(points[1][0], ("probe.group".to_owned(), Value::String("g y".into())));
        assert_eq!(
            points[1][1..],
            [("a.b".to_owned(), Value::Integer(1)), ("c".to_owned(), Value::String("y".into())), ("d".to_owned(), Value::Boolean(true))]
        );
    }
}
