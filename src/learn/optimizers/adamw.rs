//! AdamW: Adam with weight decay applied to the weights, not to the gradient. Source: Loshchilov and Hutter 2019, algorithm 2.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{Tensor, no_grad};

use super::Optimizer;

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
        let unbias1 = 1.0 - beta1.powi(self.steps as i32);
        let unbias2 = 1.0 - beta2.powi(self.steps as i32);
        no_grad(|| {
            for (name, parameter) in &self.parameters {
                let gradient = parameter.grad();
                let (Some(first), Some(second)) = (self.first.get_mut(name), self.second.get_mut(name)) else { continue };
                if !gradient.defined() {
                    continue;
                }
                let mut weight = parameter.shallow_clone();
                let _ = weight.g_mul_scalar_(1.0 - learning_rate * weight_decay);
                let _ = first.g_mul_scalar_(beta1).g_add_(&(&gradient * (1.0 - beta1)));
                let _ = second.g_mul_scalar_(beta2).addcmul_(&(&gradient * (1.0 - beta2)), &gradient);
                let denominator = (&*second / unbias2).sqrt() + epsilon;
                let _ = weight.g_sub_(&(&*first / denominator * (learning_rate / unbias1)));
            }
        });
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        let named = |kind: &'static str, tensors: &BTreeMap<String, Tensor>| {
            tensors.iter().map(move |(name, t)| (format!("{kind}.{name}"), t.shallow_clone())).collect::<Vec<_>>()
        };
        let steps = ("steps".to_owned(), Tensor::from_slice(&[self.steps]));
        named("first", &self.first).into_iter().chain(named("second", &self.second)).chain([steps]).collect()
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) {
        let named = |kind: &str| state.iter().filter_map(|(n, t)| Some((n.strip_prefix(kind)?.to_owned(), t.copy()))).collect();
        self.first = named("first.");
        self.second = named("second.");
        self.steps = state.get("steps").map_or(0, |steps| steps.int64_value(&[0]));
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
