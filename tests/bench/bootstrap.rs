//! The interval of a macro-F1: multiplicities of rows against the plain way, lists of drawn rows and a confusion matrix each.

use std::time::Instant;

use anyhow::{Result, ensure};
use rand::Rng;
use rayon::prelude::*;
use serde_json::Value;
use wsi::ground::seed;
use wsi::metrics::bootstrap::{Bootstrap, Bounds};
use wsi::metrics::classification::{Confusion, Decisions, LabelSet};

const ITEMS: usize = 1000;
const RESAMPLES: usize = 10_000;
const SEED: u64 = 0;

/// Few classes, as in a cohort of slides, and many, as in CIFAR-100.
pub(crate) fn rows() -> Result<Vec<Value>> {
    Ok(vec![row("metrics.bootstrap", 5)?, row("metrics.bootstrap.100-classes", 100)?])
}

fn row(id: &str, classes: usize) -> Result<Value> {
    let labels: Vec<usize> = (0..ITEMS).map(|item| item * item % 997 % classes).collect();
    let predicted: Vec<usize> = (0..ITEMS).map(|item| if item % 4 == 0 { item % classes } else { labels[item] }).collect();
    let patients: Vec<String> = (0..ITEMS).map(|item| format!("p{item:04}")).collect();
    let decisions = Decisions { labels: &labels, predicted: &predicted, classes };
    let bootstrap = Bootstrap { bounds: Bounds::Percentile, resamples: RESAMPLES, seed: SEED };
    let mut intervals = Vec::new();
    let ours = crate::rate(RESAMPLES, |_| {
        intervals.push(bootstrap.clustered(&patients, |times| Some(decisions.macro_f1(times, LabelSet::Observed))));
        Ok(())
    })?;
    let mut plain = Vec::new();
    let reference = crate::rate(RESAMPLES, |_| {
        plain.push(row_lists(&labels, &predicted, classes));
        Ok(())
    })?;
    let started = Instant::now();
    let bca = Bootstrap { bounds: Bounds::Bca, ..bootstrap };
    bca.clustered(&patients, |times| Some(decisions.macro_f1(times, LabelSet::Observed)));
    let with_bca = started.elapsed().as_secs_f64();
    ensure!(plain.iter().all(|(low, high)| (*low, *high) == (intervals[0].low, intervals[0].high)), "both ways give the same interval");
    let note = format!(
        "macro-F1, {ITEMS} items of as many patients, {classes} classes, {RESAMPLES} resamples: {:.3} s, as BCa {with_bca:.3} s; \
         reference: row lists and a confusion matrix a resample, same draws, same threads, {:.3} s",
        RESAMPLES as f64 / ours,
        RESAMPLES as f64 / reference
    );
    Ok(crate::row(id, ours, reference, "resamples/s", &note))
}

fn row_lists(labels: &[usize], predicted: &[usize], classes: usize) -> (f64, f64) {
    let base = seed::stream(SEED, "bootstrap");
    let one = |resample: usize| {
        let mut random = base.clone();
        random.set_stream(resample as u64);
        let rows: Vec<usize> = (0..labels.len()).map(|_| random.random_range(0..labels.len() as u32) as usize).collect();
        Confusion::of(rows.iter().map(|&row| (labels[row], predicted[row])), classes).macro_f1(LabelSet::Observed)
    };
    let mut values: Vec<f64> = (0..RESAMPLES).into_par_iter().map(one).collect();
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * (RESAMPLES - 1) as f64;
        let below = place.floor() as usize;
        values[below] + (values[below + 1] - values[below]) * (place - below as f64)
    };
    (at(0.025), at(0.975))
}
