//! Linear probing (LP): one linear layer with cross-entropy on frozen embeddings, by SGD. Source: methods §2; SupCon's protocol.
//!
//! All candidates of the grid are fitted side by side on the same batches, so that changed embeddings are made once an epoch.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

use crate::ground::linear::Linear;
use crate::ground::{interrupt, seed};
use crate::learn::optimizers::{Optimizer, OptimizerSettings, SgdSettings};
use crate::store::tensors;

/// The fitted probe's file inside a probe folder.
pub const FILE: &str = "probe.safetensors";

/// Settings of `[probe.linear]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LinearProbeSettings {
    /// Learning rates; with several candidates, the one with the best macro-F1 on the validation rows is taken.
    pub learning_rates: Vec<f64>,
    /// Weight decays; each is tried with each learning rate.
    pub weight_decays: Vec<f64>,
    /// Momentum of SGD.
    pub momentum: f64,
    /// Passes over the embeddings; the last one's layer is taken.
    pub epochs: usize,
    /// Embeddings a step.
    pub batch_size: usize,
    /// Epochs after which the rate is multiplied by `decay`.
    pub milestones: Vec<usize>,
    /// See `milestones`.
    pub decay: f64,
    /// Scale embeddings by the training rows' mean and standard deviation first.
    pub standardise: bool,
    /// Embed randomly changed training samples anew in every epoch: images cropped, mirrored and turned, half of a bag's tiles.
    pub augment: bool,
}

impl Default for LinearProbeSettings {
    fn default() -> Self {
        // METHOD: raw embeddings, since standardising lowered the scores of both losses where it was measured (methods §5);
        // cached embeddings, since changed ones cost a pass through the network in each of the epochs.
        Self {
            learning_rates: vec![0.1, 1.0, 5.0],
            weight_decays: vec![0.0],
            momentum: 0.9,
            epochs: 100,
            batch_size: 64,
            milestones: vec![60, 75, 90],
            decay: 0.2,
            standardise: false,
            augment: false,
        }
    }
}

/// One pair of hyper-parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Initial learning rate.
    pub learning_rate: f64,
    /// λ, added to the gradient.
    pub weight_decay: f64,
}

impl LinearProbeSettings {
    /// The candidates to fit, learning rates outermost: the grid, or its first where nothing can choose.
    ///
    /// # Errors
    /// An empty list.
    pub fn candidates(&self, with_validation: bool) -> Result<Vec<Candidate>> {
        ensure!(!self.learning_rates.is_empty(), "probe.linear.learning-rates is empty; give at least one");
        ensure!(!self.weight_decays.is_empty(), "probe.linear.weight-decays is empty; give at least one");
        let pairs = self
            .learning_rates
            .iter()
            .flat_map(|&learning_rate| self.weight_decays.iter().map(move |&weight_decay| Candidate { learning_rate, weight_decay }));
        Ok(pairs.take(if with_validation { usize::MAX } else { 1 }).collect())
    }
}

/// A fitted probe: scores are z Wᵀ + b on the embedding as it is, whatever scaling the fit used.
#[derive(Debug)]
pub struct LinearProbe {
    weight: Tensor,
    bias: Tensor,
}

/// A layer that is being fitted.
struct Fitting {
    layer: Linear,
    sgd: Box<dyn Optimizer>,
    candidate: Candidate,
}

