//! Optimisers whose state is part of the checkpoint. (tch's own cannot save theirs, and exact resume needs it.)

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use tch::{Tensor, no_grad};

use crate::torch::fused;

mod adamw;
mod sgd;

pub use sgd::SgdSettings;

crate::registry! {
    /// Optimisers, by the `name` in `[train.optimizer]`.
    pub enum OptimizerSettings {
        "adamw" => AdamW(adamw::AdamWSettings),
        "sgd" => Sgd(sgd::SgdSettings),
    } default "adamw"
}

impl OptimizerSettings {
    /// Builds the chosen optimiser for the named parameters.
    pub fn build(&self, parameters: BTreeMap<String, Tensor>) -> Box<dyn Optimizer> {
        match self {
            Self::AdamW(settings) => Box::new(adamw::AdamW::new(settings.clone(), parameters)),
            Self::Sgd(settings) => Box::new(sgd::Sgd::new(settings.clone(), parameters)),
        }
    }

    /// The initial learning rate.
    pub fn learning_rate(&self) -> f64 {
        match self {
            Self::AdamW(settings) => settings.learning_rate,
            Self::Sgd(settings) => settings.learning_rate,
        }
    }
}

/// Moves parameters along their gradients.
pub trait Optimizer: Send {
    /// The parameters by name, in the order in which they are updated.
    fn parameters(&self) -> &BTreeMap<String, Tensor>;

    /// One update at the given learning rate; parameters without a gradient stay.
    fn step(&mut self, learning_rate: f64);

    /// Everything needed to continue exactly, by name.
    fn state(&self) -> BTreeMap<String, Tensor>;

    /// Takes back what `state` gave.
    ///
    /// # Errors
    /// Names what is missing or of another size.
    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()>;

    /// Forgets the gradients.
    fn zero_gradients(&self) {
        fused::forget_gradients(self.parameters().values()).expect("parameters can be without a gradient");
    }

    /// Scales all gradients so that their common L2 norm is at most `limit`.
    fn clip_gradients(&self, limit: f64) {
        let gradients: Vec<Tensor> = self.parameters().values().map(Tensor::grad).filter(Tensor::defined).collect();
        if gradients.is_empty() {
            return;
        }
        no_grad(|| {
            let norms = fused::norms(&gradients.iter().collect::<Vec<_>>()).expect("gradients of one kind and device");
            let scale = (limit / (norms.norm() + 1e-6)).clamp_max(1.0);
            for mut gradient in gradients {
                let _ = gradient.g_mul_(&scale);
            }
        });
    }
}

/// Copies what `state` has for a parameter into the optimiser's own tensor.
fn take(state: &BTreeMap<String, Tensor>, prefix: &str, name: &str, own: &Tensor) -> Result<()> {
    let saved = state.get(&format!("{prefix}{name}")).with_context(|| format!("the optimiser's state lacks '{prefix}{name}'"))?;
    ensure!(saved.size() == own.size(), "the optimiser's '{prefix}{name}' is of {:?} numbers instead of {:?}", saved.size(), own.size());
    no_grad(|| own.shallow_clone().copy_(saved));
    Ok(())
}
