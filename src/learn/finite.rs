//! Refusals before a weight is changed: labels that are no class, and what was not finite when a loss is not.

use anyhow::{Error, Result, anyhow, ensure};
use tch::{Kind, Tensor};

use crate::datasets::Dataset;
use crate::ground::batch::{Batch, Output};
use crate::losses::Terms;

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
            "loss '{loss}': sample '{}' has the label {label}, which is none of the classes 0 to {}",
            dataset.ids()[row],
            classes - 1
        );
    }
    Ok(())
}

/// What was not finite in a step whose loss is not: a sample's input, its embedding, or a term of the loss.
pub fn diagnose(loss: &str, dataset: &dyn Dataset, batch: &Batch, output: &Output, terms: &Terms) -> Error {
    let total = terms.total.double_value(&[]);
    let sample = |place: usize| dataset.ids()[batch.rows[place]].clone();
    let cause = if let Some(place) = first_not_finite(&batch.inputs) {
        format!("the input of sample '{}' holds a value that is not finite; look at its features or pixels", sample(place))
    } else if let Some(place) = first_not_finite(&output.embedding) {
        format!("the embedding of sample '{}' is not finite: training diverged; lower the learning rate", sample(place))
    } else if let Some(place) = output.head.as_ref().and_then(first_not_finite) {
        format!("the head's output for sample '{}' is not finite: training diverged; lower the learning rate", sample(place))
    } else {
        let parts: Vec<String> = terms.parts.iter().map(|(name, part)| format!("{name} {}", part.double_value(&[]))).collect();
        format!(
            "model and inputs are finite; its terms: {}; lower the learning rate",
            if parts.is_empty() { "none".into() } else { parts.join(", ") }
        )
    };
    anyhow!("loss '{loss}' is {total}: {cause}")
}

/// The first row of `[B,…]` with a value that is not finite.
fn first_not_finite(tensor: &Tensor) -> Option<usize> {
    let rows = tensor.size()[0];
    let whole = tensor.detach().reshape([rows, -1]).isfinite().all_dim(1, false).to_kind(Kind::Int64);
    (0..rows).find(|&row| whole.int64_value(&[row]) == 0).map(|row| row as usize)
}
