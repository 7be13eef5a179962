//! SGD with momentum, as PyTorch defines it: v ← m·v + (g + λw), w ← w − η·v; the first v is the gradient itself.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::{Tensor, no_grad};

use super::{Optimizer, take};
use crate::torch::fused;

/// Settings of SGD.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SgdSettings {
    /// η
    pub learning_rate: f64,
    /// m
    pub momentum: f64,
    /// λ, added to the gradient.
    pub weight_decay: f64,
}

impl Default for SgdSettings {
    fn default() -> Self {
        Self { learning_rate: 0.1, momentum: 0.9, weight_decay: 5e-4 }
    }
}

pub(super) struct Sgd {
    settings: SgdSettings,
    parameters: BTreeMap<String, Tensor>,
    velocity: BTreeMap<String, Tensor>,
}

impl Sgd {
    pub(super) fn new(settings: SgdSettings, parameters: BTreeMap<String, Tensor>) -> Self {
        Self { settings, parameters, velocity: BTreeMap::new() }
    }
}

impl Optimizer for Sgd {
    fn parameters(&self) -> &BTreeMap<String, Tensor> {
        &self.parameters
    }

    fn step(&mut self, learning_rate: f64) {
        let used: Vec<(&String, &Tensor)> = self.parameters.iter().filter(|(_, parameter)| parameter.grad().defined()).collect();
        for (name, parameter) in &used {
            // From zeros the first velocity is the gradient itself.
            self.velocity.entry((*name).clone()).or_insert_with(|| parameter.detach().zeros_like());
        }
        let velocities: Vec<&Tensor> = used.iter().map(|(name, _)| &self.velocity[*name]).collect();
        let parameters: Vec<&Tensor> = used.iter().map(|(_, parameter)| *parameter).collect();
        let SgdSettings { momentum, weight_decay, .. } = self.settings;
        no_grad(|| fused::sgd(&parameters, &velocities, learning_rate, momentum, weight_decay)).expect("a velocity like each parameter");
    }

    fn state(&self) -> BTreeMap<String, Tensor> {
        self.velocity.iter().map(|(name, tensor)| (format!("velocity.{name}"), tensor.shallow_clone())).collect()
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.velocity.clear();
        for (name, parameter) in self.parameters.iter().filter(|(name, _)| state.contains_key(&format!("velocity.{name}"))) {
            let velocity = parameter.detach().zeros_like();
            take(state, "velocity.", name, &velocity)?;
            self.velocity.insert(name.clone(), velocity);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn momentum_follows_the_golden_steps() {
        let weight = Tensor::zeros([1], (tch::Kind::Double, tch::Device::Cpu)).set_requires_grad(true);
        let settings = SgdSettings { learning_rate: 1.0, momentum: 0.9, weight_decay: 0.0 };
        let mut sgd = Sgd::new(settings, BTreeMap::from([("w".to_owned(), weight.shallow_clone())]));
        for (gradient, expected) in [(1.0, -1.0), (0.5, -2.4)] {
            sgd.zero_gradients();
            (&weight * gradient).sum(None::<tch::Kind>).backward();
            sgd.step(1.0);
            assert!((weight.double_value(&[0]) - expected).abs() < 1e-12);
        }
        assert!((sgd.state()["velocity.w"].double_value(&[0]) - 1.4).abs() < 1e-12);
    }
}
