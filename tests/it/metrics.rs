//! Every metric against the stored values of scikit-learn and of brute-force information measures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;
use wsi::metrics::agreement::{Disagreement, kappa, matthews};
use wsi::metrics::auc::{self, OneVsRest};
use wsi::metrics::classification::{Confusion, LabelSet, argmax, top_k};
use wsi::metrics::information::{Gamma, concentration, divergence};
use wsi::metrics::{average_precision, calibration};

/// Of these the reference's own library is described, not a metric of ours.
const NOT_OURS: [&str; 1] = ["torchmetrics"];

#[test]
fn parity_metrics() {
    let Some(root) = crate::data::parity("golden metrics") else { return };
    let cases = cases(&root.join("metrics"), "cls_");
    for path in &cases {
        check_classification(path);
    }
    eprintln!("golden metrics: {} cases passed", cases.len());
    assert!(!cases.is_empty(), "no case under metrics/");
}

#[test]
fn parity_information() {
    let Some(root) = crate::data::parity("golden information") else { return };
    let cases = cases(&root.join("losses"), "cmi_metrics_");
    for path in &cases {
        check_information(path);
    }
    eprintln!("golden information: {} cases passed", cases.len());
    assert!(!cases.is_empty(), "no cmi_metrics_ case under losses/");
}

fn check_classification(path: &Path) {
    let (case, tensors) = load(path);
    let (classes, tolerance) = (case["hyper"]["C"].as_u64().unwrap() as usize, case["tolerance"]["abs"].as_f64().unwrap());
    let labels = tensors.whole("y_true");
    let probabilities = tensors.rows("probs");
    let predicted: Vec<usize> = probabilities.iter().map(|row| argmax(row)).collect();
    assert_eq!(predicted, tensors.whole("y_pred"), "{}: y_pred", path.display());
    let confusion = Confusion::new(&labels, &predicted, classes);
    assert_eq!(confusion.counts.concat(), tensors.counts("confusion"), "{}: confusion", path.display());
    let (width, mass) =
        (calibration::equal_width_bins(&labels, &probabilities, 15), calibration::equal_mass_bins(&labels, &probabilities, 15));
    for (name, bins) in [("ece_width_bins", &width), ("ece_mass_bins", &mass)] {
        if !tensors.has(name) {
            continue; // a binary problem whose labels are all of one class stores fewer results
        }
        let ours: Vec<f64> = bins.iter().flat_map(|bin| [bin.count as f64, bin.confidence, bin.accuracy]).collect();
        close(&ours, &tensors.rows(name).concat(), tolerance, &format!("{}: {name}", path.display()));
    }

    let areas = OneVsRest::new(&labels, &probabilities).per_class();
    let precisions = average_precision::per_class(&labels, &probabilities);
    let some = |values: Vec<f64>| values.into_iter().map(Some).collect::<Vec<_>>();
    let one = |value: f64| vec![Some(value).filter(|value| value.is_finite())];
    let ours = |key: &str| -> Option<Vec<Option<f64>>> {
        Some(match key {
            "accuracy" | "micro_f1" => one(confusion.accuracy()),
            "f1_per_class" => some(confusion.f1_per_class()),
            "precision_per_class" => some(confusion.precision_per_class()),
            "recall_per_class" => some(confusion.recall_per_class()),
            "macro_f1_all_classes" => one(confusion.macro_f1(LabelSet::All)),
            "macro_f1_observed_classes" => one(confusion.macro_f1(LabelSet::Observed)),
            "weighted_f1" => one(confusion.weighted_f1()),
            "balanced_accuracy" => one(confusion.balanced_accuracy()),
            "matthews" => one(matthews(&confusion)),
            "kappa_unweighted" => one(kappa(&confusion, Disagreement::Unweighted)),
            "kappa_linear" => one(kappa(&confusion, Disagreement::Linear)),
            "kappa_quadratic" => one(kappa(&confusion, Disagreement::Quadratic)),
            "auc_ovr_per_class" => areas.clone(),
            "macro_auc_ovr" => one(auc::macro_mean(&areas)),
            "macro_auc_ovr_defined_classes" => one((classes - auc::undefined(&areas)) as f64),
            "weighted_auc_ovr" => one(auc::weighted_mean(&areas, &labels)),
            "binary_auc" => vec![areas[1]],
            "average_precision_per_class" => precisions.clone(),
            "macro_average_precision" => one(auc::macro_mean(&precisions)),
            "log_loss" => one(calibration::log_loss(&labels, &probabilities, 0.0)),
            "log_loss_clip1e-7" => one(calibration::log_loss(&labels, &probabilities, 1e-7)),
            "brier_sum" => one(calibration::brier(&labels, &probabilities)),
            "brier_mean_over_classes" => one(calibration::brier(&labels, &probabilities) / classes as f64),
            "brier_binary" => one(calibration::brier(&labels, &probabilities) / 2.0),
            "ece_15_equal_width" => one(calibration::expected_error(&width)),
            "mce_15_equal_width" => one(calibration::largest_error(&width)),
            "ece_15_equal_mass" => one(calibration::expected_error(&mass)),
            _ => vec![Some(top_k(&labels, &probabilities, key.strip_prefix("top")?.parse().ok()?))],
        })
    };
    for (key, stored) in case["results"].as_object().unwrap() {
        if NOT_OURS.contains(&key.as_str()) {
            continue;
        }
        let ours = ours(key).unwrap_or_else(|| panic!("{}: no metric '{key}' here", path.display()));
        compare(&ours, &numbers(stored), |b| (tolerance, b), &format!("{}: {key}", path.display()));
    }
    tensors.all_read(path);
}