/// Fits one probe for each candidate to `embeddings [n,E]`, `targets [n]` (CPU); `None` for one whose weights are not finite.
///
/// `of_epoch` gives the embeddings of an epoch, from 1: changed ones, or [`cached`]. Scaling is by `embeddings` in every epoch.
///
/// # Errors
/// No embeddings, an interruption, whatever `of_epoch` says.
pub fn fit(
    embeddings: &Tensor,
    targets: &Tensor,
    classes: usize,
    settings: &LinearProbeSettings,
    candidates: &[Candidate],
    seed: u64,
    of_epoch: &mut dyn FnMut(usize) -> Result<Tensor>,
) -> Result<Vec<Option<LinearProbe>>> {
    let (count, width) = embeddings.size2()?;
    ensure!(count > 0, "linear probe: there are no training embeddings");
    let scale = settings.standardise.then(|| Scale::of(embeddings));
    let mut fits: Vec<Fitting> = candidates.iter().map(|&candidate| start(candidate, settings, width, classes, seed)).collect();
    let mut order: Vec<i64> = (0..count).collect();
    let mut random = seed::stream(seed, "probe/order");
    for epoch in 1..=settings.epochs {
        interrupt::check()?;
        let inputs = of_epoch(epoch)?.to_kind(Kind::Float);
        let inputs = scale.as_ref().map_or_else(|| inputs.shallow_clone(), |scale| scale.apply(&inputs));
        let passed = settings.milestones.iter().filter(|&&milestone| epoch > milestone).count();
        let share = settings.decay.powi(passed as i32);
        order.shuffle(&mut random);
        for rows in order.chunks(settings.batch_size.max(1)) {
            let rows = Tensor::from_slice(rows);
            let (inputs, targets) = (inputs.index_select(0, &rows), targets.index_select(0, &rows));
            for Fitting { layer, sgd, candidate } in &mut fits {
                sgd.zero_gradients();
                layer.forward(&inputs).cross_entropy_for_logits(&targets).backward();
                sgd.step(candidate.learning_rate * share);
            }
        }
    }
    Ok(fits.into_iter().map(|fit| finished(&fit.layer, scale.as_ref())).collect())
}

/// The same embeddings in every epoch.
pub fn cached(embeddings: &Tensor) -> impl FnMut(usize) -> Result<Tensor> + '_ {
    |_| Ok(embeddings.shallow_clone())
}

/// Every candidate starts from the same random layer.
fn start(candidate: Candidate, settings: &LinearProbeSettings, width: i64, classes: usize, seed: u64) -> Fitting {
    seed::seed_torch(seed, "probe/initial-weights");
    let store = VarStore::new(Device::Cpu);
    let layer = Linear::new(&store.root(), width, classes as i64, true);
    let Candidate { learning_rate, weight_decay } = candidate;
    let sgd = SgdSettings { learning_rate, momentum: settings.momentum, weight_decay };
    Fitting { layer, sgd: OptimizerSettings::Sgd(sgd).build(store.variables().into_iter().collect()), candidate }
}

fn finished(layer: &Linear, scale: Option<&Scale>) -> Option<LinearProbe> {
    let bias = layer.bias.as_ref().expect("built with a bias").detach();
    let probe = LinearProbe { weight: layer.weight.detach(), bias };
    let probe = match scale {
        Some(scale) => scale.folded_into(&probe),
        None => probe,
    };
    let finite = |tensor: &Tensor| tensor.isfinite().all().int64_value(&[]) == 1;
    (finite(&probe.weight) && finite(&probe.bias)).then_some(probe)
}

/// (z − mean) / deviation, coordinate by coordinate, `[1,E]` each.
struct Scale {
    mean: Tensor,
    deviation: Tensor,
}

impl Scale {
    fn of(embeddings: &Tensor) -> Self {
        let embeddings = embeddings.to_kind(Kind::Float);
        // A coordinate that never varies must not divide by 0.
        Self { mean: embeddings.mean_dim(0, true, None::<Kind>), deviation: embeddings.std_dim(0, false, true) + 1e-6 }
    }

    fn apply(&self, embeddings: &Tensor) -> Tensor {
        (embeddings - &self.mean) / &self.deviation
    }

