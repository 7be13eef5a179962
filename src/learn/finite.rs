//! Refusals before a weight is changed: labels that are no class, inputs, embeddings and losses that are not finite.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use tch::{Kind, Tensor};

use crate::datasets::Dataset;
use crate::ground::batch::{Batch, Output};
use crate::losses::Terms;
use crate::torch::fused;

/// Every row's label is one of the classes, and there are at least two.
///
/// # Errors
/// Names the loss, the sample and its label.
pub fn check_labels(loss: &str, dataset: &dyn Dataset, rows: &[usize]) -> Result<()> {
    let classes = dataset.classes().len();
    ensure!(classes >= 2, "loss '{loss}' needs at least 2 classes, the labels have {classes}");
    for &row in rows {
        let label = dataset.targets()[row];
        ensure!(
            (0..classes as i64).contains(&label),
            "loss '{loss}': sample '{}' has the label {label}, which is none of the classes 0 to {}; correct the table of labels",
            dataset.ids()[row],
            classes - 1
        );
    }
    Ok(())
}

/// Inputs, embeddings and the head's outputs of a batch are finite.
///
/// # Errors
/// Names the first sample that is not, and its value.
pub fn check_output(dataset: &dyn Dataset, batch: &Batch, output: &Output) -> Result<()> {
    if sum(batch, output).double_value(&[]).is_finite() { Ok(()) } else { blame(dataset, batch, output) }
}

/// A number that is finite if inputs, embeddings and the head's outputs are. It costs one pass without temporary copies. In f32, since a sum
/// in f16 overflows soon.
fn sum(batch: &Batch, output: &Output) -> Tensor {
    let sums: Vec<Tensor> = parts(batch, output).iter().map(|(_, tensor, _)| tensor.detach().sum(Kind::Float)).collect();
    Tensor::stack(&sums, 0).sum(None::<Kind>)
}

/// Looks at every sample; also finite values can have a sum that overflows.
fn blame(dataset: &dyn Dataset, batch: &Batch, output: &Output) -> Result<()> {
    for (name, tensor, remedy) in parts(batch, output) {
        if let Some((place, value)) = first_not_finite(tensor) {
            bail!("{name} of sample '{}' holds {value}; {remedy}", dataset.ids()[batch.rows[place]]);
        }
    }
    Ok(())
}

/// What tells whether a forward pass was sound, left on the device: looking at it waits for all that the device has been given, so that the
/// backward pass is given to it before.
pub struct Traces(Tensor);

impl Traces {
    /// Of a forward pass.
    pub fn of(batch: &Batch, output: &Output, terms: &Terms) -> Self {
        Self(Tensor::stack(&[terms.total.detach().to_kind(Kind::Double), sum(batch, output).to_kind(Kind::Double)], 0))
    }

    /// The loss of the step, of finite inputs and outputs, is finite; returns it.
    ///
    /// # Errors
    /// Names the loss, and the sample or the terms that are not finite.
    pub fn check(&self, loss: &str, dataset: &dyn Dataset, batch: &Batch, output: &Output, terms: &Terms) -> Result<f64> {
        let [total, sum] = <[f64; 2]>::try_from(Vec::<f64>::try_from(&self.0)?).expect("two numbers");
        if !sum.is_finite() {
            blame(dataset, batch, output).map_err(|error| error.context(format!("loss '{loss}' is {total}")))?;
        }
        if !total.is_finite() {
            let parts: Vec<String> = terms.parts.iter().map(|(name, part)| format!("{name} {}", part.double_value(&[]))).collect();
            let parts = if parts.is_empty() { "it has no terms".to_owned() } else { format!("its terms are: {}", parts.join(", ")) };
            let samples: Vec<&str> = batch.rows.iter().map(|&row| dataset.ids()[row].as_str()).collect();
            bail!(
                "loss '{loss}' is {total}, of finite inputs and embeddings; {parts}; samples: {}; lower the learning rate",
                samples.join(", ")
            );
        }
        Ok(total)
    }
}