fn check_information(path: &Path) {
    let (case, tensors) = load(path);
    let classes = case["hyper"]["C"].as_u64().unwrap() as usize;
    let (rtol, atol) = (case["tolerance"]["f64"]["rtol"].as_f64().unwrap(), case["tolerance"]["f64"]["atol"].as_f64().unwrap());
    let labels = tensors.whole("labels");
    for (map, stored) in case["results"].as_object().unwrap() {
        let found = concentration(&tensors.rows(&format!("{map}.P")), &labels, classes, Gamma::PairCrossEntropy);
        let ours = BTreeMap::from([
            ("cmi", vec![Some(found.cmi)]),
            ("gamma", vec![Some(found.gamma)]),
            ("ncmi", vec![Some(found.ncmi).filter(|ncmi| ncmi.is_finite())]),
            ("cmi_per_class", found.cmi_per_class),
        ]);
        for (key, stored) in stored.as_object().unwrap() {
            let what = format!("{}: {map}.{key}", path.display());
            let ours = ours.get(key.as_str()).unwrap_or_else(|| panic!("{what}: not computed"));
            compare(ours, &numbers(stored), |b| (atol + rtol * b.abs(), b), &what);
        }
        let what = format!("{}: {map}", path.display());
        let p = tensors.rows(&format!("{map}.P"));
        let centroids: Vec<Vec<f64>> = found.centroids.iter().map(|s| s.clone().unwrap_or(vec![-1.0; p[0].len()])).collect();
        close(&centroids.concat(), &tensors.rows(&format!("{map}.Q")).concat(), atol + rtol, &format!("{what}.Q"));
        let kl: Vec<f64> = p.iter().zip(&labels).map(|(p, &label)| divergence(p, &centroids[label])).collect();
        close(&kl, &tensors.flat(&format!("{map}.kl")), atol + rtol, &format!("{what}.kl"));
    }
    tensors.all_read(path);
}

fn compare(ours: &[Option<f64>], stored: &[Option<f64>], limit: impl Fn(f64) -> (f64, f64), what: &str) {
    assert_eq!(ours.len(), stored.len(), "{what}");
    for (a, b) in ours.iter().zip(stored) {
        match (a, b) {
            (None, None) => {}
            (Some(a), Some(b)) => assert!((a - b).abs() <= limit(*b).0, "{what}: {a} here, {b} stored"),
            _ => panic!("{what}: {a:?} here, {b:?} stored"),
        }
    }
}

fn close(ours: &[f64], stored: &[f64], tolerance: f64, what: &str) {
    assert_eq!(ours.len(), stored.len(), "{what}");
    for (a, b) in ours.iter().zip(stored) {
        assert!((a - b).abs() <= tolerance, "{what}: {a} here, {b} stored");
    }
}

fn numbers(value: &Value) -> Vec<Option<f64>> {
    value.as_array().map_or_else(|| vec![value.as_f64()], |values| values.iter().map(Value::as_f64).collect())
}

fn cases(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let wanted = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with(prefix) && name.ends_with(".json")
    };
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(wanted).collect();
    cases.sort();
    cases
}

/// A case's tensors, remembering which were read: a stored result that nobody compares is a fault of the test.
struct Tensors {
    bytes: Vec<u8>,
    read: std::cell::RefCell<BTreeSet<String>>,
}

fn load(path: &Path) -> (Value, Tensors) {
    let case = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let bytes = std::fs::read(path.with_extension("safetensors")).unwrap();
    (case, Tensors { bytes, read: Default::default() })
}

impl Tensors {
    fn words(&self, name: &str) -> (Vec<[u8; 8]>, Vec<usize>) {
        let all = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = all.tensor(name).unwrap();
        self.read.borrow_mut().insert(name.to_owned());
        (tensor.data().chunks_exact(8).map(|word| word.try_into().unwrap()).collect(), tensor.shape().to_vec())
    }

    fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.bytes).unwrap().names().contains(&name)
    }

    fn flat(&self, name: &str) -> Vec<f64> {
        self.words(name).0.into_iter().map(f64::from_le_bytes).collect()
    }

    fn rows(&self, name: &str) -> Vec<Vec<f64>> {
        let (words, shape) = self.words(name);
        words.chunks(shape[1]).map(|row| row.iter().map(|word| f64::from_le_bytes(*word)).collect()).collect()
    }

    fn counts(&self, name: &str) -> Vec<u64> {
        self.words(name).0.into_iter().map(u64::from_le_bytes).collect()
    }

    fn whole(&self, name: &str) -> Vec<usize> {
        self.counts(name).into_iter().map(|count| count as usize).collect()
    }

    fn all_read(&self, path: &Path) {
        let all = SafeTensors::deserialize(&self.bytes).unwrap();
        let left: Vec<&str> = all.names().into_iter().filter(|name| !self.read.borrow().contains(*name)).collect();
        assert!(left.is_empty(), "{}: stored but not compared: {left:?}", path.display());
    }
}