    /// W/σ and b − (W/σ) μ: the same scores from embeddings that are not scaled.
    fn folded_into(&self, probe: &LinearProbe) -> LinearProbe {
        // f64, since the bias is a small difference where the mean is large.
        let weight = probe.weight.to_kind(Kind::Double) / self.deviation.to_kind(Kind::Double);
        let bias = probe.bias.to_kind(Kind::Double) - weight.matmul(&self.mean.to_kind(Kind::Double).view([-1]));
        LinearProbe { weight: weight.to_kind(Kind::Float), bias: bias.to_kind(Kind::Float) }
    }
}

impl LinearProbe {
    /// `[n,E]` → `[n,C]`
    pub fn probabilities(&self, embeddings: &Tensor) -> Tensor {
        no_grad(|| embeddings.to_kind(Kind::Float).linear(&self.weight, Some(&self.bias)).softmax(-1, None::<Kind>))
    }

    /// Writes `weight [C,E]`, `bias [C]` and the class names into a probe folder; `origin` says what it was fitted to.
    ///
    /// # Errors
    /// Names the file.
    pub fn write(&self, folder: &Path, classes: &[String], origin: &Value) -> Result<()> {
        let tensors = BTreeMap::from([("weight".to_owned(), self.weight.shallow_clone()), ("bias".to_owned(), self.bias.shallow_clone())]);
        tensors::write(&folder.join(FILE), &tensors, &json!({"kind": "linear probe", "classes": classes, "origin": origin}))
    }

