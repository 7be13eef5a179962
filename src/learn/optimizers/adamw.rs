//! AdamW: Adam with weight decay applied to the weights, not to the gradient. Source: Loshchilov and Hutter 2019, algorithm 2.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{Tensor, no_grad};

use super::{Optimizer, like};
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
    steps: i64,
    first: BTreeMap<String, Tensor>,
    second: BTreeMap<String, Tensor>,
}

impl AdamW {
    pub(super) fn new(settings: AdamWSettings, parameters: BTreeMap<String, Tensor>) -> Self {
        let zeros = || parameters.iter().map(|(name, p)| (name.clone(), p.zeros_like().detach())).collect();
        Self { settings, steps: 0, first: zeros(), second: zeros(), parameters }
    }
}

impl Optimizer for AdamW {
    fn parameters(&self) -> &BTreeMap<String, Tensor> {
        &self.parameters
    }

    fn step(&mut self, learning_rate: f64) {
        let AdamWSettings { beta1, beta2, epsilon, weight_decay, .. } = self.settings;
        self.steps += 1;
        let used: Vec<&String> = self.parameters.iter().filter(|(_, parameter)| parameter.grad().defined()).map(|(name, _)| name).collect();
        let Some(one) = used.first().map(|name| &self.parameters[*name]) else { return };
        let step = Tensor::from(self.steps as f32).to_device(one.device());
        let numbers = fused::Adam { betas: [beta1, beta2], decay: weight_decay, epsilon };
        no_grad(|| {
            fused::adamw(&of(&used, &self.parameters), &of(&used, &self.first), &of(&used, &self.second), &step, learning_rate, numbers)
        })
        .expect("moments like each parameter");
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        let named = |kind: &'static str, tensors: &BTreeMap<String, Tensor>| {
            tensors.iter().map(move |(name, t)| (format!("{kind}.{name}"), t.shallow_clone())).collect::<Vec<_>>()
        };
        let steps = ("steps".to_owned(), Tensor::from_slice(&[self.steps]));
        named("first", &self.first).into_iter().chain(named("second", &self.second)).chain([steps]).collect()
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) {
        self.first = like(&self.parameters, state, "first.");
        self.second = like(&self.parameters, state, "second.");
        self.steps = state.get("steps").map_or(0, |steps| steps.int64_value(&[0]));
    }
}

fn of<'a>(names: &[&String], tensors: &'a BTreeMap<String, Tensor>) -> Vec<&'a Tensor> {
    names.iter().map(|name| &tensors[*name]).collect()
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
