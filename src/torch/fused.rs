//! Optimiser steps over all parameters in one call, and what else is asked of many tensors at once.

use tch::{TchError, Tensor};
use torch_sys::C_tensor;

use super::{Fault, check, new_tensor};

type Tensors = *const *const C_tensor;

unsafe extern "C" {
    fn wsi_fused_sgd(parameters: Tensors, velocities: Tensors, count: i64, rate: f64, momentum: f64, decay: f64) -> Fault;
    fn wsi_fused_adamw(
        parameters: Tensors,
        first: Tensors,
        second: Tensors,
        steps: Tensors,
        count: i64,
        rate: f64,
        beta1: f64,
        beta2: f64,
        decay: f64,
        epsilon: f64,
    ) -> Fault;
    fn wsi_norms(tensors: Tensors, count: i64, norms: *mut *mut C_tensor) -> Fault;
    fn wsi_forget_gradients(tensors: Tensors, count: i64) -> Fault;
}

/// v ← m·v + (g + λw), w ← w − η·v for each parameter w with its gradient g and its velocity v.
///
/// # Errors
/// Tensors of different number, shape or kind, or a parameter without a gradient.
pub fn sgd(parameters: &[&Tensor], velocities: &[&Tensor], rate: f64, momentum: f64, decay: f64) -> Result<(), TchError> {
    same(parameters, velocities)?;
    let count = parameters.len() as i64;
    // SAFETY: both arrays hold `count` pointers to living tensors.
    check(unsafe { wsi_fused_sgd(pointers(parameters).as_ptr(), pointers(velocities).as_ptr(), count, rate, momentum, decay) })
}

/// Numbers of AdamW beside its rate.
#[derive(Debug, Clone, Copy)]
pub struct Adam {
    /// β₁, β₂
    pub betas: [f64; 2],
    /// λ
    pub decay: f64,
    /// Added to the denominator.
    pub epsilon: f64,
}

/// A step of AdamW of parameters with a gradient, their moments and the numbers of steps that each has done (f32, on the parameters'
/// device), which grow by one.
///
/// # Errors
/// Tensors of different number, shape or kind, or a parameter without a gradient.
pub fn adamw(
    parameters: &[&Tensor],
    first: &[&Tensor],
    second: &[&Tensor],
    steps: &[&Tensor],
    rate: f64,
    numbers: Adam,
) -> Result<(), TchError> {
    same(parameters, first)?;
    same(parameters, second)?;
    let Adam { betas: [beta1, beta2], decay, epsilon } = numbers;
    if steps.len() != parameters.len() {
        return Err(unlike());
    }
    let [p, m, v, n] = [parameters, first, second, steps].map(pointers);
    let count = p.len() as i64;
    // SAFETY: the four arrays hold `count` pointers to living tensors each.
    check(unsafe { wsi_fused_adamw(p.as_ptr(), m.as_ptr(), v.as_ptr(), n.as_ptr(), count, rate, beta1, beta2, decay, epsilon) })
}

/// L2 norms of the tensors, `[n]`; there must be one at least.
///
/// # Errors
/// libtorch's, for tensors of several kinds or devices.
pub fn norms(tensors: &[&Tensor]) -> Result<Tensor, TchError> {
    // SAFETY: the array holds as many pointers to living tensors as it says.
    new_tensor(|norms| unsafe { wsi_norms(pointers(tensors).as_ptr(), tensors.len() as i64, norms) })
}

/// Leaves the tensors without a gradient: the next backward pass makes new ones instead of adding to zeros.
///
/// # Errors
/// None that is known.
pub fn forget_gradients<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> Result<(), TchError> {
    let all: Vec<&Tensor> = tensors.collect();
    // SAFETY: the array holds as many pointers to living tensors as it says, and nobody computes with their gradients meanwhile.
    check(unsafe { wsi_forget_gradients(pointers(&all).as_ptr(), all.len() as i64) })
}

fn pointers(tensors: &[&Tensor]) -> Vec<*const C_tensor> {
    tensors.iter().map(|tensor| tensor.as_ptr()).collect()
}

/// The kernels read so many numbers of each list as the first has.
fn same(one: &[&Tensor], other: &[&Tensor]) -> Result<(), TchError> {
    let fits = one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.size() == b.size() && a.kind() == b.kind());
    let whole = one.iter().all(|tensor| tensor.grad().defined());
    if fits && whole { Ok(()) } else { Err(unlike()) }
}

fn unlike() -> TchError {
    TchError::Shape("parameters, gradients and states of an optimiser differ".to_owned())
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn norms_are_each_tensors_own_and_gradients_can_be_forgotten() {
        let (a, b) = (Tensor::from_slice(&[3f32, 4.0]).set_requires_grad(true), Tensor::from_slice(&[2f32]));
        assert_eq!(Vec::<f32>::try_from(norms(&[&a, &b]).unwrap().detach()).unwrap(), [5.0, 2.0]);
        a.sum(Kind::Float).backward();
        assert!(a.grad().defined());
        forget_gradients([&a].into_iter()).unwrap();
        assert!(!a.grad().defined());
    }

    #[test]
    fn states_that_do_not_fit_are_refused() {
        let weight = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let velocity = Tensor::zeros([2], (Kind::Float, Device::Cpu));
        assert!(sgd(&[&weight], &[&velocity], 0.1, 0.9, 0.0).is_err(), "there is no gradient");
        weight.sum(Kind::Float).backward();
        assert!(sgd(&[&weight], &[&velocity], 0.1, 0.9, 0.0).is_ok());
        assert!(sgd(&[&weight], &[&Tensor::zeros([3], (Kind::Float, Device::Cpu))], 0.1, 0.9, 0.0).is_err());
        assert!(sgd(&[&weight], &[], 0.1, 0.9, 0.0).is_err());
    }
}