/// The gradients of a finite loss are finite.
///
/// # Errors
/// Names the loss and the first parameter whose gradient is not.
pub fn check_gradients(loss: &str, parameters: &BTreeMap<String, Tensor>) -> Result<()> {
    let gradients: Vec<_> =
        parameters.iter().map(|(name, parameter)| (name, parameter.grad())).filter(|(_, gradient)| gradient.defined()).collect();
    let tensors: Vec<&Tensor> = gradients.iter().map(|(_, gradient)| gradient).collect();
    if tensors.is_empty() || fused::norms(&tensors)?.sum(Kind::Double).double_value(&[]).is_finite() {
        return Ok(());
    }
    match first_bad(gradients.into_iter()) {
        None => Ok(()),
        Some(name) => bail!("loss '{loss}' is finite, but its gradient for '{name}' is not; lower the learning rate"),
    }
}

/// All named tensors are finite.
///
/// # Errors
/// Names the first that is not.
pub fn check_weights(tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    match first_bad(tensors.iter().map(|(name, tensor)| (name, tensor.detach()))) {
        None => Ok(()),
        Some(name) => bail!("'{name}' is not finite, so nothing is saved: training diverged; lower the learning rate"),
    }
}

fn first_bad<'a>(tensors: impl Iterator<Item = (&'a String, Tensor)>) -> Option<&'a String> {
    let tensors: Vec<_> = tensors.collect();
    let sums: Vec<Tensor> = tensors.iter().map(|(_, tensor)| tensor.sum(Kind::Float)).collect();
    if sums.is_empty() || Tensor::stack(&sums, 0).sum(Kind::Double).double_value(&[]).is_finite() {
        return None;
    }
    tensors.into_iter().find(|(_, tensor)| tensor.isfinite().all().int64_value(&[]) == 0).map(|(name, _)| name)
}

/// What of a batch is looked at, and what to do about it.
fn parts<'a>(batch: &'a Batch, output: &'a Output) -> Vec<(&'static str, &'a Tensor, &'static str)> {
    const DIVERGED: &str = "training diverged: lower the learning rate";
    let mut parts = vec![
        ("the input", &batch.inputs, "look at its features or pixels, and make them again"),
        ("the embedding", &output.embedding, DIVERGED),
    ];
    parts.extend(output.head.as_ref().map(|head| ("the head's output", head, DIVERGED)));
    parts
}

/// The first row of `[B,…]` with a value that is not finite, and the first such value in it.
fn first_not_finite(tensor: &Tensor) -> Option<(usize, f64)> {
    let rows = tensor.detach().reshape([tensor.size()[0], -1]);
    let bad = rows.isfinite().logical_not();
    let row = (0..rows.size()[0]).find(|&row| bad.get(row).any().int64_value(&[]) == 1)?;
    let place = bad.get(row).to_kind(Kind::Int64).argmax(0, false).int64_value(&[]);
    Some((row as usize, rows.double_value(&[row, place])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bad_value_is_found_in_its_row() {
        let of = |values: [f64; 4]| first_not_finite(&Tensor::from_slice(&values).view([2, 1, 2]));
        assert_eq!(of([1.0, -2.0, 3.0, 1e300]), None);
        assert_eq!(of([1.0, -2.0, 3.0, f64::NEG_INFINITY]), Some((1, f64::NEG_INFINITY)));
        assert!(of([1.0, f64::NAN, f64::INFINITY, 0.0]).is_some_and(|(row, value)| row == 0 && value.is_nan()));
    }

    #[test]
    fn a_gradient_that_is_not_finite_is_named_though_the_loss_is() {
        let parameter = |value: f64| Tensor::from_slice(&[value]).set_requires_grad(true);
        let parameters = BTreeMap::from([("at 1".to_owned(), parameter(1.0)), ("still".to_owned(), parameter(0.0))]);
        parameters["at 1"].sqrt().sum(None::<Kind>).backward();
        assert!(check_gradients("cross-entropy", &parameters).is_ok());
        let parameters = BTreeMap::from([("at 0".to_owned(), parameter(0.0)), ("at 1".to_owned(), parameter(1.0))]);
        // The slope of a square root at 0 is infinite.
        (parameters["at 0"].sqrt() + parameters["at 1"].sqrt()).sum(None::<Kind>).backward();
        let error = check_gradients("cross-entropy", &parameters).unwrap_err().to_string();
        assert!(error.contains("'cross-entropy'") && error.contains("'at 0'"), "{error}");
        // A sum beyond f32 of finite values is no reason to refuse.
        assert!(check_weights(&BTreeMap::from([("large".to_owned(), Tensor::from_slice(&[3e38f32, 3e38]))])).is_ok());
    }
}