    /// Reads a probe and its class names back, to the bit.
    ///
    /// # Errors
    /// Names the file: unreadable, damaged, or no linear probe.
    pub fn read(folder: &Path) -> Result<(Self, Vec<String>)> {
        let path = folder.join(FILE);
        let (mut tensors, note) = tensors::read(&path)?;
        let mut take = |name: &str| {
            tensors
                .remove(name)
                .with_context(|| format!("'{}' has no '{name}' and is no linear probe; run `wsi probe` again", path.display()))
        };
        let (weight, bias) = (take("weight")?, take("bias")?);
        let classes: Vec<String> = serde_json::from_value(note["classes"].clone())
            .with_context(|| format!("'{}' names no classes and is no linear probe; run `wsi probe` again", path.display()))?;
        let count = classes.len() as i64;
        if weight.dim() != 2 || weight.size()[0] != count || bias.size() != [count] {
            bail!(
                "'{}': {:?} weights and {:?} biases for {count} classes; run `wsi probe` again",
                path.display(),
                weight.size(),
                bias.size()
            );
        }
        Ok((Self { weight, bias }, classes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(inputs: &Tensor, targets: &Tensor, classes: usize, settings: &LinearProbeSettings) -> LinearProbe {
        let candidates = settings.candidates(false).unwrap();
        let mut fits = fit(inputs, targets, classes, settings, &candidates, 0, &mut cached(inputs)).unwrap();
        fits.remove(0).expect("finite weights")
    }

    fn separable() -> (Tensor, Tensor) {
        (Tensor::from_slice(&[0.0f32, 1.0, 1.0, 0.0]).view([2, 2]).repeat([50, 1]), Tensor::from_slice(&[0i64, 1]).repeat([50]))
    }

    #[test]
    fn separable_data_are_separated_within_fifty_epochs() {
        let (inputs, targets) = separable();
        let probe = one(&inputs, &targets, 2, &LinearProbeSettings { epochs: 50, ..Default::default() });
        let decided = probe.probabilities(&inputs).argmax(-1, false);
        assert_eq!(decided.eq_tensor(&targets).all().int64_value(&[]), 1);
    }

    #[test]
    fn candidates_side_by_side_are_those_fitted_alone() {
        tch::manual_seed(1);
        let inputs = Tensor::randn([90, 5], (Kind::Float, Device::Cpu));
        let targets = Tensor::from_slice(&[0i64, 1, 2]).repeat([30]);
        let settings = LinearProbeSettings { epochs: 4, weight_decays: vec![0.0, 0.01], ..Default::default() };
        let grid = settings.candidates(true).unwrap();
        assert_eq!(grid.len(), 6);
        let together = fit(&inputs, &targets, 3, &settings, &grid, 7, &mut cached(&inputs)).unwrap();
        for (candidate, expected) in grid.iter().zip(together) {
            let alone = fit(&inputs, &targets, 3, &settings, &[*candidate], 7, &mut cached(&inputs)).unwrap().remove(0).unwrap();
            let expected = expected.unwrap();
            assert_eq!((alone.weight, alone.bias), (expected.weight, expected.bias), "{candidate:?}");
        }
    }

    #[test]
    fn a_rate_that_diverges_gives_no_probe_and_leaves_the_others() {
        let (inputs, targets) = separable();
        // Beyond f32: the first step is not finite.
        let settings = LinearProbeSettings { learning_rates: vec![1e39, 0.1], epochs: 2, ..Default::default() };
        let fits = fit(&inputs, &targets, 2, &settings, &settings.candidates(true).unwrap(), 0, &mut cached(&inputs)).unwrap();
        assert!(fits[0].is_none() && fits[1].is_some());
    }

    #[test]
    fn scaling_is_folded_into_the_weights() {
        tch::manual_seed(2);
        let mean = Tensor::from_slice(&[300.0f32, -2.0, 0.0]);
        let embeddings = Tensor::randn([40, 3], (Kind::Float, Device::Cpu)) * Tensor::from_slice(&[20.0f32, 0.1, 1.0]) + mean;
        let layer = Linear { weight: Tensor::randn([2, 3], (Kind::Float, Device::Cpu)), bias: Some(Tensor::from_slice(&[0.3f32, -0.1])) };
        let scale = Scale::of(&embeddings);
        let explicit = layer.forward(&scale.apply(&embeddings)).softmax(-1, None::<Kind>);
        let folded = finished(&layer, Some(&scale)).unwrap().probabilities(&embeddings);
        let difference = (explicit - folded).abs().max().double_value(&[]);
        assert!(difference < 1e-5, "{difference}");
    }

    #[test]
    fn a_probe_is_read_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let (inputs, targets) = separable();
        let probe = one(&inputs, &targets, 2, &LinearProbeSettings { standardise: true, epochs: 3, ..Default::default() });
        let classes = ["a".to_owned(), "b".to_owned()];
        probe.write(folder.path(), &classes, &json!({})).unwrap();
        let (back, names) = LinearProbe::read(folder.path()).unwrap();
        assert_eq!(names, classes);
        assert_eq!(back.probabilities(&inputs), probe.probabilities(&inputs));
        probe.write(folder.path(), &classes[..1], &json!({})).unwrap();
        let error = LinearProbe::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("for 1 classes"), "{error}");
    }

    #[test]
    fn one_step_follows_the_golden_values() {
        // z = [1,2], y = 0, W = 0, b = 0, rate 0.1: W becomes [[.05,.1],[−.05,−.1]], b [.05,−.05].
        let store = VarStore::new(Device::Cpu);
        let layer = Linear::new(&store.root(), 2, 2, true);
        let bias = layer.bias.as_ref().expect("built with a bias");
        no_grad(|| {
            let _ = layer.weight.shallow_clone().zero_();
            let _ = bias.shallow_clone().zero_();
        });
        let mut sgd = OptimizerSettings::Sgd(SgdSettings { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.0 })
            .build(store.variables().into_iter().collect());
        let loss = layer.forward(&Tensor::from_slice(&[1.0f32, 2.0]).view([1, 2])).cross_entropy_for_logits(&Tensor::from_slice(&[0i64]));
        loss.backward();
        sgd.step(0.1);
        for (tensor, expected) in [(&layer.weight, &[0.05, 0.1, -0.05, -0.1][..]), (bias, &[0.05, -0.05])] {
            let found = Vec::<f32>::try_from(tensor.flatten(0, -1)).expect("values");
            assert!(found.iter().zip(expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-7), "{found:?}");
        }
    }
}
