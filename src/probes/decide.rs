//! Every decision rule on one frozen model: fitted to the training rows, chosen on the validation rows, applied to the test rows.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use tch::Device;

use super::ProbeSettings;
use super::centroid::CentroidComparison;
use super::knn::Knn;
use super::linear::{self, LinearProbe};
use super::selection::select;
use crate::datasets::split::Split;
use crate::datasets::{Augment, Dataset};
use crate::ground::progress::Progress;
use crate::learn::Learner;
use crate::learn::evaluate::{Evaluated, evaluate_changed, macro_scores, rows};
use crate::store::scores::{Decision, Selection};

/// What is judged.
pub struct Judging<'a> {
    /// The model and its objective; their tensors are read, never written.
    pub learner: &'a Learner,
    /// The samples.
    pub dataset: &'a dyn Dataset,
    /// Which of them fit, choose and are tested.
    pub split: &'a Split,
    /// Of the training run.
    pub seed: u64,
    /// Epochs of the training run: random changes of samples go on after them, so that none is seen twice.
    pub trained_epochs: usize,
    /// Samples in a forward pass.
    pub batch_size: usize,
    /// Where the model is.
    pub device: Device,
}

/// What every rule says of the test rows.
pub struct Decided {
    /// Probabilities `[n][C]` of the test rows.
    pub by_rule: BTreeMap<Decision, Vec<Vec<f64>>>,
    /// What the probes with hyper-parameters chose.
    pub selections: BTreeMap<Decision, Selection>,
    /// The linear probe behind [`Decision::Lp`].
    pub linear: LinearProbe,
    /// The test rows under the model.
    pub test: Evaluated,
}

/// Decides by every rule. Test rows take part in the last step only.
///
/// # Errors
/// A part of the split that is needed and empty, a setting out of its range, a sample that cannot be read, an interruption.
pub fn decide(judging: &Judging, settings: &ProbeSettings) -> Result<Decided> {
    let Judging { learner, split, .. } = judging;
    ensure!(!split.train.0.is_empty(), "the split has no training rows to fit a probe to; see [split]");
    ensure!(!split.test.0.is_empty(), "the split has no test rows to judge on; see [split]");
    let classes = judging.dataset.classes().len();
    let parts = [&split.train.0, &split.valid.0, &split.test.0];
    let progress = Progress::new("samples", parts.iter().map(|rows| rows.len()).sum());
    let see = |rows: &[usize]| judging.embed(rows, None, &progress, "embedding");
    let train = see(&split.train.0)?;
    let valid = if split.valid.0.is_empty() { None } else { Some(see(&split.valid.0)?) };
    let test = see(&split.test.0)?;
    progress.finish();

    let (linear, linear_selection) = linear_probe(judging, &train, valid.as_ref(), classes, settings)?;
    let own = test.probabilities(learner);
    let mut by_rule = BTreeMap::from([(Decision::Lp, rows(&linear.probabilities(&test.embeddings)))]);
    let mut selections = BTreeMap::from([(Decision::Lp, linear_selection)]);
    if !settings.knn.skip {
        let (neighbours, selection) = nearest_neighbours(&train, valid.as_ref(), &test, classes, settings)?;
        by_rule.insert(Decision::Knn, neighbours);
        selections.insert(Decision::Knn, selection);
    }
    if learner.loss.decides_by_centroids() {
        // An objective with centroids decides by centroid comparison: its own rule is no third one.
        by_rule.insert(Decision::Cc, own);
    } else {
        let comparison = CentroidComparison::new(&train.log_distributions, &train.targets, classes);
        by_rule.insert(Decision::Own, own);
        by_rule.insert(Decision::Cc, rows(&comparison.probabilities(&test.log_distributions)));
    }
    Ok(Decided { by_rule, selections, linear, test })
}

impl Judging<'_> {
    fn embed(&self, rows: &[usize], augment: Option<Augment>, progress: &Progress, note: &str) -> Result<Evaluated> {
        evaluate_changed(self.learner, self.dataset, rows, augment, self.batch_size, self.device, &|n| progress.add(n, note))
    }
}

/// Beside the count while the linear probe is fitted.
const LINEAR: &str = "linear probe";

fn linear_probe(
    judging: &Judging,
    train: &Evaluated,
    valid: Option<&Evaluated>,
    classes: usize,
    settings: &ProbeSettings,
) -> Result<(LinearProbe, Selection)> {
    let settings = &settings.linear;
    let candidates = settings.candidates(valid.is_some())?;
    let samples = judging.split.train.0.len();
    let progress = Progress::new("samples", settings.epochs * samples);
    let mut fixed = linear::cached(&train.embeddings);
    let mut of_epoch = |epoch: usize| {
        if settings.augment {
            let augment = Augment { seed: judging.seed, epoch: judging.trained_epochs + epoch, views: 1 };
            return Ok(judging.embed(&judging.split.train.0, Some(augment), &progress, LINEAR)?.embeddings);
        }
        progress.add(samples, LINEAR);
        fixed(epoch)
    };
    let mut fits = linear::fit(&train.embeddings, &train.targets, classes, settings, &candidates, judging.seed, &mut of_epoch)?;
    progress.finish();
    let score =
        |seen: &Evaluated, probe: &LinearProbe| macro_scores(&seen.targets(), &rows(&probe.probabilities(&seen.embeddings)), classes).0;
    let scores: Option<Vec<f64>> =
        valid.map(|valid| fits.iter().map(|fit| fit.as_ref().map_or(f64::NAN, |probe| score(valid, probe))).collect());
    let named = candidates
        .iter()
        .map(|c| BTreeMap::from([("learning-rate".to_owned(), c.learning_rate), ("weight-decay".to_owned(), c.weight_decay)]));
    let (index, selection) = select(named.collect(), scores.as_deref());
    let probe = fits.swap_remove(index).with_context(|| {
        let tried: Vec<String> = candidates.iter().map(|c| c.learning_rate.to_string()).collect();
        format!("linear probe: the weights are not finite at learning rate {}; lower probe.linear.learning-rates", tried.join(", "))
    })?;
    Ok((probe, selection))
}

/// Probabilities of the test rows by the k that is best on the validation rows.
fn nearest_neighbours(
    train: &Evaluated,
    valid: Option<&Evaluated>,
    test: &Evaluated,
    classes: usize,
    settings: &ProbeSettings,
) -> Result<(Vec<Vec<f64>>, Selection)> {
    let settings = &settings.knn;
    let targets = train.targets();
    let candidates = settings.candidates(targets.len(), valid.is_some())?;
    let most = candidates.iter().copied().max().unwrap_or(1);
    let knn = Knn::new(&train.embeddings, targets, classes, settings.temperature)?;
    let scores = match valid {
        None => None,
        Some(valid) => {
            let (near, targets) = (knn.neighbours(&valid.embeddings, most)?, valid.targets());
            Some(candidates.iter().map(|&k| macro_scores(&targets, &knn.probabilities(&near, k), classes).0).collect::<Vec<_>>())
        }
    };
    let named = candidates.iter().map(|&k| BTreeMap::from([("neighbours".to_owned(), k as f64)]));
    let (index, selection) = select(named.collect(), scores.as_deref());
    let k = candidates[index];
    Ok((knn.probabilities(&knn.neighbours(&test.embeddings, k)?, k), selection))
}
