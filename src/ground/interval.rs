//! A value with its uncertainty: what every score is stored and shown as.

use serde::{Deserialize, Deserializer, Serialize};

/// A statistic and the interval around it. A statistic that is undefined is NaN here and `null` in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The statistic on the data as they are.
    #[serde(deserialize_with = "null_is_nan")]
    pub value: f64,
    /// Lower bound.
    #[serde(deserialize_with = "null_is_nan")]
    pub low: f64,
    /// Upper bound.
    #[serde(deserialize_with = "null_is_nan")]
    pub high: f64,
    /// Resamples in which the statistic was defined; 0 means that there is no interval.
    #[serde(default)]
    pub resamples_used: usize,
    /// Why there are no bounds, where some were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unbounded: Option<Unbounded>,
}

/// Why a value has no interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unbounded {
    /// Fewer than two patients: nothing to resample.
    OnePatient,
    /// The statistic is defined in no resample.
    NeverDefined,
    /// BCa only: every resample lies on one side of the value, or the spread changes too fast with the value.
    TooSkewed,
}

impl Interval {
    /// A value without an interval.
    pub fn point(value: f64) -> Self {
        Self { value, low: f64::NAN, high: f64::NAN, resamples_used: 0, unbounded: None }
    }

    /// A value whose interval cannot be had.
    pub fn without_bounds(value: f64, resamples_used: usize, why: Unbounded) -> Self {
        Self { resamples_used, unbounded: Some(why), ..Self::point(value) }
    }

    /// Whether both bounds are known.
    pub fn is_bounded(&self) -> bool {
        self.low.is_finite() && self.high.is_finite()
    }
}

impl std::fmt::Display for Interval {
    /// `0.958 (0.871–1.000)`, or `undefined`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.value.is_finite(), self.is_bounded()) {
            (false, _) => write!(f, "undefined"),
            (true, false) => write!(f, "{:.3}", self.value),
            (true, true) => write!(f, "{:.3} ({:.3}–{:.3})", self.value, self.low, self.high),
        }
    }
}

/// JSON has no NaN: serde_json writes it as `null`, and this reads it back.
///
/// # Errors
/// Neither a number nor `null`.
pub fn null_is_nan<'de, D: Deserializer<'de>>(source: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(source)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undefined_value_survives_json() {
        let text = serde_json::to_string(&Interval::point(f64::NAN)).unwrap();
        assert_eq!(text, r#"{"value":null,"low":null,"high":null,"resamples_used":0}"#);
        assert!(serde_json::from_str::<Interval>(&text).unwrap().value.is_nan());
    }
}
