//! `wsi probe`: a trained model is judged once on its test rows, by every decision rule.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use tch::{Kind, Tensor};

use super::Machine;
use super::data::Data;
use crate::config::Config;
use crate::datasets::cohort::{CohortSettings, Format, patient_stage};
use crate::datasets::{DataKind, Dataset};
use crate::learn::evaluate::{Evaluated, rows};
use crate::learn::protocol::Protocol;
use crate::learn::{Learner, checkpoint};
use crate::metrics::auc::{OneVsRest, macro_mean, undefined};
use crate::metrics::bootstrap::Bootstrap;
use crate::metrics::classification::{Decisions, LabelSet, argmax};
use crate::metrics::information::{Gamma, concentration};
use crate::metrics::panel::{Scored, panel};
use crate::probes::decide::{Decided, Judging, decide};
use crate::probes::{Checkpoint, linear};
use crate::store::leases::Leases;
use crate::store::predictions::{self, Prediction, Predictions};
use crate::store::run::{self, Opened, Recipe, Run, Summary};
use crate::store::scores::{Decision, DecisionScores, Figure, Information, SCHEMA, ScoreFile};
use crate::store::{digest, files, scores, tensors};

/// What the linear probe gets of test rows: `embeddings [n,E]`, f32, and `targets [n]`, with `classes` and `ids` as a note.
pub(super) const EMBEDDINGS: &str = "embeddings.safetensors";
/// Most rows of it, evenly chosen: enough to look at, and a test set of many images stays small on disk.
const EMBEDDED_ROWS: usize = 2000;

/// Paths of a probing call.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// A finished train run.
    pub train: PathBuf,
    /// What it was trained on.
    pub data: Data,
    /// The tile run behind the bags, for the report's pictures.
    pub tiles: Option<PathBuf>,
}

/// What identifies a probe run. The training settings are part of it through the train run's digest.
///
/// # Errors
/// The train folder is no finished run.
pub fn recipe(config: &Config, inputs: &Inputs) -> Result<Recipe> {
    let train = run::finished(&inputs.train, "train")?;
    Ok(recipe_from(config, BTreeMap::from([("train".to_owned(), train.digest)])))
}

pub(super) fn recipe_from(config: &Config, inputs: BTreeMap<String, String>) -> Recipe {
    Recipe { stage: "probe".into(), settings: json!({"probe": config.probe}), inputs }
}

