//! Mixed precision: the model's forward pass in f16 or bf16 where libtorch deems it safe, everything else in f32.
//!
//! bf16 has the range of f32 and needs no more. Small gradients vanish in f16, so there the loss is scaled up before backward and gradients down after it. The scale is halved
//! and the step left out when a gradient overflows, doubled after many that did not. Source: Micikevicius et al. 2018, §3.2.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

use super::optimizers::Optimizer;

/// Precision of the model's forward and backward pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// f32 throughout.
    #[default]
    F32,
    /// f16 where it is safe; on a GPU only.
    Mixed,
    /// bf16 where it is safe.
    Bf16,
}

impl Precision {
    /// Whether a model can be trained so on this device.
    ///
    /// # Errors
    /// Mixed precision without a GPU.
    pub fn check(self, device: Device) -> Result<()> {
        ensure!(
            self != Self::Mixed || device.is_cuda(),
            "train.precision = \"mixed\" needs a GPU (--device cuda:0); on a CPU train in f32 or bf16"
        );
        Ok(())
    }

    /// What layers that bear it compute in.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::Mixed => Kind::Half,
            Self::Bf16 => Kind::BFloat16,
        }
    }
}

const FIRST_SCALE: f64 = 65536.0;
const LARGEST_SCALE: f64 = 16_777_216.0;
const STEPS_TO_DOUBLE: u64 = 2000;

/// The running scale of the loss; part of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    /// What the loss is multiplied by.
    pub factor: f64,
    /// Steps since it last changed.
    pub steady: u64,
}

impl LossScale {
    /// The scale at the start: 1 for ever without f16.
    pub fn new(precision: Precision) -> Self {
        Self { factor: if precision == Precision::Mixed { FIRST_SCALE } else { 1.0 }, steady: 0 }
    }

    /// Scales the gradients back. `false` if one of them overflowed: then the step must be left out.
    pub fn unscale(&mut self, precision: Precision, optimizer: &dyn Optimizer) -> bool {
        if precision != Precision::Mixed {
            return true;
        }
        let finite = no_grad(|| {
            let gradients: Vec<Tensor> = optimizer.parameters().values().map(Tensor::grad).filter(Tensor::defined).collect();
            let whole: Vec<Tensor> = gradients
                .into_iter()
                .map(|mut gradient| gradient.g_mul_scalar_(1.0 / self.factor).isfinite().all().to_kind(Kind::Int64))
                .collect();
            whole.is_empty() || Tensor::stack(&whole, 0).min().int64_value(&[]) == 1
        });
        if finite {
            self.steady += 1;
            if self.steady >= STEPS_TO_DOUBLE {
                *self = Self { factor: (self.factor * 2.0).min(LARGEST_SCALE), steady: 0 };
            }
        } else {
            *self = Self { factor: (self.factor / 2.0).max(1.0), steady: 0 };
        }
        finite
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::optimizers::{OptimizerSettings, SgdSettings};
    use super::*;

    fn with_gradient(slope: f64) -> (Tensor, Box<dyn Optimizer>) {
        let weight = Tensor::zeros([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let sgd = OptimizerSettings::Sgd(SgdSettings::default()).build(BTreeMap::from([("w".to_owned(), weight.shallow_clone())]));
        (&weight * slope).sum(None::<Kind>).backward();
        (weight, sgd)
    }

    #[test]
    fn gradients_come_back_to_their_size_and_steady_steps_double_the_scale() {
        let mut scale = LossScale { factor: 8.0, steady: STEPS_TO_DOUBLE - 1 };
        let (weight, sgd) = with_gradient(8.0 * 3.0);
        assert!(scale.unscale(Precision::Mixed, sgd.as_ref()));
        assert_eq!(weight.grad().double_value(&[0]), 3.0);
        assert_eq!(scale, LossScale { factor: 16.0, steady: 0 });
    }

    #[test]
    fn an_overflow_halves_the_scale_and_leaves_the_step_out() {
        let mut scale = LossScale::new(Precision::Mixed);
        let (_, sgd) = with_gradient(f64::INFINITY);
        assert!(!scale.unscale(Precision::Mixed, sgd.as_ref()));
        assert_eq!(scale.factor, FIRST_SCALE / 2.0);
    }

    #[test]
    fn f32_is_left_alone_and_mixed_needs_a_gpu() {
        let mut scale = LossScale::new(Precision::F32);
        let (weight, sgd) = with_gradient(5.0);
        assert!(scale.unscale(Precision::F32, sgd.as_ref()));
        assert_eq!((weight.grad().double_value(&[0]), scale.factor), (5.0, 1.0));
        assert!(Precision::Mixed.check(Device::Cpu).unwrap_err().to_string().contains("GPU"));
    }
}
