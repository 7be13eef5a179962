//! Linear probing (LP): one linear layer with cross-entropy on frozen embeddings, by SGD. Source: methods §2; SupCon's protocol.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

use crate::ground::linear::Linear;
use crate::ground::seed;
use crate::learn::optimizers::{OptimizerSettings, SgdSettings};

/// Settings of `[probe.linear]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LinearProbeSettings {
    /// Learning rates; with several, the one with the best macro-F1 on the validation rows is taken.
    pub learning_rates: Vec<f64>,
    /// Momentum of SGD.
    pub momentum: f64,
    /// Passes over the embeddings.
    pub epochs: usize,
    /// Embeddings a step.
    pub batch_size: usize,
    /// Epochs after which the rate is multiplied by `decay`.
    pub milestones: Vec<usize>,
    /// See `milestones`.
    pub decay: f64,
    /// Scale embeddings by the training rows' mean and standard deviation first.
    pub standardise: bool,
}

impl Default for LinearProbeSettings {
    fn default() -> Self {
        // METHOD: raw embeddings, since standardising lowered the scores of both losses where it was measured (methods §5).
        Self {
            learning_rates: vec![0.1],
            momentum: 0.9,
            epochs: 100,
            batch_size: 64,
            milestones: vec![60, 75, 90],
            decay: 0.2,
            standardise: false,
        }
    }
}

/// A fitted probe.
pub struct LinearProbe {
    layer: Linear,
    mean: Tensor,
    deviation: Tensor,
}

impl LinearProbe {
    /// Fits `embeddings [n,E]`, `targets [n]` (CPU) at one learning rate.
    ///
    /// # Errors
    /// No embeddings, or a loss that is not finite.
    pub fn fit(
        embeddings: &Tensor,
        targets: &Tensor,
        classes: usize,
        settings: &LinearProbeSettings,
        learning_rate: f64,
        seed: u64,
    ) -> Result<Self> {
        let (count, width) = embeddings.size2()?;
        ensure!(count > 0, "linear probe: no training embeddings");
        let embeddings = embeddings.to_kind(Kind::Float);
        let (mean, deviation) = if settings.standardise {
            (embeddings.mean_dim(0, true, None::<Kind>), embeddings.std_dim(0, false, true) + 1e-6)
        } else {
            (Tensor::zeros([1, width], (Kind::Float, Device::Cpu)), Tensor::ones([1, width], (Kind::Float, Device::Cpu)))
        };
        let inputs = (embeddings - &mean) / &deviation;
        seed::seed_torch(seed, "probe/initial-weights");
        let store = VarStore::new(Device::Cpu);
        let layer = Linear::new(&store.root(), width, classes as i64, true);
        let parameters: BTreeMap<String, Tensor> = store.variables().into_iter().collect();
        let sgd = SgdSettings { learning_rate, momentum: settings.momentum, weight_decay: 0.0 };
        let mut sgd = OptimizerSettings::Sgd(sgd).build(parameters);
        let mut order: Vec<i64> = (0..count).collect();
        let mut random = seed::stream(seed, "probe/order");
        for epoch in 1..=settings.epochs {
            let passed = settings.milestones.iter().filter(|&&milestone| epoch > milestone).count();
            let rate = learning_rate * settings.decay.powi(passed as i32);
            order.shuffle(&mut random);
            for rows in order.chunks(settings.batch_size.max(1)) {
                let rows = Tensor::from_slice(rows);
                let loss = layer.forward(&inputs.index_select(0, &rows)).cross_entropy_for_logits(&targets.index_select(0, &rows));
                sgd.zero_gradients();
                loss.backward();
                sgd.step(rate);
            }
        }
        ensure!(
            layer.weight.isfinite().all().int64_value(&[]) == 1,
            "linear probe: the weights are not finite at learning rate {learning_rate}; lower probe.linear.learning-rates"
        );
        Ok(Self { layer, mean, deviation })
    }

    /// `[n,E]` → `[n,C]`
    pub fn probabilities(&self, embeddings: &Tensor) -> Tensor {
        no_grad(|| self.layer.forward(&((embeddings.to_kind(Kind::Float) - &self.mean) / &self.deviation)).softmax(-1, None::<Kind>))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separable_data_are_separated_within_fifty_epochs() {
        let inputs = Tensor::from_slice(&[0.0f32, 1.0, 1.0, 0.0]).view([2, 2]).repeat([50, 1]);
        let targets = Tensor::from_slice(&[0i64, 1]).repeat([50]);
        let settings = LinearProbeSettings { epochs: 50, ..Default::default() };
        let probe = LinearProbe::fit(&inputs, &targets, 2, &settings, 0.1, 0).unwrap();
        let decided = probe.probabilities(&inputs).argmax(-1, false);
        assert_eq!(decided.eq_tensor(&targets).all().int64_value(&[]), 1);
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
