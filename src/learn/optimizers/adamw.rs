//! AdamW: Adam with weight decay applied to the weights, not to the gradient. Source: Loshchilov and Hutter 2019, algorithm 2.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

use super::{Optimizer, take};
use crate::torch::fused;

/// Settings of AdamW.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AdamWSettings {
    /// η
    pub learning_rate: f64,
    /// β₁
    pub beta1: f64,
    /// β₂
    pub beta2: f64,
    /// Added to the denominator.
    pub epsilon: f64,
    /// λ: w ← w·(1 − ηλ) before each step.
    pub weight_decay: f64,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self { learning_rate: 5e-4, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 1e-5 }
    }
}

pub(super) struct AdamW {
    settings: AdamWSettings,
    parameters: BTreeMap<String, Tensor>,
    /// Of each parameter, f32: one that got its first gradient late is corrected as one that has just begun.
    steps: BTreeMap<String, Tensor>,
    first: BTreeMap<String, Tensor>,
    second: BTreeMap<String, Tensor>,
}

impl AdamW {
    pub(super) fn new(settings: AdamWSettings, parameters: BTreeMap<String, Tensor>) -> Self {
        let zeros = || parameters.iter().map(|(name, p)| (name.clone(), p.detach().zeros_like())).collect();
        let steps = parameters.iter().map(|(name, p)| (name.clone(), Tensor::zeros([], (Kind::Float, p.device())))).collect();
        Self { settings, steps, first: zeros(), second: zeros(), parameters }
    }
}

impl Optimizer for AdamW {
    fn parameters(&self) -> &BTreeMap<String, Tensor> {
        &self.parameters
    }

    fn step(&mut self, learning_rate: f64) {
        let AdamWSettings { beta1, beta2, epsilon, weight_decay, .. } = self.settings;
        let used: Vec<&String> = self.parameters.iter().filter(|(_, parameter)| parameter.grad().defined()).map(|(name, _)| name).collect();
        let [parameters, first, second, steps] = [&self.parameters, &self.first, &self.second, &self.steps]
            .map(|tensors| used.iter().map(|name| &tensors[*name]).collect::<Vec<_>>());
        let numbers = fused::Adam { betas: [beta1, beta2], decay: weight_decay, epsilon };
        no_grad(|| fused::adamw(&parameters, &first, &second, &steps, learning_rate, numbers)).expect("moments like each parameter");
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        let named = |kind: &'static str, tensors: &BTreeMap<String, Tensor>| {
            tensors.iter().map(move |(name, t)| (format!("{kind}.{name}"), t.shallow_clone())).collect::<Vec<_>>()
        };
        [named("first", &self.first), named("second", &self.second), named("steps", &self.steps)].into_iter().flatten().collect()
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        for (prefix, own) in [("first.", &self.first), ("second.", &self.second), ("steps.", &self.steps)] {
            for (name, tensor) in own {
                take(state, prefix, name, tensor)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two steps worked by hand from the definition, w = 1, gradients 2 and −1, η = 0.1, λ = 0.5.
    #[test]
    fn two_steps_follow_the_definition() {
        let weight = Tensor::ones([1], (tch::Kind::Double, tch::Device::Cpu)).set_requires_grad(true);
        let settings = AdamWSettings { learning_rate: 0.1, weight_decay: 0.5, ..Default::default() };
        let mut adamw = AdamW::new(settings, BTreeMap::from([("w".to_owned(), weight.shallow_clone())]));
        let mut expected = 1.0f64;
        let (mut m, mut v) = (0.0f64, 0.0f64);
        for (step, gradient) in [(1, 2.0f64), (2, -1.0)] {
            adamw.zero_gradients();
            (&weight * gradient).sum(None::<tch::Kind>).backward();
            adamw.step(0.1);
            m = 0.9 * m + 0.1 * gradient;
            v = 0.999 * v + 0.001 * gradient * gradient;
            expected *= 1.0 - 0.1 * 0.5;
            expected -= 0.1 * (m / (1.0 - 0.9f64.powi(step))) / ((v / (1.0 - 0.999f64.powi(step))).sqrt() + 1e-8);
            assert!((weight.double_value(&[0]) - expected).abs() < 1e-9);
        }
    }
}
