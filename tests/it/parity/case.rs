//! A golden case: what a reference computed, how its inputs are made, how close we must come, and what was compared.
//!
//! A case is `NAME.json` beside `NAME.safetensors`. Nothing of a case is written in code: shapes, hyper-parameters,
//! tensor names and limits come from the files. A stored tensor that is neither read nor compared fails its case.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tch::{Kind, Tensor};

use super::fill;

/// What became of a case.
pub enum Outcome {
    /// Computed and compared; `Case` holds what was found.
    Compared,
    /// Something that no checkout holds is absent here; the reason is printed.
    Absent(String),
}

/// How close two tensors must be.
#[derive(Clone, Copy)]
pub enum Limit {
    /// |a − b| ≤ atol + rtol · |b| for each element.
    Element {
        /// Relative part.
        rtol: f64,
        /// Absolute part.
        atol: f64,
    },
    /// max|a − b| ≤ limit · max|b|.
    RelativeMax(f64),
    /// ‖a − b‖ ≤ rel · ‖b‖; where ‖b‖ < atol, ‖a − b‖ ≤ atol.
    Norm {
        /// Relative part.
        rel: f64,
        /// Absolute part.
        atol: f64,
    },
    /// Cosine of each row (first dimension) ≥ limit.
    Cosine(f64),
    /// Equal, for integers.
    Exact,
}

/// One golden case.
pub struct Case {
    /// File stem.
    pub name: String,
    /// The whole JSON.
    pub spec: Value,
    tensors: BTreeMap<String, Tensor>,
    touched: RefCell<BTreeSet<String>>,
    problems: RefCell<Vec<String>>,
}

/// Runs `check` on every case of `family`; prints how many passed and what was left out; fails on the first differences found.
pub fn each(test: &str, family: &str, check: impl Fn(&Case) -> Outcome) {
    each_named(test, family, |_| true, check);
}

/// [`each`] for the cases whose name `wanted` accepts; another test is in charge of the others.
pub fn each_named(test: &str, family: &str, wanted: impl Fn(&str) -> bool, check: impl Fn(&Case) -> Outcome) {
    let Some(folder) = crate::data::parity(test) else { return };
    let (mut passed, mut failed) = (0, Vec::new());
    for case in Case::all(&folder, family).into_iter().filter(|case| wanted(&case.name)) {
        match check(&case) {
            Outcome::Compared => match case.verdict() {
                Ok(()) => passed += 1,
                Err(problems) => failed.push(format!("{family}/{}:\n    {problems}", case.name)),
            },
            Outcome::Absent(reason) => eprintln!("golden {family}/{}: skipped: {reason}", case.name),
        }
    }
    eprintln!("golden {family}: {passed} cases passed");
    assert!(failed.is_empty(), "{} cases differ from their reference:\n{}", failed.len(), failed.join("\n"));
}

impl Case {
    /// Every case of a family, by name.
    pub fn all(folder: &Path, family: &str) -> Vec<Self> {
        let folder = folder.join(family);
        let mut specs: Vec<_> = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("'{}': {error}", folder.display()))
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .collect();
        specs.sort();
        specs.iter().map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> Self {
        let spec = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap_or_else(|error| panic!("'{}': {error}", path.display()));
        let bytes = std::fs::read(path.with_extension("safetensors")).unwrap_or_else(|error| panic!("'{}': {error}", path.display()));
        let stored = SafeTensors::deserialize(&bytes).unwrap_or_else(|error| panic!("'{}': {error}", path.display()));
        let tensors = stored.iter().map(|(name, view)| {
            let kind = match view.dtype() {
                Dtype::F32 => Kind::Float,
                Dtype::F64 => Kind::Double,
                Dtype::I64 => Kind::Int64,
                Dtype::U8 => Kind::Uint8,
                other => panic!("'{}': {name} is stored as {other:?}", path.display()),
            };
            let shape: Vec<i64> = view.shape().iter().map(|&side| side as i64).collect();
            (name.to_owned(), Tensor::from_data_size(view.data(), &shape, kind))
        });
        Self {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            tensors: tensors.collect(),
            spec,
            touched: RefCell::default(),
            problems: RefCell::default(),
        }
    }

    /// `hyper` of the JSON.
    pub fn hyper(&self) -> &Value {
        &self.spec["hyper"]
    }

    /// A number under `tolerance`, by JSON pointer: `/rel_max`, `/f64/rtol`.
    pub fn tolerance(&self, pointer: &str) -> Option<f64> {
        self.spec["tolerance"].pointer(pointer).and_then(Value::as_f64)
    }

    /// The input `name`, f32 (labels i64): stored if it is stored, else generated as the JSON says. Its shape must be fixed.
    pub fn input(&self, name: &str) -> Tensor {
        self.input_shaped(name, None)
    }

    /// The input `name` whose shape has an `"N"`, with that many rows; a smaller bag is a prefix of a larger one.
    pub fn input_rows(&self, name: &str, rows: i64) -> Tensor {
        self.input_shaped(name, Some(rows))
    }