/// Probes into `out`. Only `[probe]` of `config` counts; everything else is read from the train run.
///
/// # Errors
/// The train folder is no finished run, or the data are not those it was trained on.
pub fn run(config: &Config, inputs: &Inputs, out: &Path, machine: &Machine) -> Result<Summary> {
    let recipe = recipe(config, inputs)?;
    let run = match Run::open(out, recipe)? {
        Opened::Done(summary) => return Ok(summary),
        Opened::Work(run) => run,
    };
    let leases = Leases::open(&run.folder)?;
    let waited = leases.wait_for("probing")?;
    if let Some(summary) = run.finished_by_another()? {
        return Ok(summary);
    }
    if !waited {
        return Err(run.without_leases());
    }
    let settings = &config.probe;
    let trained = super::settings_of(&inputs.train)?;
    let trained_summary = run::finished(&inputs.train, "train")?;
    anyhow::ensure!(
        trained_summary.inputs == inputs.data.digests(&trained)?,
        "the data or labels given are not those that '{}' was trained on; give the same --data and --labels",
        inputs.train.display()
    );
    let (dataset, split) = inputs.data.open(&trained)?;
    let dataset = dataset.as_ref();
    let waivers = inputs.data.waivers(&trained, dataset, &split)?;
    let split_digest = split.digest(dataset)?;
    anyhow::ensure!(
        trained.train.protocol == Protocol::Strict || settings.checkpoint == Checkpoint::Best,
        "the model was trained by the protocol 'paper', which judges the best epoch; set probe.checkpoint=best"
    );
    machine.use_threads_for(dataset, trained.train.batch_size)?;
    let classes = dataset.classes().len();
    let learner = Learner::new(&trained.train, dataset.input(), classes, trained.seed, machine.device)?;
    let best = settings.checkpoint == Checkpoint::Best && inputs.train.join(checkpoint::BEST).is_file();
    let weights = inputs.train.join(if best { checkpoint::BEST } else { checkpoint::LAST });
    let trained_split = checkpoint::load(&weights, &learner)?;
    anyhow::ensure!(
        trained_split.as_ref().is_none_or(|trained| *trained == split_digest),
        "'{}' was trained on the split {}, the split at hand is {split_digest}: its test slides may have been trained on; give the data, \
         labels and split file of the training",
        weights.display(),
        trained_split.unwrap_or_default()
    );

    let judging = Judging {
        learner: &learner,
        dataset,
        split: &split,
        seed: trained.seed,
        trained_epochs: trained.train.epochs,
        batch_size: trained.train.batch_size,
        device: machine.device,
    };
    let Decided { by_rule, selections, linear: probe, test } = decide(&judging, settings)?;

    let targets = test.targets();
    let groups: Vec<String> = split.test.0.iter().map(|&row| dataset.groups()[row].clone()).collect();
    let ids: Vec<String> = split.test.0.iter().map(|&row| dataset.ids()[row].clone()).collect();
    let bootstrap = Bootstrap { bounds: settings.interval, resamples: settings.resamples, seed: trained.seed };
    let decide = |(&decision, probabilities): (&Decision, &Vec<Vec<f64>>)| {
        let scored = Scored { ids: &ids, classes: dataset.classes(), labels: &targets, probabilities };
        let mut scores = judge(&scored, &groups, &bootstrap).with_context(|| format!("decision '{}'", decision.name()))?;
        let stages = patient_stages(&trained.cohort, dataset, &split.test.0, probabilities);
        scores.metrics.extend(stages.map(|figure| ("patient_stage_kappa".to_owned(), figure)));
        Ok((decision, scores))
    };
    let decisions: BTreeMap<Decision, DecisionScores> = by_rule.iter().map(decide).collect::<Result<_>>()?;
    predictions::write(&run.folder, dataset.classes(), &table(dataset, &split.test.0, &targets, by_rule), settings.keep_probabilities)?;

    let checkpoint = if best { "best" } else { "last" };
    let origin = json!({"train": trained_summary.digest, "checkpoint": checkpoint, "selection": selections[&Decision::Lp]});
    probe.write(&run.folder, dataset.classes(), &origin)?;

    write_embeddings(&run.path(EMBEDDINGS), &test, &ids, dataset.classes())?;

    let linear = &decisions[&Decision::Lp];
    let distributions = rows(&test.log_distributions.exp());
    let patients: std::collections::BTreeSet<&String> = groups.iter().collect();
    let scores = ScoreFile {
        schema: SCHEMA,
        seed: trained.seed,
        classes: dataset.classes().to_vec(),
        split: scores::Split { name: split.name.clone(), digest: split_digest, kind: split.kind, fold: split.fold, folds: split.folds },
        protocol: trained.train.protocol.name().to_owned(),
        waivers,
        parts: split.counts(dataset),
        labels: labels_in_words(&trained.cohort),
        loss: trained.train.loss.name().to_owned(),
        aggregator: if trained.train.data.is_images() { "none" } else { trained.train.model.aggregator.name() }.to_owned(),
        encoder: encoder(&trained, &inputs.data)?,
        epochs: trained.train.epochs,
        checkpoint: checkpoint.to_owned(),
        group: settings.group.clone(),
        macro_f1: linear.macro_f1,
        macro_auc: linear.macro_auc,
        selections,
        information: Some(Information::from(&concentration(&distributions, &targets, classes, Gamma::Centroid))),
        interval: bootstrap.description(),
        settings: json!({"train": trained, "probe": settings}),
        inputs: BTreeMap::from([("train".to_owned(), trained_summary.digest.clone())]).into_iter().chain(trained_summary.inputs).collect(),
        slides: targets.len(),
        patients: patients.len(),
        train_folder: files::relative(&run.folder, &inputs.train)?,
        tile_folder: inputs.tiles.as_ref().map(|tiles| files::relative(&run.folder, tiles)).transpose()?,
        bag_folder: (trained.train.data == DataKind::Bags).then(|| files::relative(&run.folder, &inputs.data.data)).transpose()?,
        decisions,
    };
    scores.write(&run.folder)?;
    let figures = json!({
        "macro_f1": scores.macro_f1,
        "macro_auc": scores.macro_auc,
        "checkpoint": digest::file(&weights)?,
        "outputs": digest::outputs(&run.folder, &[predictions::FILE, scores::FILE, linear::FILE, EMBEDDINGS])?,
    });
    let summary = run.finish(figures, Default::default())?;
    leases.close()?;
    Ok(summary)
}

/// # Errors
/// A score that is NaN or infinite, with the item's name: no decision follows from it.
fn judge(scored: &Scored, groups: &[String], bootstrap: &Bootstrap) -> Result<DecisionScores> {
    let &Scored { labels, probabilities, classes, .. } = scored;
    let panel = panel(scored);
    let Some(confusion) = panel.confusion else {
        let what = scored.not_finite().unwrap_or_else(|| "there are no test samples".to_owned());
        anyhow::bail!("{what}; train again with a lower learning rate, or give a split with test samples");
    };
    let predicted: Vec<usize> = probabilities.iter().map(|row| argmax(row)).collect();
    let decisions = Decisions { labels, predicted: &predicted, classes: classes.len() };
    let ranking = OneVsRest::new(labels, probabilities);
    Ok(DecisionScores {
        macro_f1: bootstrap.clustered(groups, |times| Some(decisions.macro_f1(times, LabelSet::Observed))),
        macro_auc: bootstrap.clustered(groups, |times| Some(macro_mean(&ranking.per_class_of(times)))),
        per_class_f1: confusion.f1_per_class(),
        auc_classes_undefined: undefined(&ranking.per_class()),
        confusion: confusion.counts,
        metrics: panel.figures,
    })
}

