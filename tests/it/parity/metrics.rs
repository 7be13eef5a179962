//! Every metric against the stored values of scikit-learn, and the information measures against brute force.

use serde_json::Value;
use tch::{Kind, Tensor};
use wsi::metrics::agreement::{Disagreement, kappa, matthews};
use wsi::metrics::auc::{self, OneVsRest};
use wsi::metrics::classification::{Confusion, LabelSet, argmax, top_k};
use wsi::metrics::information::{Gamma, concentration, divergence};
use wsi::metrics::{average_precision, calibration};

use super::case::{Case, Limit, Outcome, each, each_named};

/// Describes another library's defaults; no metric of ours.
const NOT_OURS: &str = "torchmetrics";

#[test]
fn parity_metrics() {
    each("parity::metrics", "metrics", |case| {
        classification(case);
        Outcome::Compared
    });
}

#[test]
fn parity_information() {
    each_named(
        "parity::information",
        "losses",
        |name| name.starts_with("cmi_metrics_"),
        |case| {
            information(case);
            Outcome::Compared
        },
    );
}

fn classification(case: &Case) {
    let classes = whole(&case.hyper()["C"]);
    let within = Limit::Element { rtol: 0.0, atol: case.tolerance("/abs").unwrap() };
    let labels = indices(&case.stored("y_true"));
    let probabilities = rows(&case.stored("probs"));
    let predicted: Vec<usize> = probabilities.iter().map(|row| argmax(row)).collect();
    let confusion = Confusion::new(&labels, &predicted, classes);
    case.compare("y_pred", &Tensor::from_slice(&predicted.iter().map(|&p| p as i64).collect::<Vec<_>>()), Limit::Exact);
    let counts: Vec<i64> = confusion.counts.iter().flatten().map(|&count| count as i64).collect();
    case.compare("confusion", &Tensor::from_slice(&counts).reshape([classes as i64; 2]), Limit::Exact);
    let equal_width = calibration::equal_width_bins(&labels, &probabilities, 15);
    let equal_mass = calibration::equal_mass_bins(&labels, &probabilities, 15);
    for (name, bins) in [("ece_width_bins", &equal_width), ("ece_mass_bins", &equal_mass)] {
        // Where all labels of a binary problem are of one class, less is stored.
        if case.has(name) {
            let ours: Vec<f64> = bins.iter().flat_map(|bin| [bin.count as f64, bin.confidence, bin.accuracy]).collect();
            case.compare(name, &Tensor::from_slice(&ours).reshape([-1, 3]), within);
        }
    }

    let areas = OneVsRest::new(&labels, &probabilities).per_class();
    let precisions = average_precision::per_class(&labels, &probabilities);
    let all = |values: Vec<f64>| values.into_iter().map(Some).collect::<Vec<_>>();
    let one = |value: f64| vec![Some(value).filter(|value| value.is_finite())];
    let brier = calibration::brier(&labels, &probabilities);
    let ours = |key: &str| -> Option<Vec<Option<f64>>> {
        Some(match key {
            "accuracy" | "micro_f1" => one(confusion.accuracy()),
            "f1_per_class" => all(confusion.f1_per_class()),
            "precision_per_class" => all(confusion.precision_per_class()),
            "recall_per_class" => all(confusion.recall_per_class()),
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
            "brier_sum" => one(brier),
            "brier_mean_over_classes" => one(brier / classes as f64),
            "brier_binary" => one(brier / 2.0),
            "ece_15_equal_width" => one(calibration::expected_error(&equal_width)),
            "mce_15_equal_width" => one(calibration::largest_error(&equal_width)),
            "ece_15_equal_mass" => one(calibration::expected_error(&equal_mass)),
            _ => one(top_k(&labels, &probabilities, key.strip_prefix("top")?.parse().ok()?)),
        })
    };
    for (key, stored) in case.spec["results"].as_object().unwrap().iter().filter(|(key, _)| *key != NOT_OURS) {
        match ours(key) {
            Some(ours) => numbers(case, key, &ours, stored, within),
            None => case.problem(format!("there is no metric called '{key}'")),
        }
    }
}

fn information(case: &Case) {
    let classes = whole(&case.hyper()["C"]);
    let within = Limit::Element { rtol: case.tolerance("/f64/rtol").unwrap(), atol: case.tolerance("/f64/atol").unwrap() };
    let labels = indices(&case.stored("labels"));
    for (map, stored) in case.spec["results"].as_object().unwrap() {
        let distributions = rows(&case.stored(&format!("{map}.P")));
        // These cases define separation by pairs of samples.
        let found = concentration(&distributions, &labels, classes, Gamma::PairCrossEntropy);
        for (key, stored) in stored.as_object().unwrap() {
            let ours = match key.as_str() {
                "cmi" => vec![Some(found.cmi)],
                "gamma" => vec![Some(found.gamma)],
                "ncmi" => vec![Some(found.ncmi).filter(|ncmi| ncmi.is_finite())],
                "cmi_per_class" => found.cmi_per_class.clone(),
                _ => return case.problem(format!("{map}: '{key}' is not computed")),
            };
            numbers(case, &format!("{map}.{key}"), &ours, stored, within);
        }
        let absent = vec![-1.0; distributions[0].len()];
        let centroids: Vec<f64> = found.centroids.iter().flat_map(|s| s.clone().unwrap_or(absent.clone())).collect();
        case.compare(&format!("{map}.Q"), &Tensor::from_slice(&centroids).reshape([classes as i64, -1]), within);
        let own = |(p, &label): (&Vec<f64>, &usize)| divergence(p, found.centroids[label].as_deref().unwrap_or(&absent));
        let kl: Vec<f64> = distributions.iter().zip(&labels).map(own).collect();
        case.compare(&format!("{map}.kl"), &Tensor::from_slice(&kl), within);
    }
}

/// A number or a list of them; `null` where undefined.
fn numbers(case: &Case, what: &str, ours: &[Option<f64>], stored: &Value, within: Limit) {
    let stored: Vec<Option<f64>> = stored.as_array().map_or_else(|| vec![stored.as_f64()], |list| list.iter().map(Value::as_f64).collect());
    if ours.len() != stored.len() {
        return case.problem(format!("{what}: {} values instead of {}", ours.len(), stored.len()));
    }
    for (ours, stored) in ours.iter().zip(stored) {
        match (*ours, stored) {
            (None, None) => {}
            (Some(ours), Some(stored)) => case.compare_number(what, ours, stored, within),
            (ours, stored) => case.problem(format!("{what}: {ours:?} instead of {stored:?}")),
        }
    }
}

fn whole(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn indices(tensor: &Tensor) -> Vec<usize> {
    Vec::<i64>::try_from(tensor).unwrap().into_iter().map(|index| index as usize).collect()
}

fn rows(tensor: &Tensor) -> Vec<Vec<f64>> {
    Vec::try_from(tensor.to_kind(Kind::Double)).unwrap()
}