    fn input_shaped(&self, name: &str, rows: Option<i64>) -> Tensor {
        if self.tensors.contains_key(name) {
            return self.stored(name);
        }
        let inputs = self.spec["inputs"].as_array().map_or(&[][..], Vec::as_slice);
        let entry = inputs
            .iter()
            .find(|entry| entry["name"].as_str().is_some_and(|pattern| covers(pattern, name)))
            .unwrap_or_else(|| panic!("{}: no input called '{name}'", self.name));
        let shape: Vec<i64> = entry["shape"]
            .as_array()
            .unwrap()
            .iter()
            .map(|side| side.as_i64().or(rows.filter(|_| side == "N")).unwrap_or_else(|| panic!("{}: shape of '{name}'", self.name)))
            .collect();
        match entry["rule"].as_str() {
            None => self.generate(entry, name, &shape),
            Some("int") => fill::integers(&self.key(name), &shape, entry["mod"].as_u64().unwrap()),
            Some(rule) => panic!("{}: input '{name}' has the rule '{rule}' and is not stored", self.name),
        }
    }

    /// The weights by the reference's names, in its order; f32, counters i64.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let entries = self.spec["state"].as_array().map_or(&[][..], Vec::as_slice);
        entries
            .iter()
            .map(|entry| {
                let name = entry["name"].as_str().unwrap();
                let shape: Vec<i64> = entry["shape"].as_array().unwrap().iter().map(|side| side.as_i64().unwrap()).collect();
                let counter = entry["rule"] == "counter";
                (name.to_owned(), if counter { fill::counter(&shape) } else { self.generate(entry, name, &shape) })
            })
            .collect()
    }

    fn generate(&self, entry: &Value, name: &str, shape: &[i64]) -> Tensor {
        let number = |field: &str| entry[field].as_f64().unwrap_or_else(|| panic!("{}: '{name}' has no {field}", self.name));
        fill::floats(&self.key(name), shape, number("offset"), number("scale"), entry["abs"] == true)
    }

    /// The generator's key for `name`: the case's salt and the name.
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.spec["salt"].as_str().unwrap_or(""))
    }

    /// Whether a tensor is stored under `name`.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Names of all stored tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A stored tensor as it is stored; it counts as read.
    pub fn stored(&self, name: &str) -> Tensor {
        self.touched.borrow_mut().insert(name.to_owned());
        self.tensors.get(name).unwrap_or_else(|| panic!("{}: nothing is stored as '{name}'", self.name)).shallow_clone()
    }

    /// Compares `ours` with the tensor stored as `name`.
    pub fn compare(&self, name: &str, ours: &Tensor, limit: Limit) {
        if !self.has(name) {
            return self.problem(format!("'{name}' is not stored"));
        }
        self.close(name, ours, &self.stored(name), limit);
    }

    /// Compares a number with a number of the JSON.
    pub fn compare_number(&self, what: &str, ours: f64, theirs: f64, limit: Limit) {
        self.close(what, &Tensor::from(ours), &Tensor::from(theirs), limit);
    }

    /// Compares any two tensors; a difference beyond the limit (NaN always) is a problem of this case.
    pub fn close(&self, what: &str, ours: &Tensor, theirs: &Tensor, limit: Limit) {
        if ours.size() != theirs.size() {
            return self.problem(format!("{what}: shape {:?} instead of {:?}", ours.size(), theirs.size()));
        }
        let (ours, theirs) = (ours.detach().to_kind(Kind::Double), theirs.to_kind(Kind::Double));
        let difference = (&ours - &theirs).abs();
        // The share of the limit that is used; 1 is the limit itself.
        let share = if ours.numel() == 0 {
            0.0
        } else {
            match limit {
                Limit::Element { rtol, atol } => (&difference / (theirs.abs() * rtol + atol)).max().double_value(&[]),
                Limit::RelativeMax(limit) => within(difference.max().double_value(&[]), theirs.abs().max().double_value(&[]) * limit),
                Limit::Norm { rel, atol } => {
                    let norm = theirs.norm().double_value(&[]);
                    within(difference.norm().double_value(&[]), if norm < atol || norm == 0.0 { atol } else { norm * rel })
                }
                Limit::Cosine(least) => {
                    let rows = ours.size().first().copied().unwrap_or(1);
                    let (ours, theirs) = (ours.reshape([rows, -1]), theirs.reshape([rows, -1]));
                    let cosine = Tensor::cosine_similarity(&ours, &theirs, 1, 1e-30).min().double_value(&[]);
                    (1.0 - cosine) / (1.0 - least)
                }
                Limit::Exact => within(difference.max().double_value(&[]), 0.0),
            }
        };
        if share.is_nan() || share > 1.0 {
            let largest = difference.max().double_value(&[]);
            self.problem(format!("{what}: {share:.3} times its limit (largest difference {largest:.3e})"));
        }
    }

    /// Notes a failure that is no difference of tensors.
    pub fn problem(&self, text: String) {
        self.problems.borrow_mut().push(text);
    }

    fn verdict(&self) -> Result<(), String> {
        let touched = self.touched.borrow();
        let unread = self.names().filter(|name| !touched.contains(*name)).map(|name| format!("'{name}' is stored but was not compared"));
        let problems: Vec<String> = self.problems.borrow().iter().cloned().chain(unread).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems.join("\n    ")) }
    }
}

fn within(difference: f64, limit: f64) -> f64 {
    if difference == 0.0 { 0.0 } else { difference / limit }
}

/// `batch0..4` stands for `batch0` … `batch4`.
fn covers(pattern: &str, name: &str) -> bool {
    let Some((first, last)) = pattern.split_once("..") else { return pattern == name };
    let stem = first.trim_end_matches(|c: char| c.is_ascii_digit());
    let bounds = (first[stem.len()..].parse::<u32>(), last.parse::<u32>());
    match (bounds, name.strip_prefix(stem).map(str::parse::<u32>)) {
        ((Ok(first), Ok(last)), Some(Ok(index))) => (first..=last).contains(&index),
        _ => false,
    }
}