fn write_embeddings(path: &Path, test: &Evaluated, ids: &[String], classes: &[String]) -> Result<()> {
    let stride = ids.len().div_ceil(EMBEDDED_ROWS).max(1);
    let kept: Vec<i64> = (0..ids.len()).step_by(stride).map(|row| row as i64).collect();
    let rows = Tensor::from_slice(&kept);
    let tensors = BTreeMap::from([
        ("embeddings".to_owned(), test.embeddings.index_select(0, &rows).to_kind(Kind::Float)),
        ("targets".to_owned(), test.targets.index_select(0, &rows)),
    ]);
    let ids: Vec<&String> = ids.iter().step_by(stride).collect();
    tensors::write(path, &tensors, &json!({"classes": classes, "ids": ids}))
}

fn table(dataset: &dyn Dataset, test: &[usize], targets: &[usize], by_rule: BTreeMap<Decision, Vec<Vec<f64>>>) -> Predictions {
    let predict = |(place, probabilities): (usize, Vec<f64>)| Prediction {
        slide_id: dataset.ids()[test[place]].clone(),
        patient_id: dataset.groups()[test[place]].clone(),
        label: targets[place],
        predicted: argmax(&probabilities),
        probabilities,
    };
    by_rule.into_iter().map(|(decision, rows)| (decision, rows.into_iter().enumerate().map(predict).collect())).collect()
}

/// The challenge's score of CAMELYON17's patients; `None` for other cohorts, shuffled labels and patients whose five nodes are not all
/// in the test set.
fn patient_stages(cohort: &CohortSettings, dataset: &dyn Dataset, test: &[usize], probabilities: &[Vec<f64>]) -> Option<Figure> {
    if cohort.format != Format::Camelyon17 || cohort.shuffle_labels > 0 || dataset.classes() != patient_stage::NODE_CLASSES {
        return None;
    }
    let stages = dataset.column(patient_stage::COLUMN)?;
    let [patients, stated] = [dataset.groups(), &stages].map(|cells| test.iter().map(|&row| cells[row].clone()).collect::<Vec<_>>());
    let predicted: Vec<usize> = probabilities.iter().map(|row| argmax(row)).collect();
    let agreement = patient_stage::stage_agreement(&patients, &stated, &predicted)?;
    Some(Figure {
        value: agreement.kappa,
        undefined: agreement.kappa.is_nan().then(|| "every patient has the same stage, in truth and by prediction".to_owned()),
        definition: "Cohen's kappa with quadratic weights over the five pN stages, one stage a patient from its five nodes".to_owned(),
    })
}

fn labels_in_words(cohort: &CohortSettings) -> String {
    match cohort.shuffle_labels {
        0 => "true".into(),
        stream => format!("shuffled by patient, stream {stream}"),
    }
}

/// The frozen network behind the bags as the extract run names it; for images, the network that was trained; for a classic set,
/// whose features come with it, the set.
fn encoder(trained: &Config, data: &Data) -> Result<String> {
    Ok(match trained.train.data {
        DataKind::Bags => {
            let summary = run::summary(&data.data)?;
            summary.and_then(|s| s.figures["encoder"].as_str().map(str::to_owned)).unwrap_or_else(|| "unknown".into())
        }
        DataKind::Cifar10 | DataKind::Cifar100 | DataKind::ImageFolder | DataKind::MnistBags => {
            trained.train.model.encoder.name().to_owned()
        }
        DataKind::ClassicMil => trained.train.classic.set.name().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::bootstrap::Bounds;

    #[test]
    fn a_score_that_is_no_number_is_refused_by_name() {
        let names = |of: [&str; 2]| of.map(str::to_owned);
        let (ids, classes) = (names(["s1", "s2"]), names(["a", "b"]));
        let bootstrap = Bootstrap { bounds: Bounds::Percentile, resamples: 10, seed: 0 };
        let judged = |bad: f64| {
            let probabilities = [vec![0.9, 0.1], vec![0.5, bad]];
            judge(&Scored { ids: &ids, classes: &classes, labels: &[0, 1], probabilities: &probabilities }, &ids, &bootstrap)
        };
        assert!(judged(0.5).is_ok());
        let error = judged(f64::NAN).unwrap_err().to_string();
        assert!(error.contains("'s2' has a score of NaN for class 'b'") && error.contains("lower learning rate"), "{error}");
    }
}
